"""Runs in, Markdown out. Medians over the rounds; what varied is given as its range."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from .measure import Run
from .proxies import BASIS
from .scenarios import SCENARIOS

FOREIGN_SHARE_WORTH_TELLING = 0.05
COLUMNS = (
    "proxy",
    "req/s",
    "core",
    "user µs",
    "system µs",
    "**CPU µs/request**",
    "range",
    f"**× {BASIS}**",
    "p50 ms",
    "p99 ms",
    "RSS MB",
    "errors",
)


def markdown(runs: Sequence[Run], facts: Mapping[str, str]) -> str:
    """The whole report."""
    rounds = max(len(group) for group in _grouped(runs).values())
    parts = [f"{', '.join(f'{name} {value}' for name, value in facts.items())}; medians of {rounds} rounds."]
    for scenario in dict.fromkeys(run.scenario for run in runs):
        about = SCENARIOS[scenario].about
        connections = SCENARIOS[scenario].connections
        parts.append(f"**{scenario}**: {about}, {connections} connections\n\n{_table(runs, scenario)}")
    return "\n\n".join([*parts, *_notes(runs)])


def medians(runs: Sequence[Run]) -> list[dict[str, float | str]]:
    """The figures of the tables, for machines."""
    return [
        {
            "scenario": scenario,
            "proxy": proxy,
            "requests_per_second": _median(group, lambda run: run.rate),
            "cpu_us": _cpu_us(group),
            "user_us": _median(group, lambda run: run.per_request(run.cpu.user)),
            "system_us": _median(group, lambda run: run.per_request(run.cpu.system)),
            "p50_us": _median(group, lambda run: run.load.p50_us),
            "p99_us": _median(group, lambda run: run.load.p99_us),
            "rss": _median(group, lambda run: run.rss),
        }
        for (scenario, proxy), group in _grouped(runs).items()
    ]


def _grouped(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.scenario, run.proxy), []).append(run)
    return groups


def _median(group: Sequence[Run], value: Callable[[Run], float]) -> float:
    return median(map(value, group))


def _cpu_us(group: Sequence[Run]) -> float:
    return _median(group, lambda run: run.per_request(run.cpu.total))


def _table(runs: Sequence[Run], scenario: str) -> str:
    groups = {proxy: group for (name, proxy), group in _grouped(runs).items() if name == scenario}
    basis = _cpu_us(groups[BASIS]) if BASIS in groups else None
    rows = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1))]
    rows += [_row(proxy, group, basis) for proxy, group in groups.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(proxy: str, group: Sequence[Run], basis: float | None) -> tuple[str, ...]:
    totals = [run.per_request(run.cpu.total) for run in group]
    return (
        proxy,
        f"{_median(group, lambda run: run.rate):,.0f}",
        f"{_median(group, lambda run: run.core_share):.0%}",
        f"{_median(group, lambda run: run.per_request(run.cpu.user)):.1f}",
        f"{_median(group, lambda run: run.per_request(run.cpu.system)):.1f}",
        f"**{median(totals):.1f}**",
        f"{min(totals):.1f}–{max(totals):.1f}",
        f"**{median(totals) / basis:.2f}**" if basis else "",
        f"{_median(group, lambda run: run.load.p50_us) / 1000:.2f}",
        f"{_median(group, lambda run: run.load.p99_us) / 1000:.2f}",
        f"{_median(group, lambda run: run.rss) / 1e6:.0f}",
        str(sum(len(run.problems) for run in group)),
    )


def _notes(runs: Sequence[Run]) -> Iterable[str]:
    controlled = [run for run in runs if run.control_rss]
    if controlled:
        share = _median(controlled, lambda run: run.control_cpu.total / run.load.seconds)
        cost = _median(controlled, lambda run: run.per_request(run.control_cpu.total))
        rss = _median(controlled, lambda run: run.control_rss) / 1e6
        yield (
            f"Control process of {controlled[0].proxy}, not in the table: "
            f"{cost:.1f} µs a request, {share:.1%} of a core, {rss:.0f} MB."
        )
    foreign = max(run.foreign_share for run in runs)
    if foreign > FOREIGN_SHARE_WORTH_TELLING:
        typical = _median(runs, lambda run: run.foreign_share)
        yield (
            f"Other work took up to {foreign:.0%} of the proxy's core (median {typical:.0%}): "
            "measure again on a quiet machine."
        )
    problems = [f"- {run.scenario}, {run.proxy}: {'; '.join(run.problems)}" for run in runs if run.problems]
    if problems:
        yield "**ERRORS: do not quote these figures.**\n\n" + "\n".join(problems)
    else:
        yield f"No error in any of {len(runs)} runs, {sum(run.load.requests for run in runs):,} requests."
