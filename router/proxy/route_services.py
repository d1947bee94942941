"""Route services: a request for a route that has one goes there first, signed, and to the app when it comes back
(contract §10).

- `enter` decides, for requests that concern it: first leg, second leg, or an error. Nothing goes around a service.
- On the first leg the exchange works as always, with a pool of one endpoint that is the service. Only the request as it
  is sent differs (`Leg.request`), which `_Addressed` sees to.
- A service that is a route of ours may be served in the worker itself (`proxy.hairpin`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from time import time, time_ns
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit

from router.balance.round_robin import RoundRobin
from router.http import errors
from router.http.headers import FORWARDED_URL, METADATA, SIGNATURE
from router.http.message import BadMessage, header_text
from router.http.request import HOST_KEYS, RequestHead, line_of
from router.http.signature import (
    BadSignature,
    Claim,
    Expired,
    check_age,
    read_signature,
    sign,
)
from router.messages import EndpointSpec, PutEndpoint, RouteOptions
from router.messages import RouteServices as Settings
from router.observe.access_log import NO_ENDPOINT
from router.proxy.connections import Connections
from router.proxy.hairpin import Hairpin
from router.proxy.tls import backend_context
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool
from router.table.uri import host_of

if TYPE_CHECKING:
    from router.proxy.backend_h1 import BackendH1
    from router.proxy.backend_h2 import BackendH2
    from router.proxy.connections import Backend
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane

MOST_SERVICES = 1000
"""Addresses of services that are remembered, with their connections."""
OWN_HEADERS = frozenset((SIGNATURE, METADATA, FORWARDED_URL))
_URL = re.compile(r"https://[\x21-\x7e]+\Z", re.IGNORECASE)


class Url(NamedTuple):
    """The URL of a route service, taken apart."""

    host: str
    port: int
    authority: bytes
    target: bytes


class Leg:
    """A request on its way to a route service."""

    __slots__ = ("max_attempts", "request", "url")

    def __init__(self, url: str, request: RequestHead, max_attempts: int) -> None:
        self.url = url
        self.request = request
        """As the service gets it."""
        self.max_attempts = max_attempts


class Service(Endpoint):
    """A route service, as the endpoint of a pool."""

    __slots__ = ("tls_context",)

    overloaded = False
    available = True
    head_lines = b"\r\n"  # a service is told of no instance (contract §5.3)

    def __init__(self, spec: EndpointSpec, loads: Loads, connections: Connections) -> None:
        super().__init__(PutEndpoint.of(0, 0, spec), loads)  # slot 0: not counted
        self.connections = connections
        self.tls_context = None
        self.log_fields = NO_ENDPOINT  # the access log shows no backend (contract §12.1)


class RouteServices:
    """What a worker does for route services; made when there is a secret."""

    def __init__(self, plane: Plane, settings: Settings) -> None:
        self._plane = plane
        self._services: dict[tuple[str, int, bool], Service] = {}
        self.hairpins: set[Hairpin] = set()
        """First legs within this worker."""
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take over settings, also while running."""
        self._settings = settings
        self._keys = (settings.key, settings.previous_key) if settings.previous_key else (settings.key,)
        self._context = backend_context(settings.tls)
        self._forget()

    def _forget(self) -> None:
        services, self._services = self._services, {}
        for service in services.values():
            service.connections.close()

    def check(self, now: float) -> None:
        """Called at every tick of the clock."""
        for hairpin in list(self.hairpins):
            hairpin.check(now)

    def enter(self, exchange: Exchange, pool: Pool) -> tuple[Pool, bool] | None:
        """Where a request that is signed, or for a pool with a route service, goes; None: it has been answered.

        True: it comes from a route service, with a good signature (contract §5.3, §9.3).
        """
        noted = exchange.request.noted
        claim: Claim | None = None
        if noted.get(SIGNATURE):
            try:
                claim = self._claim(noted[SIGNATURE], noted.get(METADATA, b""))
            except BadSignature as bad:
                if pool.route_services or self._settings.strict:
                    self._refuse(exchange, bad, asked=pool.route_services > 0)
                    return None
        returned = claim is not None and bool(noted.get(FORWARDED_URL))
        if not pool.route_services:
            return pool, returned
        url = self._plane.table.pools.get(pool.key, pool).route_service_url
        internal = self._is_internal(url)
        if (
            b"upgrade" in exchange.request.options
            and noted.get(b"upgrade", b"").lower() == b"websocket"
            and (internal or not self._settings.websockets)
        ):
            exchange.refuse(errors.WEBSOCKET_TO_ROUTE_SERVICE)
            return None
        if claim is None:
            return self._first_leg(exchange, pool, url, internal=internal)
        try:
            self._check_route(claim, pool)
        except BadSignature as bad:
            self._refuse(exchange, bad, asked=True)
            return None
        exchange.request = _without(exchange.request, OWN_HEADERS)
        return pool, returned

    # -------------------------------------------------------- the second leg

    def _claim(self, signature: bytes, metadata: bytes) -> Claim:
        """Raises BadSignature."""
        claim, key = read_signature(self._keys, signature, metadata)
        if key:
            self._plane.log.debug("proxy-route-service-previous-key")
        check_age(claim, self._settings.timeout, time())
        return claim

    def _check_route(self, claim: Claim, pool: Pool) -> None:
        """A signature is good for the route that it was made for. Raises BadSignature."""
        url = claim.forwarded_url
        host, slash, path = url.partition("://")[2].partition("/")
        try:
            key = HOST_KEYS[host.encode()]
        except BadMessage:
            key = b""
        found = self._plane.table.lookup(key, (slash + path).encode()) if key else None
        if found is None:
            raise BadSignature(f"original request URL {url} does not exist in the routing table")
        if found.key != pool.key:
            own = host_of(pool.key) + pool.context_path
            raise BadSignature(f"route service forwarded URL {own} does not match the original request URL {url}")

    def _refuse(self, exchange: Exchange, bad: BadSignature, *, asked: bool) -> None:
        """`asked`: the route has a route service, so that a signature was to be expected."""
        expired = isinstance(bad, Expired)
        if asked:
            row = errors.EXPIRED_SIGNATURE if expired else errors.BAD_SIGNATURE
        else:
            row = errors.UNASKED_EXPIRED_SIGNATURE if expired else errors.UNASKED_BAD_SIGNATURE
        self._plane.log.error("signature-validation-failed", error=str(bad))
        exchange.refuse(row, str(bad))

    # -------------------------------------------------------- the first leg

    def _first_leg(self, exchange: Exchange, pool: Pool, url: str, *, internal: bool) -> tuple[Pool, bool] | None:
        try:
            where = parse(url)
        except ValueError:
            self._plane.log.error("route-service-failed", error=f"this is no URL: {url}")
            exchange.refuse(errors.ROUTE_SERVICE_FAILED)
            return None
        exchange.service = Leg(url, self._signed(exchange.request, where), self._settings.max_attempts)
        service = self._service(where, internal)
        options = RouteOptions(endpoint_timeout=pool.options.endpoint_timeout)
        way = Pool(f"route service {service.address}", "/", "round-robin", RoundRobin(), options)
        way.endpoints.append(service)
        return way, False

    def _signed(self, request: RequestHead, where: Url) -> RequestHead:
        """The request as the route service gets it (contract §10.2)."""
        scheme = b"https" if self._settings.recommend_https else b"http"
        host = request.raw_host
        if host.rpartition(b":")[2].isdigit():
            host = host.rpartition(b":")[0]
        url = b"%b://%b%b" % (scheme, host, request.target)
        signature, metadata = sign(self._settings.key, url.decode("utf-8", "replace"), time_ns())
        sent = _without(request, OWN_HEADERS)
        sent.target, sent.raw_host = where.target, where.authority
        sent.line, sent.clean = line_of(sent.method, sent.target)
        sent.headers = [
            *sent.headers,
            (b"X-CF-Forwarded-Url", url),
            (b"X-CF-Proxy-Signature", signature),
            (b"X-CF-Proxy-Metadata", metadata),
        ]
        sent.text = header_text(sent.headers)
        return sent

    def _service(self, where: Url, internal: bool) -> Service:
        key = (where.host, where.port, internal)
        service = self._services.get(key)
        if service is None:
            if len(self._services) >= MOST_SERVICES:
                self._forget()
            spec = EndpointSpec(where.host, where.port, tls=True)
            connections = _Within(self._plane, self) if internal else _Outside()
            service = self._services[key] = Service(spec, self._plane.loads, connections)
            service.tls_context = self._context
        return service

    def _is_internal(self, url: str) -> bool:
        """It is a route of ours, and may be served here (contract §10.6)."""
        if not self._settings.internal:
            return False
        try:
            where = parse(url)
        except ValueError:
            return False
        found = self._plane.table.lookup(HOST_KEYS[where.authority], where.target)
        if found is None:
            return False
        allowed = self._settings.internal_hosts
        host = host_of(found.key)
        return not allowed or host in allowed or "*" + host[host.find(".") :] in allowed


