"""`python -m bench.workers`: CPU per request of a router with two workers, next to one with one.

Both routers are up, on the same cores, which they share with wrk and the backend; runs are interleaved. Workers share
nothing on the way of a request but their counts of requests in flight, so a request is to cost them the same.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from . import backend
from .accounting import cpu_of
from .errors import BenchError
from .load import run
from .processes import Cores, free_port
from .proxies import router
from .proxies.base import Place, Running
from .scenarios import SCENARIOS

WORKERS = (1, 2)
NAMES = ("small", "browser", "100k")


def cost(proxy: Running, name: str, seconds: int, cores: Cores) -> float:
    """Microseconds of the workers' CPU for a request. Raises BenchError when one failed."""
    before = cpu_of(proxy.data_plane()).total
    load = run(SCENARIOS[name], proxy.port, seconds, cores.load)
    if failed := sum(load.errors.values()):
        raise BenchError(f"{failed} requests failed")
    return (cpu_of(proxy.data_plane()).total - before) / load.requests * 1e6


def measured(proxies: list[Running], name: str, seconds: int, cores: Cores, turn: int) -> list[float]:
    """A round; who comes first changes from turn to turn."""
    order = proxies[:: (1, -1)[turn % 2]]
    costs = {proxy.port: cost(proxy, name, seconds, cores) for proxy in order}
    return [costs[proxy.port] for proxy in proxies]


def bench(directory: Path, stack: ExitStack, names: list[str], rounds: int, seconds: int) -> None:
    """Everything, with a row for each scenario."""
    machine = Cores.of_this_machine()
    every = machine.proxy | machine.load
    cores = Cores(every, every)
    sizes = [SCENARIOS[name].answer_bytes for name in NAMES]
    port = stack.enter_context(backend.running(directory, sizes, cores))
    proxies = []
    for workers in WORKERS:
        folder = directory / f"workers-{workers}"
        folder.mkdir()
        place = Place(folder, free_port(), port, cores)
        proxies.append(stack.enter_context(router.start(place, workers)))
    print(
        "| scenario | 1 worker, µs | range | 2 workers, µs | range | 2 to 1, medians | lowest | middle half of rounds |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for name in names:
        for proxy in proxies:
            cost(proxy, name, 1, cores)
        spent = [measured(proxies, name, seconds, cores, turn=number) for number in range(rounds)]
        one, two = zip(*spent, strict=True)
        figures = [f"{statistics.median(each):.1f} | {min(each):.1f}–{max(each):.1f}" for each in (one, two)]
        ratio = statistics.median(two) / statistics.median(one)
        rounds_apart = statistics.quantiles([b / a for a, b in spent], n=4)
        told = f"{rounds_apart[0]:.2f}–{rounds_apart[2]:.2f}"
        print(f"| {name} | {' | '.join(figures)} | {ratio:.3f} | {min(two) / min(one):.3f} | {told} |", flush=True)


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description="Two workers next to one.")
    parser.add_argument("--scenario", action="append", choices=NAMES, help="all without")
    parser.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="of a run (%(default)s)")
    given = parser.parse_args()
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-bench-")))
            bench(folder, stack, given.scenario or [*NAMES], given.rounds, given.seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
