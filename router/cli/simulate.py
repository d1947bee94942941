"""`router simulate`: what each strategy makes of slow and dead backends, bursts, or the requests of an access log."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from router.balance.round_robin import RoundRobin
from router.balance.strategy import ENTRY_POINT_GROUP, StrategyError, load_strategy
from router.messages import RouteOptions
from router.simulate.engine import Result, Simulation
from router.simulate.scenario import Arrival, Scenario, ScenarioError, arrivals, replayed

OPTIONS = RouteOptions(hash_key="client_address", hash_balance=1.25)
"""As configured by default."""


def simulate(scenario: Scenario, strategies: Sequence[str], replay: str | None, plot: str | None, as_json: bool) -> int:
    """Simulate and show; gives the exit status."""
    try:
        names = _known(strategies)
        scenario.checked()
        requests = replayed(Path(replay), scenario) if replay else list(arrivals(scenario))
        results = {name: _run(name, scenario, requests) for name in names}
        if plot:
            from router.simulate.plot import plot as draw

            draw(results, Path(plot))
    except (ScenarioError, StrategyError) as error:
        print(f"router simulate: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps({name: _figures(result) for name, result in results.items()}, indent=2))
    else:
        _show(results)
    return 0


def _known(strategies: Sequence[str]) -> list[str]:
    installed = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)} - {"hash"}  # which goes by headers
    for name in strategies:
        if name not in installed:
            raise ScenarioError(f"--strategy {name}: expected one of {', '.join(sorted(installed))}")
    return list(dict.fromkeys(strategies)) or sorted(installed)


def _run(name: str, scenario: Scenario, requests: Sequence[Arrival]) -> Result:
    (entry,) = entry_points(group=ENTRY_POINT_GROUP, name=name)
    make = load_strategy(name, entry.value)
    try:
        return Simulation(scenario, make(OPTIONS, RoundRobin)).run(requests)
    except Exception as error:  # another's code may raise anything
        raise StrategyError(f"balancing strategy {name!r} failed: {error!r}") from error


def _figures(result: Result) -> dict[str, float]:
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p99_9_ms": 0.999}
    return {
        **{name: round(result.percentile(share) * 1000, 3) for name, share in shares.items()},
        "imbalance": round(result.imbalance, 3),
        "failed": result.failed,
    }


def _show(results: dict[str, Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    shown.add_column("strategy", no_wrap=True)
    for column in ("p50 ms", "p99 ms", "p99.9 ms", "busiest / average", "failed"):
        shown.add_column(column, justify="right")
    best = min(result.percentile(0.99) for result in results.values())
    for name, result in sorted(results.items(), key=lambda row: row[1].percentile(0.99)):
        p50, p99, p999 = (f"{result.percentile(share) * 1000:,.1f}" for share in (0.5, 0.99, 0.999))
        marked = f"[bold]{p99}[/bold]" if result.percentile(0.99) == best else p99
        shown.add_row(name, p50, marked, p999, f"{result.imbalance:.2f}", str(result.failed))
    Console().print(shown)
