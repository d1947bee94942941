"""For a person: why a host has no route, and what may have been meant (`debug_404`, `router explain`)."""

from __future__ import annotations

from collections.abc import Iterator

from router.control.history import LONGEST_NAME, batches, nearest
from router.control.table import Table

_PATHS_SHOWN = 5


def explain_missing(table: Table, host: str) -> list[str]:
    """Lines for a person about a host (lower case, no port) for which a request found no route."""
    if len(host) > LONGEST_NAME:
        return [f"No host name is longer than {LONGEST_NAME} letters."]
    lines = [
        f"{name} has routes for these paths only: {', '.join(paths)}"
        for name in (host, *_wildcards(host))
        if name in table.hosts and (paths := _paths(table, name))
    ]
    if f"*.{host}" in table.hosts:
        lines.append(f"*.{host} has routes, but a wildcard does not cover {host} itself.")
    lines += table.history.explain(host)
    if not lines and (near := nearest(host, table.hosts)):
        lines.append(f"Registered hosts that come near: {', '.join(near)}")
    return lines or ["No registered host comes near."]


def _paths(table: Table, host: str) -> list[str]:
    """Some paths for which a host has routes."""
    beginning = f"{host}/"
    found: list[str] = []
    for batch in batches(table.pools):
        found += [key[len(host) :] for key in batch if key.startswith(beginning)]
        if len(found) >= min(table.routes_of(host), _PATHS_SHOWN):
            break
    return sorted(found)[:_PATHS_SHOWN]


def _wildcards(host: str) -> Iterator[str]:
    """The wildcard hosts that cover a host, nearest first (contract §3.3)."""
    parent = host.partition(".")[2]
    while parent:
        yield f"*.{parent}"
        parent = parent.partition(".")[2]
