"""What the router tells operators over HTTP (contract §11.1, §11.2): health, `/varz`, `/routes`.

The status port with everything, in plain HTTP, over TLS or both, and one on 127.0.0.1 with `/routes` and the API only.
Health needs no password; what shows or changes routes or figures does. In the deprecated mode the status port asks for
the password before it says that a path doesn't exist, as the old component did.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from router.admin.pages import STREAM
from router.admin.ports import Ports
from router.admin.routes_api import problem
from router.messages import EndpointSpec

API = "/api/"
HEALTH_HEADERS = {"Cache-Control": "private, max-age=0", "Expires": "0"}
ALIVE = "/is-process-alive-do-not-use-for-loadbalancing"
_OPEN = frozenset(("/health", "/healthz", "/readyz", ALIVE))
_PROTECTED = frozenset(("/routes", "/varz"))
_TIMEOUT = 10.0  # seconds (contract §8.1)
_CHUNK = 500
"""Routes encoded between two turns of the event loop."""

Routes = Callable[[], Iterator[tuple[str, list[EndpointSpec]]]]

_encode = msgspec.json.encode


class StatusServer:
    """The listeners. `health()` gives the reason for being unwell, or ""; `routes()` the table, bit by bit."""

    def __init__(
        self,
        *,
        health: Callable[[], str],
        varz: Callable[[], dict[str, Any]],
        routes: Routes,
        credentials: tuple[str, str],
        api: Sequence[web.RouteDef] = (),
        pages: Mapping[str, Handler] | None = None,
        deprecated: bool = False,
    ) -> None:
        self._health = health
        self._varz = varz
        self._routes = routes
        self._credentials = credentials
        self._api = api
        self._pages = pages or {}
        """What else the status port serves, for the user with the password."""
        self._deprecated = deprecated
        self._runners: list[web.AppRunner] = []

    async def start(self, ports: Ports, tls: ssl.SSLContext | None = None) -> None:
        """Serve those who come to these ports; `tls` is how TLS is spoken on the port that is for it."""
        handlers: dict[str, Handler] = {
            "/health": self._serve_health,
            "/healthz": self._serve_health if self._deprecated else self._serve_alive,
            "/readyz": self._serve_health,
            "/varz": self._serve_varz,
            "/routes": self._serve_routes,
            **self._pages,
        }
        if not self._deprecated:
            handlers[ALIVE] = self._serve_alive
        await self._serve(handlers, self._deprecated, ports.status)
        await self._serve(handlers, self._deprecated, ports.tls, tls)
        await self._serve({"/routes": self._serve_routes}, True, ports.routes)

    async def stop(self) -> None:
        """Stop listening."""
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()

    async def _serve(
        self,
        handlers: dict[str, Handler],
        all_protected: bool,
        sockets: list[socket.socket],
        context: ssl.SSLContext | None = None,
    ) -> None:
        app = web.Application(middlewares=[self._guard(frozenset(handlers), all_protected)])
        for path, handler in handlers.items():
            app.router.add_route("*", path, handler)
        app.add_routes(self._api)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=_TIMEOUT, shutdown_timeout=1.0)
        self._runners.append(runner)
        await runner.setup()
        for sock in sockets:
            await web.SockSite(runner, sock, ssl_context=context).start()

    def _guard(self, paths: frozenset[str], all_protected: bool) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            path = request.path
            of_api = path.startswith(API)
            protected = path in _PROTECTED or path in self._pages or of_api or (all_protected and path not in _OPEN)
            if protected and not self._knows(request):
                return _text(401, "401 Unauthorized\n", {"WWW-Authenticate": "Basic"})
            if of_api and not _from_here(request):
                return problem(403, "a page of another site may not change anything here")
            if path == STREAM:
                return await handler(request)
            if of_api:
                return await _in_time(_api_answer(handler(request)))
            if path not in paths:
                return _text(404, "404 page not found\n")
            return await _in_time(handler(request))

        return guard

    def _knows(self, request: web.Request) -> bool:
        """The request carries the right user and password (RFC 7617)."""
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic":
            return False
        try:
            user, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        right_user, right_password = (text.encode() for text in self._credentials)
        # Both are compared in any case, so that the time taken tells nothing.
        matches = hmac.compare_digest(user, right_user) & hmac.compare_digest(password, right_password)
        return bool(colon) and bool(matches)

    # -------------------------------------------------------- answers

    async def _serve_health(self, request: web.Request) -> web.Response:
        reason = self._health()
        if reason:
            return _text(503, f"{reason}\n", HEALTH_HEADERS)
        return _text(200, "ok\n", HEALTH_HEADERS)

    async def _serve_alive(self, request: web.Request) -> web.Response:
        return _text(200, "ok\n", HEALTH_HEADERS)

    async def _serve_varz(self, request: web.Request) -> web.Response:
        return web.Response(body=_encode(self._varz(), order="sorted") + b"\n", content_type="application/json")

    async def _serve_routes(self, request: web.Request) -> web.Response:
        routes = self._routes()
        parts = []
        while chunk := b",".join(_route(key, specs) for key, specs in islice(routes, _CHUNK)):
            parts.append(chunk)
            await asyncio.sleep(0)
        response = web.Response(body=b"{%b}\n" % b",".join(parts), content_type="application/json")
        response.force_close()
        return response


def _route(key: str, specs: list[EndpointSpec]) -> bytes:
    return _encode(key) + b":" + _encode([endpoint_json(spec) for spec in specs])


def endpoint_json(spec: EndpointSpec) -> dict[str, Any]:
    """An endpoint as `/routes` shows it: these keys in this order, optional ones when not empty (contract §11.2)."""
    shown: dict[str, Any] = {
        "address": spec.address,
        "availability_zone": spec.availability_zone,
        "protocol": spec.protocol,
        "tls": spec.tls,
        "ttl": spec.stale_after,
        "route_service_url": spec.route_service_url,
        "tags": None if spec.tags is None else dict(spec.tags),
        "isolation_segment": spec.isolation_segment,
        "private_instance_id": spec.instance_id,
        "server_cert_domain_san": spec.server_cert_domain_san,
        "load_balancing_algorithm": spec.options.asked if spec.options is not None else "",
    }
    for key in (
        "route_service_url",
        "isolation_segment",
        "private_instance_id",
        "server_cert_domain_san",
        "load_balancing_algorithm",
    ):
        if not shown[key]:
            del shown[key]
    return shown


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text, headers={"Server": "router", **(headers or {})})


def _from_here(request: web.Request) -> bool:
    """A change must not come from another site's page: the browser would send the password along by itself."""
    return request.method in ("GET", "HEAD") or request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")


async def _api_answer(answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """The answer of the API; also to what it does not have, JSON."""
    try:
        return await answer
    except web.HTTPException as error:
        refused = problem(error.status, error.reason)
        if allow := error.headers.get("Allow"):
            refused.headers["Allow"] = allow
        return refused


async def _in_time(answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    return await asyncio.wait_for(answer, _TIMEOUT)
