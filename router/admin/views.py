"""What the dashboard, `router top` and the API show: figures as JSON objects. Nothing here knows HTTP.

Rates are requests a second, latencies milliseconds. Lists are filtered, sorted and cut here, so that a page for 10,000
apps costs its reader no more than one for ten; the order is worked out once a second for all readers who want the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from router.messages import EndpointSpec
from router.observe import histogram
from router.observe.apps import CLASSES, MINUTE, WINDOWS, AppFigures, EndpointFigures, latency
from router.observe.varz import Figures

SORTS = ("app", "rate", "errors", "p50", "p99", "instances", "in_flight")
MAX_PAGE = 500
_SLICE = 200
"""Apps looked at in one turn of the loop."""
_ROUTES = 50
_FAILURES = 50
_KEPT = 16
"""Orders that are kept for the second."""


class Query(NamedTuple):
    """Which apps, in which order. `text` is part of the app's name or of one of its routes."""

    text: str = ""
    sort: str = "rate"
    descending: bool = True
    offset: int = 0
    limit: int = 50
    window: int = 10


class About(Protocol):
    """What control itself knows."""

    def router(self) -> dict[str, Any]:
        """Version, index, health and the reason for being unwell, port, uptime."""
        ...

    def table(self) -> dict[str, Any]:
        """Numbers of routes and endpoints."""
        ...

    def bus(self) -> dict[str, Any]:
        """Connected or not, and to what."""
        ...

    def workers(self) -> list[dict[str, Any]]:
        """The workers' processes."""
        ...

    def fleet(self) -> list[dict[str, Any]]:
        """Other routers on the bus, as far as they are known."""
        ...


