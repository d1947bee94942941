"""The dashboard over HTTP: its files, the JSON that it and `router top` read, and `/metrics`.

The page is plain HTML, CSS and JavaScript modules from `dashboard/`, read once, and loads nothing from anywhere else;
the Content-Security-Policy holds it to that. It lives on one stream of server-sent events, which carries the view that
the page shows, once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import web

from router.admin.routes_api import problem
from router.admin.views import SORTS, Query, Views
from router.observe.metrics import CONTENT_TYPE

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
FILES = {
    "/": ("index.html", "text/html"),
    "/dashboard/style.css": ("style.css", "text/css"),
    "/dashboard/main.js": ("main.js", "text/javascript"),
    "/dashboard/draw.js": ("draw.js", "text/javascript"),
    "/dashboard/format.js": ("format.js", "text/javascript"),
    "/dashboard/icon.svg": ("icon.svg", "image/svg+xml"),
}
STREAM = "/api/stream"
TICK = 1.0
"""Seconds between two events of a stream."""
_LARGEST = 10**9

_encode = msgspec.json.encode


class Pages:
    """Handlers. `metrics` gives the text of a scrape."""

    def __init__(self, views: Views, metrics: Callable[[], Awaitable[bytes]]) -> None:
        self._views = views
        self._metrics = metrics
        folder = files("router.admin") / "dashboard"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
        self.paths: dict[str, Any] = dict.fromkeys(FILES, self._serve_file)
        """Path → handler, for the status port."""
        self.paths["/metrics"] = self.serve_metrics
        self.routes = [
            web.get("/api/overview", self._overview),
            web.get("/api/apps", self._apps),
            web.get("/api/app", self._app),
            web.get("/api/events", self._events),
            web.get("/api/failures", self._failures),
            web.get(STREAM, self._stream),
        ]
        """The JSON API."""

    async def _serve_file(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=SAFE)

    async def serve_metrics(self, request: web.Request) -> web.Response:
        """`/metrics`."""
        return web.Response(body=await self._metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def _overview(self, request: web.Request) -> web.Response:
        return _json(self._views.overview())

    async def _apps(self, request: web.Request) -> web.Response:
        return _json(await self._views.apps(_query(request)))

    async def _app(self, request: web.Request) -> web.Response:
        name = request.query.get("app", "")
        found = self._views.app(name)
        if found is None:
            return problem(404, f"no app {name!r} has routes, or had a request lately; see /api/apps")
        return _json(found)

    async def _events(self, request: web.Request) -> web.Response:
        text = request.query.get("q", "")
        return _json(self._views.events(_number(request, "after", 0), _number(request, "limit", 100), text))

    async def _failures(self, request: web.Request) -> web.Response:
        wanted = request.query
        limit = _number(request, "limit", 100)
        return _json(
            self._views.failures(wanted.get("request_id", ""), wanted.get("app", ""), wanted.get("q", ""), limit)
        )

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: `overview` with every tick, `apps` or `app` as asked for, `events` when there are new."""
        name = request.query.get("app")
        query = _query(request)
        response = web.StreamResponse(headers={**SAFE, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        seen = _number(request, "after", 0)
        try:
            while True:
                parts = [("overview", self._views.overview())]
                if name is None:
                    parts.append(("apps", await self._views.apps(query)))
                else:
                    parts.append(("app", self._views.app(name) or {"app": name, "gone": True}))
                news = self._views.events(seen, 50, "")
                if news["events"]:
                    seen = news["last"]
                    parts.append(("events", news))
                await response.write(b"".join(b"event: %b\ndata: %b\n\n" % (e.encode(), _encode(d)) for e, d in parts))
                await asyncio.sleep(TICK)
        except (ConnectionError, asyncio.CancelledError):
            return response


def _query(request: web.Request) -> Query:
    """What apps are asked for. Raises HTTPBadRequest with what is wrong."""
    wanted = request.query
    sort = wanted.get("sort", "rate")
    if sort not in SORTS:
        raise _wrong(f"sort: one of {', '.join(SORTS)} expected, not {sort!r}")
    order = wanted.get("order", "asc" if sort == "app" else "desc")
    if order not in ("asc", "desc"):
        raise _wrong(f"order: asc or desc expected, not {order!r}")
    window = _number(request, "window", 10)
    if window not in (1, 10, 60):
        raise _wrong(f"window: 1, 10 or 60 seconds expected, not {window}")
    return Query(
        wanted.get("q", ""),
        sort,
        order == "desc",
        _number(request, "offset", 0),
        _number(request, "limit", 50),
        window,
    )


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text[:12]) > _LARGEST:
        raise _wrong(f"{name}: a whole number expected, not {text!r}")
    return int(text)


def _wrong(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(reason=text)


def _json(value: Any) -> web.Response:
    return web.Response(
        body=_encode(value) + b"\n", content_type="application/json", headers={"Cache-Control": "no-store"}
    )
