"""`router routes`: the routing table of the running router, asked of its status server.

Where that is and how to be let in stands in `run_dir/status.json`, which the router leaves there while it runs.
"""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 10.0
"""Seconds for the router to answer."""


class RoutesError(Exception):
    """Why there is no table to show, in words for the user."""


def routes(config_path: str | None, as_json: bool) -> int:
    """Show the table of the router that runs with this configuration; gives the exit status."""
    from router.cli.check import load_or_report

    loaded = load_or_report(config_path)
    if loaded is None:
        return 1
    try:
        text = _ask(loaded.config)
    except RoutesError as error:
        print(f"router routes: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(text.rstrip("\n"))
    else:
        _show(json.loads(text))
    return 0


def _ask(config: Any) -> str:
    from router.control.state import load_status

    run_dir = config.effective_run_dir
    access = load_status(run_dir)
    if access is None:
        raise RoutesError(
            f"no router runs on port {config.port} with the run_dir {run_dir}; "
            "start it with `router run`, or name its configuration with -c FILE"
        )
    credentials = base64.b64encode(f"{access.user}:{access.password}".encode()).decode()
    request = urllib.request.Request(f"{access.url}/routes", headers={"Authorization": f"Basic {credentials}"})
    # A proxy of the environment is not meant for this machine's own loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        raise RoutesError(f"{access.url} refused with status {error.code}; is it another program?") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise RoutesError(
            f"the router does not answer at {access.url} ({reason}); was it killed? Start it again"
        ) from error


def _show(table: dict[str, list[dict[str, Any]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = Table("route", "backend", "app instance", "zone", "ttl", box=None, pad_edge=False)
    for key, endpoints in sorted(table.items()):
        if not endpoints:
            shown.add_row(key, "-")
        for number, endpoint in enumerate(endpoints):
            shown.add_row(
                "" if number else key,
                ("https://" if endpoint["tls"] else "") + endpoint["address"],
                endpoint.get("private_instance_id", ""),
                endpoint["availability_zone"],
                f"{endpoint['ttl']} s",
            )
    console.print(shown)
    backends = {endpoint["address"] for endpoints in table.values() for endpoint in endpoints}
    console.print(f"{len(table)} routes, {len(backends)} backends", highlight=False)
