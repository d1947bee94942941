"""`router plugins`: the balancing strategies that are installed, where they come from, and whether they can be used."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from router.balance.round_robin import RoundRobin
from router.balance.strategy import ENTRY_POINT_GROUP, load_strategy
from router.messages import NO_OPTIONS


def plugins(as_json: bool) -> int:
    """List them; gives the exit status, 1 when one can't be used."""
    found = [_about(entry) for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name)]
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return int(any(about["error"] for about in found))


def _about(entry: EntryPoint) -> dict[str, Any]:
    error = None
    try:
        load_strategy(entry.name, entry.value)(NO_OPTIONS, RoundRobin)
    except Exception as raised:  # another's code may raise anything
        error = str(raised) or repr(raised)
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
    return {"name": entry.name, "strategy": entry.value, "package": package, "error": error}


def _show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table("strategy", "package", "class", "state", box=None, pad_edge=False)
    for about in found:
        shown.add_row(*(escape(about[key]) for key in ("name", "package", "strategy")), escape(about["error"] or "ok"))
    Console().print(shown)
