"""`python -m bench`: what a request costs, in this router and in its peers, measured side by side.

All proxies are up the whole time and idle but one. Runs are short and interleaved (round, scenario, proxy),
so that whatever else happens on the machine hits all of them alike.
"""

import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from . import backend, load, machine, report
from .check import check
from .errors import BenchError, Missing
from .measure import WARM_UP_SECONDS, Run, measure
from .processes import Cores, free_port
from .proxies import PROXIES, Proxy
from .proxies.base import Place, Running
from .scenarios import SCENARIOS, Scenario

DEFAULT_SCENARIOS = [scenario.name for scenario in SCENARIOS.values() if scenario.default]
DEFAULT_PROXIES = list(PROXIES)


def known(table: dict[str, Scenario] | dict[str, Proxy], names: list[str]) -> list[str]:
    """The names, or an error that tells which there are."""
    for name in names:
        if name not in table:
            raise typer.BadParameter(f"no {name!r}; there are {', '.join(table)}")
    return names


def start_all(
    names: list[str], backend_port: int, directory: Path, cores: Cores, stack: ExitStack
) -> dict[str, Running]:
    """Start the proxies, leaving out with a word those that are not installed."""
    started: dict[str, Running] = {}
    for name in names:
        place = Place(directory / name, free_port(), backend_port, cores)
        place.directory.mkdir()
        try:
            started[name] = stack.enter_context(PROXIES[name].start(place))
        except Missing as missing:
            print(f"without {name}: {missing}", flush=True)
    if not started:
        raise BenchError("no proxy to measure")
    return started


def bench(scenarios: list[Scenario], names: list[str], rounds: int, seconds: int) -> list[Run]:
    """Start everything, check it, measure it, stop it."""
    cores = Cores.of_this_machine()
    load.wrk()
    if cores.shared:
        print("one core only: proxy, backend and load generator share it, compare CPU and not req/s")
    runs: list[Run] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-bench-")))
        sizes = {scenario.answer_bytes for scenario in scenarios}
        port = stack.enter_context(backend.running(directory, sizes, cores))
        started = start_all(names, port, directory, cores, stack)
        for name, running in started.items():
            check(PROXIES[name], running, scenarios)
        count = rounds * len(scenarios) * len(started)
        minutes = count * (seconds + WARM_UP_SECONDS + 0.2) / 60
        print(f"{', '.join(started)} forward as they should; {count} runs, {minutes:.1f} minutes", flush=True)
        for number in range(1, rounds + 1):
            for scenario in scenarios:
                for name, running in started.items():
                    run = measure(name, running, scenario, seconds, cores)
                    runs.append(run)
                    print(
                        f"{number}/{rounds} {scenario.name:8} {name:12} {run.rate:9,.0f} req/s "
                        f"{run.per_request(run.cpu.total):7.1f} µs  {'; '.join(run.problems)}".rstrip(),
                        flush=True,
                    )
    return runs


def main(
    scenario: Annotated[list[str], typer.Option(help=f"One of: {', '.join(SCENARIOS)}.")] = DEFAULT_SCENARIOS,
    proxy: Annotated[list[str], typer.Option(help=f"One of: {', '.join(PROXIES)}.")] = DEFAULT_PROXIES,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Times each run is repeated.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, max=600, help="Length of a run.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write every run here.")] = None,
) -> None:
    """Measure what a request costs: this router and its peers, side by side."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    chosen = [SCENARIOS[name] for name in known(SCENARIOS, scenario)]
    names = known(PROXIES, proxy)
    try:
        runs = bench(chosen, names, rounds, seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    facts = machine.facts()
    print("\n" + report.markdown(runs, facts))
    if json_file:
        document = {"facts": facts, "medians": report.medians(runs), "runs": [asdict(run) for run in runs]}
        json_file.write_text(json.dumps(document, indent=1) + "\n")
    if any(run.problems for run in runs):
        raise typer.Exit(1)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench")
