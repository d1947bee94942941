"""An HTTP/2 connection to a backend: many requests at once, each a stream (RFC 9113, contract §8.7).

A stream is to its exchange what an HTTP/1.1 connection is: the same calls. The connection stays with its endpoint until
the backend says GOAWAY, it breaks, or it has been idle for as long as idle connections are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from router.http.h2_fields import request_block, response_head, safe_trailers
from router.http.h2_frames import HIGHEST, Code, Setting, code_name
from router.http.h2_protocol import Violation
from router.http.hpack import Field
from router.http.message import BadMessage, HeaderList
from router.proxy.failures import TOO_MANY_HEADERS, Failure, Retry, head_too_long, lost, malformed
from router.proxy.h2_connection import H2Peer, H2Stream

if TYPE_CHECKING:
    from router.proxy.connections import Connections
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane


class BackendStream(H2Stream):
    """One request to the backend and its response."""

    __slots__ = ("answered",)

    connection: BackendH2

    def __init__(self, connection: BackendH2) -> None:
        super().__init__(connection, 0)  # numbered when it begins: numbers must go out in order
        self.answered = False
        """A final response head came."""

    @property
    def usable(self) -> bool:
        return self.connection.usable

    @property
    def local(self) -> str:
        """Our end of the connection, `host:port`."""
        return self.connection.local

    # -------------------------------------------------------- from the exchange

    def start(self, exchange: Exchange, body: bytes) -> None:
        """Send the request of `exchange`: its head, with what there is of its body. The answer goes to `exchange`."""
        self.exchange = exchange
        if not self.connection.open(self):
            self.exchange = None
            exchange.plane.loop.call_soon(_not_sent, exchange)
            return
        request = exchange.request
        lines = exchange.lines + exchange.endpoint.head_lines  # type: ignore[union-attr]
        self.begin(request_block(request, lines, exchange.takes_trailers), body)
        if exchange.request_done:
            self.end(exchange.request_trailers)

    def send_body(self, data: bytes) -> None:
        """Send bytes of the request's body."""
        self.send(data)

    def finish(self, trailers: HeaderList) -> None:
        """The request is complete, with these trailers."""
        if self.exchange is not None and not self.ended:
            self.end(trailers)

    def abort(self) -> None:
        """The exchange is over before its time."""
        self.exchange = None
        if self.id:
            self.connection.end(self, Code.CANCEL)
            self.connection.maybe_close()

    def close(self) -> None:
        """Never begun: nothing to close."""

    # -------------------------------------------------------- the request goes out

    def filled(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_full()

    def drained(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_drained()

    def all_sent(self) -> None:
        if self.remote_done:
            self.connection.forget(self)

    def reset_sent(self, code: Code, reason: str) -> None:
        self.failed(malformed(reason))

    def failed(self, failure: Failure, *, unseen: bool = False) -> None:
        """The attempt came to nothing. `unseen`: the backend says that it has not looked at the request."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.attempt_failed(failure, stale=unseen)

    # -------------------------------------------------------- the response

    def head_received(self, fields: list[Field] | None, ended: bool) -> None:
        """A header block that is not the trailers'; None: more than we take."""
        exchange = self.exchange
        if exchange is None:
            return
        plane = self.connection.plane
        if fields is None:
            self._refuse(head_too_long(plane.settings.max_response_head))
            return
        try:
            head = response_head(fields, ended, exchange.request.method, plane.rewrite)
        except BadMessage as bad:
            self._refuse(malformed(bad.reason))
            return
        limit = plane.settings.max_response_headers
        if limit and len(head.headers) > limit:
            self._refuse(TOO_MANY_HEADERS)
        elif head.status >= 200:
            self.answered = True
            if head.body >= 0:
                self.awaited = head.body
            exchange.response_head(head, b"", False)
            if ended:
                self.response_complete([])
        elif ended:
            self._refuse(malformed("an interim response that ends the stream"))
        else:
            exchange.interim_head(head)

    def _refuse(self, failure: Failure) -> None:
        self.connection.end(self, Code.PROTOCOL_ERROR)
        self.failed(failure)

    def data_came(self, data: bytes, size: int, ended: bool) -> None:
        if not self.answered and self.exchange is not None:
            self._refuse(malformed("a body before its head"))
            return
        if data and self.exchange is not None:
            self.exchange.response_body(data)
        self.came(size)
        if ended:
            self.response_complete([])

    def trailers_received(self, fields: list[Field] | None) -> None:
        """The header block that ends the response; None: more than we take."""
        if fields is None:
            self._refuse(head_too_long(self.connection.plane.settings.max_response_head))
            return
        try:
            trailers = safe_trailers(fields)
        except BadMessage as bad:
            self._refuse(malformed(bad.reason))
        else:
            self.response_complete(trailers)

    def response_complete(self, trailers: HeaderList) -> None:
        """The response is whole, with these trailers."""
        exchange, self.exchange = self.exchange, None
        connection = self.connection
        connection.served += 1
        if self.sent:
            connection.forget(self)
        else:  # the rest of the request is not wanted
            connection.end(self, Code.NO_ERROR)
        connection.maybe_close()
        if exchange is not None:
            exchange.response_complete(trailers)


class BackendH2(H2Peer[BackendStream]):
    """A connection, shared by many exchanges."""

    __slots__ = ("_abandoned", "_going", "address", "connections", "idle_since", "local", "served", "settled", "usable")

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane, server=False, largest_head=plane.settings.max_response_head)
        self.address = ""
        self.local = ""
        self.connections: Connections | None = None
        self.idle_since = monotonic()
        self.served = 0
        """Requests answered over this connection."""
        self.usable = False
        self.peer_streams = 1  # may go ahead before the backend has said how many it takes
        self.settled: Callable[[BackendH2], None] | None = None
        """Told when it has, or the connection is gone without it."""
        self._abandoned = False
        self._going = False

    @property
    def room(self) -> bool:
        """Another request may begin."""
        return self.usable and len(self.streams) < self.peer_streams and self.newest < HIGHEST

    def new_stream(self) -> BackendStream:
        """For one more request."""
        return BackendStream(self)

    def open(self, stream: BackendStream) -> bool:
        """Give the stream its number; heads go out in this order. False: the connection takes no more."""
        if not self.room:
            return False
        stream.id = self.newest = self.newest + 2 if self.newest else 1
        stream.window = self.peer_window
        self.streams[stream.id] = stream
        return True

    def end(self, stream: BackendStream, code: int) -> None:
        if stream.head:  # the backend has not heard of it yet
            self.forget(stream)
        else:
            super().end(stream, code)

    def close(self) -> None:
        """Close an idle connection."""
        self.usable = False
        self.transport.close()

    def abandon(self) -> None:
        """Nobody waits for this connection any more, whether it is made already or about to be."""
        self._abandoned = True
        if self.usable:
            self.usable = False
            self.transport.abort()

    def retire(self) -> None:
        """Take no further requests; close when those at hand are answered."""
        self.usable = False
        self._going = True
        if self.connections is not None:
            self.connections.forget_shared(self)
        self.maybe_close()

    def maybe_close(self) -> None:
        if not self.streams:
            self.idle_since = monotonic()
            if self._going:
                self.transport.close()

    # -------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._abandoned:
            transport.abort()  # type: ignore[attr-defined]
            return
        self.usable = True
        host, port = transport.get_extra_info("sockname")[:2]
        self.local = f"{host}:{port}"
        host, port = transport.get_extra_info("peername")[:2]
        self.address = f"{host}:{port}"
        self.start(transport, {Setting.ENABLE_PUSH: 0})

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self.connections is not None:
            self.connections.forget_shared(self)
        self.introduced()
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.failed(lost(self.local, self.address, error, False))

    def data_received(self, data: bytes) -> None:
        try:
            self.feed(data)
        except Violation as violation:
            self.last_words(violation.code, str(violation))
            self.write()
            self.usable = False
            streams, self.streams = self.streams, {}
            for stream in streams.values():
                stream.failed(malformed(str(violation)))
            self.transport.close()
            return
        if self.out and not self._flushing:
            self.write()

    # -------------------------------------------------------- what the backend does

    def headers_came(self, id: int, fields: list[Field] | None, ended: bool) -> None:
        stream = self.streams.get(id)
        if stream is None:
            self.stray_headers(id)
        elif stream.answered:
            if self.trailers_came(stream, ended):
                stream.trailers_received(fields)
        else:
            stream.remote_done = ended
            stream.head_received(fields, ended)

    def introduced(self) -> None:
        settled, self.settled = self.settled, None
        if settled is not None:
            settled(self)

    def reset_came(self, stream: BackendStream, code: int) -> None:
        refused = code == Code.REFUSED_STREAM  # RFC 9113 §8.7: it was not processed
        reason = f"stream error: stream ID {stream.id}; {code_name(code)}; received from peer"
        stream.failed(Failure(reason, Retry.ALWAYS if refused else Retry.NEVER, False), unseen=refused)
        self.maybe_close()

    def goaway_came(self, last: int, code: int) -> None:
        """What came after the last stream it names was not processed (RFC 9113 §6.8)."""
        self.retire()
        for stream in [stream for id, stream in self.streams.items() if id > last]:
            self.forget(stream)
            failure = Failure("http2: server sent GOAWAY and closed the connection", Retry.ALWAYS, False)
            stream.failed(failure, unseen=True)
        self.maybe_close()

    def annoyed(self, weight: float) -> None:
        """Backends are not counted: whoever registers one can do worse."""


def _not_sent(exchange: Exchange) -> None:
    if exchange.backend is not None:
        failure = Failure("http2: the connection takes no more requests", Retry.ALWAYS, False)
        exchange.attempt_failed(failure, stale=True)
