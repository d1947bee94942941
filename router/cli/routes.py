"""`router routes`: the routing table of the running router, asked of its status server."""

from __future__ import annotations

from typing import Any

from router.cli.ask import AskError, Target, ask

Table = dict[str, list[dict[str, Any]]]


def routes(target: Target, host: str | None, as_json: bool) -> int:
    """Show the table, or the part of it for one host; gives the exit status: 1 also when `host` has no route."""
    import json
    import sys

    try:
        table: Table = ask(target, "/routes")
    except AskError as error:
        print(f"router routes: {error}", file=sys.stderr)
        return 1
    if host is not None:
        wanted = host.lower()
        table = {key: found for key, found in table.items() if key.partition("/")[0] == wanted}
    if as_json:
        print(json.dumps(table, separators=(",", ":"), ensure_ascii=False))
    else:
        _show(table)
    if host is not None and not table:
        print(f"router routes: {host} has no route; `router history {host}` may know why", file=sys.stderr)
        return 1
    return 0


def _show(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console()
    shown = Grid("route", "backend", "app instance", "zone", "ttl", box=None, pad_edge=False)
    for key, endpoints in sorted(table.items()):
        if not endpoints:
            shown.add_row(key, "-")
        for number, endpoint in enumerate(endpoints):
            shown.add_row(
                "" if number else key,
                ("https://" if endpoint["tls"] else "") + endpoint["address"],
                endpoint.get("private_instance_id", ""),
                endpoint["availability_zone"],
                f"{endpoint['ttl']} s" if endpoint["ttl"] else "-",
            )
    console.print(shown)
    backends = {endpoint["address"] for endpoints in table.values() for endpoint in endpoints}
    console.print(f"{len(table)} routes, {len(backends)} backends", highlight=False)
