"""`router fleet`: all routers on the bus, who disagrees with whom, and about what."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.cli.bus import BusTarget
    from router.control.bus.survey import Survey

SHOWN = 50
"""Differences that are shown without `--json`."""


def fleet(target: BusTarget, as_json: bool) -> int:
    """Ask this bus; gives the exit status: 1 also when routers disagree."""
    from router.cli.bus import BusError, bus_settings_for
    from router.control.bus.survey import SurveyError, survey

    try:
        settings = bus_settings_for(target)
        if settings is None:
            print("router fleet: `nats: null`, so there is no bus to ask", file=sys.stderr)
            return 1
        found = asyncio.run(survey(settings))
    except (SurveyError, BusError) as error:
        print(f"router fleet: {error}", file=sys.stderr)
        return 1
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _show(found)
    return 0 if found.agree else 1


def _show(found: Survey) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not found.routers and not found.others:
        console.print("No router answers on this bus.")
        return
    columns = "router", "version", "serves at", "scope", "routes", "backends", "listening", "health"
    table = Table(*columns, box=None, pad_edge=False)
    for router in found.routers:
        table.add_row(
            router["id"],
            router["version"],
            router["host"],
            router["scope"],
            str(router["routes"]),
            str(router["endpoints"]),
            f"{router['listening']:.0f} s",
            router["health"],
        )
    for other in found.others:
        table.add_row(other.id, "-", ", ".join(other.hosts), "-", "-", "-", "-", "-")
    console.print(table)
    if found.agree:
        console.print(f"{len(found.routers)} routers compare their tables and agree.", highlight=False)
        return
    table = Table("router", "route", "backend", "", box=None, pad_edge=False)
    for each in found.differences[:SHOWN]:
        table.add_row(each.router, each.route, each.address, each.what)
    console.print(table)
    if len(found.differences) > SHOWN:
        console.print(f"and {len(found.differences) - SHOWN} more; --json shows them all", highlight=False)
