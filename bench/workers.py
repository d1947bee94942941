"""`python -m bench.workers`: CPU per request of a router with two workers, next to one with one.

Workers share nothing on the way of a request but their counts of requests in flight, so a request is to cost them the
same. What two processes cost anybody here, for they take the caches and the core from each other, tells nginx, with one
worker and two. In each round all four are started anew, as one process is not like the other, and loaded by turns.

All workers share the proxy's core (`own`), as in every other bench, or all processes share all cores (`shared`): there
two workers run at the same time, beside wrk and the backend.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from . import backend
from .errors import BenchError
from .measure import cost
from .processes import Cores, free_port
from .proxies import nginx, router
from .proxies.base import Place, Running
from .scenarios import SCENARIOS
from .turns import by_turns

WORKERS = (1, 2)
PROXIES = {"router": router.start, "nginx": nginx.start_like_router}
EACH = [(kind, workers) for kind in PROXIES for workers in WORKERS]
NAMES = ("small", "browser", "100k")


def bench(directory: Path, names: list[str], rounds: int, turns: int, seconds: int, cores: Cores) -> None:
    """Everything, with two rows for each scenario."""
    print(
        "| scenario | proxy | 1 worker, µs | range | 2 workers, µs | range | 2 to 1: medians | least | turns | half |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    sizes = [SCENARIOS[name].answer_bytes for name in NAMES]
    with backend.running(directory, sizes, cores) as port:
        for name in names:

            def start(stack: ExitStack, each: tuple[str, int], name: str = name) -> Running:
                kind, workers = each
                place = Place(Path(tempfile.mkdtemp(dir=directory)), free_port(), port, cores)
                proxy = stack.enter_context(PROXIES[kind](place, workers))
                cost(proxy, SCENARIOS[name], 1, cores)  # warm up
                return proxy

            def turn(each: tuple[str, int], proxy: Running, name: str = name) -> float:
                return cost(proxy, SCENARIOS[name], seconds, cores)

            spent = by_turns(EACH, start, turn, rounds, turns)
            for kind in PROXIES:
                print(row(f"{name} | {kind}", *(spent[kind, workers] for workers in WORKERS)), flush=True)


def row(name: str, one: list[float], two: list[float]) -> str:
    """What came of a scenario."""
    figures = [f"{statistics.median(each):.1f} | {min(each):.1f}–{max(each):.1f}" for each in (one, two)]
    low, middle, high = statistics.quantiles([b / a for a, b in zip(one, two, strict=True)], n=4)
    ratio = statistics.median(two) / statistics.median(one)
    half = f"{middle:.3f} | {low:.2f}–{high:.2f}"
    return f"| {name} | {' | '.join(figures)} | {ratio:.3f} | {min(two) / min(one):.3f} | {half} |"


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description="Two workers next to one.")
    parser.add_argument("--scenario", action="append", choices=NAMES, help="all without")
    parser.add_argument("--cores", choices=("own", "shared"), default="own", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="of each router in a round (%(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="of a turn (%(default)s)")
    given = parser.parse_args()
    cores = Cores.of_this_machine()
    if given.cores == "shared":
        every = cores.proxy | cores.load
        cores = Cores(every, every)
    try:
        with tempfile.TemporaryDirectory(prefix="router-bench-") as folder:
            bench(Path(folder), given.scenario or [*NAMES], given.rounds, given.turns, given.seconds, cores)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
