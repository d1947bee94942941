"""Connections to one endpoint: the idle ones, and how a new one is made.

Last in, first out: the connection used most recently is the least likely to have been closed by the peer, and those
that are not needed age and go.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING

from router.proxy.backend_h1 import BackendH1
from router.proxy.failures import Failure, dial_failure, handshake_timeout, tls_failure
from router.proxy.handshake import OFFERED
from router.table.endpoint import Endpoint

if TYPE_CHECKING:
    from router.proxy.backend_h2 import BackendH2, BackendStream
    from router.proxy.dialling import Dialling
    from router.proxy.plane import Plane

    Backend = BackendH1 | BackendStream
    """What an exchange sends its request to: a whole connection, or a stream of one."""


SAFE_SHARE = 0.8
"""Share of the time after which an endpoint closes idle connections in which we still use them."""
TRUSTED_IDLE = 1.0
"""Seconds of idleness that nearly every server allows; up to that, requests that must not be repeated use one."""
ON_ITS_WAY = 0.02
"""Seconds in which a request has surely reached its backend."""
SESSION_LIFE = 3600.0
"""Seconds after which an endpoint has to show its certificate again, whatever tickets it gives."""
MEMORY = 60.0
"""Seconds for which what was learned about an endpoint holds: it may have been its restart."""


class Connections:
    """Connections to one endpoint: those that are idle, and those that many requests share."""

    __slots__ = (
        "_context",
        "_learned_at",
        "_session",
        "_verified_at",
        "closed",
        "closes_after",
        "dialling",
        "idle",
        "shared",
        "singly",
        "tls",
    )

    def __init__(self) -> None:
        self.idle: list[BackendH1] = []
        self.shared: list[BackendH2] = []
        self.dialling: Dialling | None = None
        """The connection under way that further requests may wait for."""
        self.singly = False
        """The endpoint could have agreed to HTTP/2 and did not: every request needs a connection for itself."""
        self.closed = False
        self.closes_after = 0.0
        """Seconds of idleness after which the endpoint was seen to close a connection; 0 = not seen lately."""
        self._learned_at = 0.0
        self.tls: ssl.SSLObject | None = None
        """The TLS side of the newest connection, while the session in it has not been put by."""
        self._session: ssl.SSLSession | None = None
        self._context: ssl.SSLContext | None = None
        self._verified_at = 0.0

    def add(self, connection: BackendH1 | BackendH2) -> Backend:
        """Take in a connection just made; gives what the first request over it is sent to."""
        connection.connections = self
        tls: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object")
        if tls is not None:
            self.tls = tls
            if not tls.session_reused:
                self._verified_at = monotonic()
        if isinstance(connection, BackendH1):
            return connection
        self.shared.append(connection)
        return connection.new_stream()

    def stream(self) -> BackendStream | None:
        """A stream of a shared connection that has room, or None."""
        for connection in self.shared:
            if connection.room:
                return connection.new_stream()
        return None

    def forget_shared(self, connection: BackendH2) -> None:
        """A shared connection takes no further requests."""
        if self.tls is not None:
            self.put_session_by(connection.transport.get_extra_info("ssl_object"))
        if connection in self.shared:
            self.shared.remove(connection)

    def take(self, repeatable: bool) -> BackendH1 | None:
        """An idle connection that is fit for the request, or None: then a new one is to be made.

        A peer may close an idle connection while a request is on its way to it. One that has been idle for most of the
        time that this peer was seen to allow is therefore left alone; and a request that must not be repeated only
        takes a connection used just now (RFC 9110 §9.2.2).
        """
        idle = self.idle
        if not idle:
            return None
        if not repeatable:
            limit = TRUSTED_IDLE
            if self.closes_after:
                limit = min(limit, self.closes_after * SAFE_SHARE - ON_ITS_WAY)
            return self._take_young(limit)
        if self.closes_after:
            return self._take_young(self.closes_after * SAFE_SHARE)
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def _take_young(self, limit: float) -> BackendH1 | None:
        earliest = monotonic() - limit
        idle = self.idle
        while idle and idle[-1].idle_since >= earliest:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    def give(self, connection: BackendH1, limit: int) -> None:
        """Keep a connection for the next request, or close it when `limit` idle ones are kept already."""
        if self.closed or len(self.idle) >= limit:
            connection.close()
        else:
            connection.idle_since = monotonic()
            self.idle.append(connection)

    def closed_by_peer(self, connection: BackendH1) -> None:
        """An idle connection, or one just taken, ended by the peer's doing: learn how long it lets one be idle."""
        now = monotonic()
        age = now - connection.idle_since
        if not self.closes_after or age < self.closes_after or now - self._learned_at > MEMORY:
            self.closes_after = age
            self._learned_at = now
        self.forget(connection)

    def sweep(self, now: float, limit: float) -> None:
        """Close what has been idle for `limit` seconds, or so long that it would not be used any more."""
        if self.closes_after:
            if now - self._learned_at > MEMORY:
                self.closes_after = 0.0
            else:
                limit = min(limit, self.closes_after * SAFE_SHARE)
        while self.idle and now - self.idle[0].idle_since >= limit:
            self.idle.pop(0).close()
        for connection in [c for c in self.shared if not c.streams and now - c.idle_since >= limit]:
            connection.retire()

    def session(self, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """The session to be resumed by a new connection with this context, if there is one."""
        tls = self.tls
        if tls is not None:
            self._note_session(tls)
        session = self._session
        if session is None or monotonic() - self._verified_at > SESSION_LIFE:
            return None
        return session if self._context is context else None

    def put_session_by(self, tls: ssl.SSLObject) -> None:
        """A connection has ended: of its TLS only the session is kept."""
        if tls is self.tls:
            self._note_session(tls)
            self.tls = None

    def _note_session(self, tls: ssl.SSLObject) -> None:
        session = tls.session
        if session is not None and session.has_ticket:
            self._session, self._context = session, tls.context

    def forget(self, connection: BackendH1) -> None:
        """An idle connection ended."""
        try:
            self.idle.remove(connection)
        except ValueError:
            pass

    def close(self) -> None:
        """The endpoint is gone: close what is idle; what is in use closes when it is done."""
        self.closed = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()
        for shared in list(self.shared):
            shared.retire()


class Steps:
    """How long the steps of one dial took, in nanoseconds: 0 = there was no such step, -1 = it did not get so far."""

    __slots__ = ("connect", "handshake", "lookup")

    def __init__(self) -> None:
        self.lookup = self.connect = self.handshake = -1


def by_agreement(plane: Plane, endpoint: Endpoint) -> bool:
    """HTTP/2 is offered to `endpoint`."""
    spec = endpoint.spec
    return spec.tls and spec.protocol == "http2" and plane.settings.enable_http2


async def dial(
    plane: Plane, endpoint: Endpoint, steps: Steps, *, only_h1: bool = False
) -> BackendH1 | BackendH2 | Failure:
    """A new connection to `endpoint`, or why there is none; notes `steps`. `only_h1`: HTTP/2 is not offered.

    Takes at most `dial_timeout` seconds, and for a TLS endpoint `tls_handshake_timeout` on top.
    """
    made = BackendH1(plane) if only_h1 or not by_agreement(plane, endpoint) else _ByAgreement(plane)
    try:
        failure = await (_dial_tls if endpoint.spec.tls else _dial)(plane, endpoint, made, steps)
    except asyncio.CancelledError:
        made.abandon()  # it may have been made just then, and nobody knows it
        raise
    if failure is not None:
        made.abandon()
        return failure
    return made.chosen if isinstance(made, _ByAgreement) else made


class _ByAgreement(asyncio.Protocol):
    """Waits for the TLS handshake, and has HTTP/2 or HTTP/1.1 as the two sides agreed in it (ALPN, RFC 7301)."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._abandoned = False
        self.chosen: BackendH1 | BackendH2

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            from router.proxy.backend_h2 import BackendH2  # loaded with the first backend that speaks it

            self.chosen = BackendH2(self._plane)
        else:
            self.chosen = BackendH1(self._plane)
        if self._abandoned:
            self.chosen.abandon()
        transport.set_protocol(self.chosen)
        self.chosen.connection_made(transport)

    def abandon(self) -> None:
        """Nobody waits for this connection any more."""
        self._abandoned = True
        if hasattr(self, "chosen"):
            self.chosen.abandon()


async def _dial(plane: Plane, endpoint: Endpoint, made: asyncio.Protocol, steps: Steps) -> Failure | None:
    spec = endpoint.spec
    try:
        async with asyncio.timeout(plane.settings.dial_timeout or None):
            if _is_address(spec.host):
                began = perf_counter_ns()
                steps.lookup = 0
                await plane.loop.create_connection(lambda: made, spec.host, spec.port)
                steps.connect = perf_counter_ns() - began
            else:
                sock = await _connected(plane.loop, spec.host, spec.port, steps)
                await plane.loop.create_connection(lambda: made, sock=sock)
    except (OSError, TimeoutError, UnicodeError) as error:
        return dial_failure(endpoint.address, error)
    steps.handshake = 0
    return None


async def _dial_tls(plane: Plane, endpoint: Endpoint, made: asyncio.Protocol, steps: Steps) -> Failure | None:
    """The certificate must carry the name of the registration, or else the host dialled (contract §9.4)."""
    spec = endpoint.spec
    name = spec.server_cert_domain_san or spec.host
    context = endpoint.tls_context or plane.back_context(http2=isinstance(made, _ByAgreement))
    OFFERED.set(endpoint.connections.session(context) if endpoint.connections is not None else None)
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(plane.settings.dial_timeout or None):
            sock = await _connected(plane.loop, spec.host, spec.port, steps)
        began = perf_counter_ns()
        async with asyncio.timeout(plane.settings.tls_handshake_timeout or None):
            await plane.loop.create_connection(lambda: made, sock=sock, ssl=context, server_hostname=name)
        steps.handshake = perf_counter_ns() - began
    except ssl.SSLError as error:
        return tls_failure(name, error)
    except TimeoutError as error:
        return dial_failure(endpoint.address, error) if sock is None else handshake_timeout()
    except (OSError, UnicodeError) as error:
        return dial_failure(endpoint.address, error)
    return None


def _is_address(host: str) -> bool:
    """Not a name that must be looked up."""
    return ":" in host or host.replace(".", "").isdigit()


async def _connected(loop: asyncio.AbstractEventLoop, host: str, port: int, steps: Steps) -> socket.socket:
    """A socket connected to the first of the host's addresses that takes it. Raises OSError."""
    began = perf_counter_ns()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    looked_up = perf_counter_ns()
    steps.lookup = 0 if _is_address(host) else looked_up - began
    failed: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            steps.connect = perf_counter_ns() - looked_up
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise failed or OSError(f"{host} has no address")
