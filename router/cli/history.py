"""`router history HOST`: what happened to the routes of a host since the router started, as far as it remembers."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from router.cli.ask import Target, shown


def history(target: Target, host: str, as_json: bool) -> int:
    """Show what happened; gives the exit status: 1 when nothing is known."""
    return shown("history", target, f"/api/history/{quote(host)}", as_json, _show)


def _show(answer: dict[str, Any]) -> int:
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(highlight=False, markup=False, soft_wrap=True)
    grid = Grid("when (UTC)", "what", "route", "backend", "why", box=None, pad_edge=False)
    for event in answer["events"]:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event["when"]))
        grid.add_row(stamp, event["what"], event["route"], event["address"], event["why"])
    if answer["events"]:
        console.print(grid)
        return 0
    console.print(f"Nothing is remembered of {answer['host']}.")
    for hint in answer["hints"]:
        console.print(hint)
    return 1