class Views:
    """All views. `in_flight` gives the requests in flight of a slot, `max_conns` the limit of endpoints without one."""

    def __init__(
        self,
        figures: Figures,
        about: About,
        in_flight: Callable[[int], int],
        max_conns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._max_conns = max_conns
        self._figures = figures
        self._about = about
        self._in_flight = in_flight
        self._orders: dict[tuple[str, str, int], tuple[int, list[str]]] = {}

    # -------------------------------------------------------- the whole router

    def overview(self) -> dict[str, Any]:
        """The router as a whole."""
        figures = self._figures
        apps = figures.apps
        second = apps.second
        by_second = {when: (requests, errors) for when, requests, errors in figures.totals}
        recent = [by_second.get(s, (0, 0)) for s in range(second - MINUTE, second)]
        cells = figures.cells(10)
        return {
            "at": time.time(),
            "router": self._about.router(),
            "table": {**self._about.table(), "apps": len(figures.directory)},
            "bus": self._about.bus(),
            "workers": [
                {
                    **worker,
                    "in_flight": figures.in_flight.get(worker["slot"], 0),
                    "connections": figures.connections.get(worker["slot"], 0),
                }
                for worker in self._about.workers()
            ],
            "fleet": self._about.fleet(),
            "totals": {
                **{f"rate_{w}s": sum(r for r, _ in recent[-w:]) / w for w in WINDOWS},
                "errors_10s": sum(e for _, e in recent[-10:]) / 10,
                "in_flight": sum(figures.in_flight.values()),
                "connections": sum(figures.connections.values()),
                "latency": {name: latency(cells, kind) for name, kind in histogram.KINDS.items()},
                "spark": [r for r, _ in recent],
                "spark_errors": [e for _, e in recent],
            },
            "reasons": dict(sorted(figures.reasons.items(), key=lambda item: -item[1])),
        }

    # -------------------------------------------------------- apps

    async def apps(self, query: Query) -> dict[str, Any]:
        """One page of apps; `total` is how many there are that fit."""
        names = await self._order(query)
        if not query.descending:
            names = names[::-1]
        limit = min(max(query.limit, 1), MAX_PAGE)
        offset = min(max(query.offset, 0), max(len(names) - 1, 0))
        page = names[offset : offset + limit]
        return {
            "total": len(names),
            "offset": offset,
            "limit": limit,
            "apps": [self._row(name, query.window) for name in page],
        }

    async def _order(self, query: Query) -> list[str]:
        """Names of all apps that fit, the greatest first."""
        second = self._figures.apps.second
        key = (query.text, query.sort, query.window)
        known = self._orders.get(key)
        if known is not None and known[0] == second:
            return known[1]
        found: list[tuple[float, str]] = []
        text = query.text.lower()
        directory = self._figures.directory
        for number, name in enumerate(list(self._figures.apps.names())):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            if text and text not in name.lower() and not directory.has_route(name, text):
                continue
            found.append((self._weight(name, query.sort, query.window), name))
        if query.sort == "app":
            names = sorted((name for _, name in found), reverse=True)
        else:
            names = [name for _, name in sorted(found, key=lambda item: (-item[0], item[1]))]
        if len(self._orders) >= _KEPT:
            self._orders.clear()
        self._orders[key] = (second, names)
        return names

    def _weight(self, name: str, sort: str, window: int) -> float:
        app = self._figures.apps.get(name)
        second = self._figures.apps.second
        if sort == "instances":
            return self._figures.directory.size(name)
        if sort == "in_flight":
            return sum(map(self._in_flight, self._figures.directory.endpoints(name).values()))
        if app is None or sort == "app":
            return 0.0
        if sort == "errors":
            return app.error_rate(second, window)
        if sort in ("p50", "p99"):
            counts = histogram.of_kind(app.cells(second, window), histogram.TOTAL)
            return histogram.percentile(counts, 0.5 if sort == "p50" else 0.99)
        return app.rate(second, window)

    def _row(self, name: str, window: int) -> dict[str, Any]:
        apps, directory = self._figures.apps, self._figures.directory
        second = apps.second
        app = apps.get(name)
        specs = directory.endpoints(name)
        known = app.endpoints if app is not None else {}
        shown = app or AppFigures(name)
        times = latency(shown.cells(second, window))
        return {
            "app": name,
            "routes": directory.routes(name, limit=3),
            "instances": len(specs),
            "ejected": sum(apps.state(spec, known.get(spec.address))[0] != "in" for spec in specs),
            "rate": round(shown.rate(second, window), 3),
            "errors": round(shown.error_rate(second, window), 3),
            "p50": times["p50"],
            "p99": times["p99"],
            "in_flight": sum(map(self._in_flight, specs.values())),
            "spark": shown.per_second(second),
        }

    # -------------------------------------------------------- one app

    def app(self, name: str) -> dict[str, Any] | None:
        """All there is to know about one app; None when nobody knows it."""
        apps, directory = self._figures.apps, self._figures.directory
        found = apps.get(name)
        specs = directory.endpoints(name)
        leaving = directory.leaving(name)
        if found is None and not specs and not leaving:
            return None
        app = found or AppFigures(name)
        second = apps.second
        cells = {window: app.cells(second, window) for window in WINDOWS}
        return {
            "app": name,
            "at": time.time(),
            "routes": directory.routes(name, limit=_ROUTES),
            "rate": {f"{w}s": round(app.rate(second, w), 3) for w in WINDOWS},
            "errors": {f"{w}s": round(app.error_rate(second, w), 3) for w in WINDOWS},
            "responses": dict(zip(CLASSES, app.classes, strict=True)),
            "failed_attempts": app.failures,
            "bytes_in": app.bytes_in,
            "bytes_out": app.bytes_out,
            "latency": {
                f"{w}s": {kind: latency(cells[w], number) for kind, number in histogram.KINDS.items()} for w in WINDOWS
            },
            "spark": app.per_second(second),
            "clients": [{"ip": ip, "rate": round(rate, 3)} for ip, rate in app.top_clients(second)],
            "endpoints": [
                self._endpoint(spec, slot, app.endpoints.get(spec.address), second, leaving=spec not in specs)
                for spec, slot in (specs | leaving).items()
            ],
            "failures": self._figures.failures.find(app=name, limit=_FAILURES),
        }

    def _state(
        self, spec: EndpointSpec, slot: int, figures: EndpointFigures | None, *, leaving: bool
    ) -> tuple[str, str]:
        """`in` and `full` are in use; `draining` has left the table; else why it is passed over."""
        flying = self._in_flight(slot)
        if leaving:
            return "draining", f"not registered any more; {flying} requests in flight"
        state, why = self._figures.apps.state(spec, figures)
        limit = (spec.options.max_conns if spec.options is not None else 0) or self._max_conns()
        if state == "in" and limit and flying >= limit:
            return "full", f"as many requests in flight as its limit allows: {limit}"
        return state, why

    def _endpoint(
        self, spec: EndpointSpec, slot: int, figures: EndpointFigures | None, second: int, *, leaving: bool
    ) -> dict[str, Any]:
        state, why = self._state(spec, slot, figures, leaving=leaving)
        shown = figures or EndpointFigures(spec)
        times = latency(shown.cells(second, 10))
        return {
            "backend": spec.address,
            "index": spec.instance_index,
            "instance": spec.instance_id,
            "zone": spec.availability_zone,
            "protocol": ("https" if spec.tls else "http") + ("/2" if spec.protocol == "http2" else ""),
            "tags": dict(spec.tags or ()),
            "state": state,
            "why": why,
            "rate": round(shown.requests(second, 10) / 10, 3),
            "p50": times["p50"],
            "p99": times["p99"],
            "in_flight": self._in_flight(slot),
            "responses": dict(zip(CLASSES, shown.classes, strict=True)),
            "failed_attempts": shown.failures,
            "last_failure": shown.reason,
        }

    # -------------------------------------------------------- what happened

    def events(self, after: int, limit: int, text: str) -> dict[str, Any]:
        """The newest events first."""
        events = self._figures.events
        return {"last": events.last, "events": events.after(after, min(max(limit, 1), MAX_PAGE), text)}

    def failures(self, request_id: str, app: str, text: str, limit: int) -> dict[str, Any]:
        """Requests that failed, the newest first."""
        limit = min(max(limit, 1), MAX_PAGE)
        return {"failures": self._figures.failures.find(request_id=request_id, app=app, text=text, limit=limit)}
