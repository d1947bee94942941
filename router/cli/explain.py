"""`router explain URL`: what the running router would do with a request, told by one of its workers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from router.cli.ask import Target, shown


def explain(target: Target, url: str, method: str, headers: list[str], client: str, as_json: bool) -> int:
    """Explain a request; gives the exit status: 0 when a backend would get it."""
    if "://" not in url:
        url = f"http://{url}"
    question = [("url", url), ("method", method), ("client", client), *(("header", header) for header in headers)]
    return shown("explain", target, f"/api/explain?{urlencode(question)}", as_json, _show)


def _show(report: dict[str, Any]) -> int:
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(highlight=False, markup=False, soft_wrap=True)
    if (request := report.get("request")) is not None:
        console.print(f"{request['method']} {request['target']} for host {request['host'] or 'none'}")
    if (route := report.get("route")) is not None:
        asked = ", ".join(f"{name} {value}" for name, value in route["options"].items())
        console.print(f"route     {route['key']}: {route['why']}")
        console.print(f"strategy  {route['strategy']}" + (f" ({asked})" if asked else ""))
        grid = Grid("", "backend", "instance", "zone", "weight", "in flight", "from", "state", box=None, pad_edge=False)
        for each in report["endpoints"]:
            grid.add_row(
                "→" if each["picked"] else "",
                ("https://" if each["tls"] else "") + each["address"],
                each["instance"],
                each["zone"],
                str(each["weight"]),
                str(each["in_flight"]),
                each["source"],
                "in" if each["available"] else f"out: {'; '.join(each['why'])}",
            )
        console.print(grid)
        if (hidden := report["number_of_endpoints"] - len(report["endpoints"])) > 0:
            console.print(f"and {hidden} more")
    else:
        console.print("route     none matches")
    for hint in report.get("hints", ()):
        console.print(f"          {hint}")
    if (answer := report.get("answer")) is not None:
        console.print(f"answer    {answer['status']} by the router itself: {answer['error'] or 'a health check'}")
        return 1
    console.print(f"picked    {report['picked']}, by {report['picked_by']}; the next request may get another")
    for header in report["headers"]:
        console.print(f"header    {header['name']}: {header['value']}  ({header['how']})")
    if report["headers_removed"]:
        console.print(f"removed   {', '.join(report['headers_removed'])}")
    return 0
