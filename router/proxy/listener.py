"""Listening: connections in, frontends out, with TLS and the PROXY protocol in between where they are asked for.

Without the PROXY protocol the event loop accepts. With it the header must be read before TLS begins and before the
frontend knows who its client is: we accept ourselves, look at the first bytes, and hand the connection on when they
are read.

The kernel makes connections by itself. With the last descriptor of a listening socket it resets those that nobody has
accepted yet, and the requests that are already on them are lost. So who stops listening first takes in all who wait.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Protocol

from router.http import proxy_header
from router.proxy.frontend_h1 import FrontendH1

if TYPE_CHECKING:
    from router.proxy.plane import Plane

BACKLOG = 4096
"""Connections that may wait to be accepted, per listening socket."""
HEADER_TIMEOUT = 5.0
"""Seconds for a PROXY header that has begun."""
SILENCE = 0.1
"""Seconds of a client's silence after which no PROXY header is expected (contract §8.8)."""
_POLL = 0.005  # seconds between two looks at a header that is not complete
_PAUSE = 0.1  # seconds without accepting when the process has no descriptor left
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Address = tuple[str, int]


class Closable(Protocol):
    """Something that listens, until `close`."""

    def close(self) -> None: ...


async def listen(plane: Plane, sock: socket.socket, context: ssl.SSLContext | None) -> Closable:
    """Accept connections on a bound socket: HTTPS with a context, HTTP without. Gives what `close` ends."""
    if plane.settings.enable_proxy:
        return ProxyDoor(plane, sock, context)
    ours = sock.dup()  # the event loop closes the one it gets
    server = await plane.loop.create_server(
        lambda: frontend(plane, context is not None),
        sock=sock,
        backlog=BACKLOG,
        ssl=context,
        ssl_handshake_timeout=_handshake_timeout(plane, context),
    )
    return Door(plane, server, ours, context)


def _handshake_timeout(plane: Plane, context: ssl.SSLContext | None) -> float | None:
    return plane.settings.tls_handshake_timeout or None if context is not None else None


def _waiting(sock: socket.socket) -> Iterator[tuple[socket.socket, Address]]:
    """Connections that nobody has accepted yet, and their peers."""
    for _ in range(BACKLOG):
        try:
            connection, peer = sock.accept()
        except ConnectionAbortedError:
            continue
        except OSError:
            return  # that was all, or there are no descriptors left
        yield connection, peer[:2]


def _greet(plane: Plane, greeting: Coroutine[None, None, None]) -> None:
    """Have this make a connection somebody's; the plane does not stop before."""
    task = plane.loop.create_task(greeting)
    plane.greeting.add(task)
    task.add_done_callback(plane.greeting.discard)


async def _hand_on(
    plane: Plane, connection: socket.socket, context: ssl.SSLContext | None, client: Address | None = None
) -> None:
    """Give an accepted connection to a frontend of its own."""
    try:
        await plane.loop.connect_accepted_socket(
            lambda: frontend(plane, context is not None, client),
            connection,
            ssl=context,
            ssl_handshake_timeout=_handshake_timeout(plane, context),
        )
    except OSError:  # the client went, or its TLS is none: ssl.SSLError is an OSError
        connection.close()


def frontend(plane: Plane, secure: bool, client: Address | None = None) -> asyncio.Protocol:
    """What serves a new connection; `client` is who sends, where that is not the connection's peer."""
    return ByAgreement(plane, client) if secure and plane.settings.enable_http2 else FrontendH1(plane, client)


class ByAgreement(asyncio.Protocol):
    """Waits for the TLS handshake, and has HTTP/2 or HTTP/1.1 as the two sides agreed in it (ALPN, RFC 7301)."""

    __slots__ = ("_client", "_plane")

    def __init__(self, plane: Plane, client: Address | None) -> None:
        self._plane = plane
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        chosen: asyncio.Protocol
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            from router.proxy.frontend_h2 import FrontendH2  # loaded with the first client that speaks it

            chosen = FrontendH2(self._plane, self._client)
        else:
            chosen = FrontendH1(self._plane, self._client)
        transport.set_protocol(chosen)
        chosen.connection_made(transport)


class Door:
    """Where the event loop accepts connections, with a descriptor of our own of the socket it listens on."""

    def __init__(
        self, plane: Plane, server: asyncio.AbstractServer, sock: socket.socket, context: ssl.SSLContext | None
    ) -> None:
        self._plane = plane
        self._server = server
        self._sock = sock
        self._context = context

    def close(self) -> None:
        """Accept no more, but those who wait."""
        self._server.close()
        for connection, _ in _waiting(self._sock):
            connection.setblocking(False)
            _greet(self._plane, _hand_on(self._plane, connection, self._context))
        self._sock.close()


class ProxyDoor:
    """Accepts connections that may begin with a PROXY header."""

    def __init__(self, plane: Plane, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self._plane = plane
        self._sock = sock
        self._context = context
        self._trusted = [ipaddress.ip_network(text) for text in plane.settings.proxy_trusted_sources]
        self._resume: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(BACKLOG)
        plane.loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more, but those who wait; who is being greeted still becomes a client."""
        if self._resume is not None:
            self._resume.cancel()
        self._plane.loop.remove_reader(self._sock.fileno())
        for connection, peer in _waiting(self._sock):
            self._take(connection, peer)
        self._sock.close()

    def _accept(self) -> None:
        loop = self._plane.loop
        try:
            connection, peer = self._sock.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                loop.remove_reader(self._sock.fileno())
                self._resume = loop.call_later(_PAUSE, loop.add_reader, self._sock.fileno(), self._accept)
            return
        self._take(connection, peer[:2])

    def _take(self, connection: socket.socket, peer: Address) -> None:
        connection.setblocking(False)
        _greet(self._plane, self._greet(connection, peer))

    async def _greet(self, connection: socket.socket, peer: Address) -> None:
        """Read the header and hand the connection on, or close it."""
        plane = self._plane
        try:
            client = await self._client(connection, peer)
        except proxy_header.Malformed as error:
            plane.log.warn("proxy-header-refused", peer=f"{peer[0]}:{peer[1]}", reason=str(error))
            connection.close()
            return
        except (OSError, asyncio.CancelledError):
            connection.close()
            return
        await _hand_on(plane, connection, self._context, client)

    async def _client(self, connection: socket.socket, peer: Address) -> Address:
        """Who the client is. Raises OSError, proxy_header.Malformed."""
        if not self._trusts(peer[0]):
            return peer
        loop = self._plane.loop
        began = loop.time()
        while True:
            try:
                data = connection.recv(proxy_header.LONGEST, socket.MSG_PEEK)
            except BlockingIOError:
                if loop.time() - began > SILENCE:
                    return peer
                data = b""
            else:
                if not data:
                    raise ConnectionResetError("it closed before it sent anything")
                header = proxy_header.read(data)
                if header is not None:
                    connection.recv(header.size)
                    return (header.ip, header.port) if header.ip else peer
                if loop.time() - began > HEADER_TIMEOUT:
                    raise proxy_header.Malformed("it did not come whole in time")
            await asyncio.sleep(_POLL)

    def _trusts(self, ip: str) -> bool:
        if not self._trusted:
            return True
        address = ipaddress.ip_address(ip)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)