class _Addressed:
    """A connection to a route service, for one request: it is given that as the service shall see it."""

    __slots__ = ("_connection", "usable")

    def __init__(self, connection: BackendH1) -> None:
        self._connection = connection

    def start(self, exchange: Exchange, body: bytes) -> None:
        """Send the request; from then on the exchange has to do with the connection itself."""
        assert exchange.service is not None
        exchange.backend = self._connection
        asked, exchange.request = exchange.request, exchange.service.request
        self._connection.start(exchange, body)
        exchange.request = asked


class _Outside(Connections):
    """Connections to a route service somewhere."""

    __slots__ = ()

    def add(self, connection: BackendH1 | BackendH2) -> Backend:
        return cast("Backend", _Addressed(cast("BackendH1", super().add(connection))))

    def take(self, repeatable: bool) -> BackendH1 | None:
        connection = super().take(repeatable)
        return None if connection is None else cast("BackendH1", _Addressed(connection))


class _Within(Connections):
    """To a route service that is a route of ours: there is always a way, and it needs no connection."""

    __slots__ = ("_plane", "_services")

    def __init__(self, plane: Plane, services: RouteServices) -> None:
        super().__init__()
        self._plane = plane
        self._services = services

    def take(self, repeatable: bool) -> BackendH1 | None:
        return cast("BackendH1", Hairpin(self._plane, self._services.hairpins))


@lru_cache(MOST_SERVICES)
def parse(url: str) -> Url:
    """Take the URL of a route service apart. Raises ValueError."""
    if not _URL.match(url):
        raise ValueError
    parts = urlsplit(url)
    authority = parts.netloc.encode()
    try:
        HOST_KEYS[authority]
    except BadMessage:
        raise ValueError from None
    if not parts.hostname:
        raise ValueError
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.hostname, parts.port or 443, authority, target.encode())


def _without(request: RequestHead, names: frozenset[bytes]) -> RequestHead:
    """The request less these headers, as an object of its own."""
    other = request.like(request.line, request.method, request.target, request.size, request.clean)
    other.headers = [header for header in request.headers if header[0].lower() not in names]
    other.meaning = None
    other.text = header_text(other.headers)
    other.noted = {name: value for name, value in request.noted.items() if name not in names}
    return other
