"""One HTTP/1.1 connection to a backend.

It is given requests one after the other (`start`, `send_body`, `finish`), builds their heads and frames their bodies
(RFC 9112 §6, contract §5.2), and tells the exchange what comes back (`response_head`, `response_body`,
`response_complete`, `attempt_failed`). It knows of its exchange and of nothing in front of it. When a response is
complete and the connection good for another, it goes back to the endpoint's idle ones before the exchange learns of
it, so that the next request can have it at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from math import ceil
from typing import TYPE_CHECKING, cast

from router.http.framing import ChunkedReader, chunk, last_chunk
from router.http.message import CHUNKED, NO_BODY, UNTIL_CLOSE, BadMessage, HeaderList
from router.http.request import BODY_EXPECTED
from router.http.response import ResponseHead
from router.proxy.bulk import HIGH_WATER, LONG, BulkReader
from router.proxy.failures import TOO_MANY_HEADERS, Failure, Retry, head_too_long, lost, malformed

if TYPE_CHECKING:
    from router.proxy.connections import Connections
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane

CLOSE = b"Connection: close\r\n"
_TE = b"TE: trailers\r\nConnection: TE\r\n"
_TE_AND_CLOSE = b"TE: trailers\r\nConnection: close, TE\r\n"
"""`TE` is for the next hop only, and says so (RFC 9110 §10.1.4)."""
_PROBES = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 0),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 0),
)
"""Socket options and their values, 0 = the probe interval in seconds."""
ONE_WRITE = 16 * 1024
"""Bytes that the system takes from an idle connection whole or not at all: less than its smallest send buffer."""
MAX_REMEMBERED_HEAD = 4096
"""Bytes of a response head that a connection remembers."""
_HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE = range(4)


class BackendH1(asyncio.Protocol):
    """A connection, in use by one exchange or idle."""

    __slots__ = (
        # for ever
        "address",
        "connections",
        "_abandoned",
        "local",
        "plane",
        "transport",
        "usable",
        # from request to request
        "idle_since",
        "served",
        "_recent",
        "_recent_raw",
        # per request
        "_buffer",
        "_bulk",
        "_chunking",
        "_chunks",
        "_in_one",
        "_keep",
        "_last",
        "_left",
        "_paused",
        "_sent",
        "_state",
        "exchange",
    )

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.address = ""
        self.local = ""
        self._abandoned = False
        self.connections: Connections | None = None
        self.usable = False
        self.idle_since = 0.0
        self.served = 0
        """Requests answered over this connection."""
        self.exchange: Exchange | None = None
        self._buffer = b""
        self._bulk: BulkReader | None = None
        self._chunking = False
        """The request's body goes out in chunks."""
        self._chunks: ChunkedReader | None = None
        self._in_one = False
        self._keep = False
        self._last = False
        """The backend was told that no other request comes."""
        self._left = 0
        self._paused = False
        self._sent = False
        self._state = _HEAD
        self._recent_raw = b""
        """The last response head, as it came: a backend asked for the same again says the same again."""
        self._recent: ResponseHead | None = None

    # -------------------------------------------------------- from the exchange

    def start(self, exchange: Exchange, body: bytes) -> None:
        """Send the request of `exchange`: its head, with what there is of its body. The answer goes to `exchange`."""
        self.exchange = exchange
        request = exchange.request
        self._sent = exchange.request_done
        if request.body == NO_BODY:
            self._chunking = False
            framing = b"Content-Length: 0\r\n" if request.method in BODY_EXPECTED else b""
        elif request.body == CHUNKED:
            self._chunking = True
            framing = b"Transfer-Encoding: chunked\r\n"
            if body:
                body = chunk(body)
            if self._sent:
                body += last_chunk(exchange.request_trailers)
        else:
            self._chunking = False
            framing = b"Content-Length: %d\r\n" % request.body
        connection = self.plane.backend_connection_line
        if exchange.upgrade:
            connection = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % exchange.upgrade
        elif exchange.expects and not self.plane.settings.keep_alive_100_continue:
            connection = CLOSE
        self._last = connection is CLOSE
        if b"te" in request.noted and exchange.takes_trailers and not exchange.upgrade:
            connection = _TE_AND_CLOSE if self._last else _TE
        data = b"".join(
            (
                request.line,
                b" HTTP/1.1\r\nHost: ",
                request.raw_host,
                b"\r\n",
                request.text,
                exchange.lines,
                framing,
                connection,
                exchange.endpoint.head_lines,  # type: ignore[union-attr]
                body,
            )
        )
        self._in_one = len(data) <= ONE_WRITE
        self.transport.write(data)

    def send_body(self, data: bytes) -> None:
        """Send bytes of the request's body."""
        self._in_one = False
        self.transport.write(chunk(data) if self._chunking else data)

    def finish(self, trailers: HeaderList) -> None:
        """The request is complete, with these trailers."""
        self._sent = True
        if self._chunking:
            self._in_one = False
            self.transport.write(last_chunk(trailers))

    def abort(self) -> None:
        """The exchange is over before its time: this connection can't be used again."""
        self.exchange = None
        self.usable = False
        self.transport.abort()

    def abandon(self) -> None:
        """Nobody waits for this connection any more, whether it is made already or about to be."""
        self._abandoned = True
        self.plane.backends.discard(self)  # a transport that uvloop closes while it dials tells its protocol nothing
        if self.usable:
            self.usable = False
            self.transport.abort()

    def hand_over(self) -> asyncio.Transport:
        """Give the transport away, to a tunnel: this object knows it no more."""
        self.plane.backends.discard(self)
        self.exchange = None
        self.usable = False
        return self.transport

    def forget_head(self) -> None:
        """The rules for heads have changed."""
        self._recent_raw = b""

    def close(self) -> None:
        """Close an idle connection."""
        self.usable = False
        self.transport.close()

    def pause_reading(self) -> None:
        if self.exchange is not None:  # else the response is in, and the next one must be read
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    # -------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._abandoned:
            self.transport.abort()
            return
        self.usable = True
        self.transport.set_write_buffer_limits(HIGH_WATER)
        host, port = transport.get_extra_info("sockname")[:2]
        self.local = f"{host}:{port}"
        host, port = transport.get_extra_info("peername")[:2]
        self.address = f"{host}:{port}"
        self.plane.backends.add(self)
        interval = ceil(self.plane.settings.probe_interval)
        sock = transport.get_extra_info("socket")
        if interval and sock is not None:
            for level, option, value in _PROBES:
                sock.setsockopt(level, option, value or interval)

    def connection_lost(self, error: Exception | None) -> None:
        self.plane.backends.discard(self)
        if self.connections is not None and self.connections.tls is not None:
            self.connections.put_session_by(self.transport.get_extra_info("ssl_object"))
        was_usable, self.usable = self.usable, False
        exchange = self.exchange
        if exchange is None:
            if was_usable and self.connections is not None:
                self.connections.closed_by_peer(self)
            return
        if error is not None and not self._sent:
            self._read_rest()
            exchange = self.exchange
            if exchange is None:
                return
        self.exchange = None
        if self._state == _UNTIL_CLOSE and error is None:
            exchange.response_complete([])
        else:
            failure = lost(self.local, self.address, error, self._in_one and self._state == _HEAD)
            if self._buffer and failure.retry is Retry.IDEMPOTENT:
                failure = failure._replace(retry=Retry.NEVER)  # the answer had begun
            if self.served and not self._buffer and self._state == _HEAD:
                # An idle connection that the peer closed just then says nothing about the endpoint.
                if self.connections is not None:
                    self.connections.closed_by_peer(self)
                if failure.retry is not Retry.ALWAYS:
                    failure = Failure(failure.reason, Retry.IDEMPOTENT, False)
            exchange.attempt_failed(failure, stale=self.served > 0)

    def _read_rest(self) -> None:
        """Our writing failed, but an answer may wait to be read: a backend that has read enough answers, and closes.

        The socket is still open here. (Under TLS what waits is not readable, and the attempt has failed.)
        """
        if self.transport.get_extra_info("ssl_object") is not None:
            return
        fd = self.transport.get_extra_info("socket").fileno()
        try:
            while self.exchange is not None and (data := os.read(fd, LONG)):
                self.data_received(data)
        except OSError:
            pass  # nothing waits, or it was reset

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_full()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.backend_drained()

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Bytes that nobody asked for: whatever they are, no request may be answered with them.
            self.usable = False
            self.transport.abort()
            return
        state = self._state
        if state == _HEAD:
            self._head_data(exchange, data)
        elif state == _LENGTH:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                exchange.response_body(data)
                return
            if left < 0:
                data = data[: self._left]
                self._keep = False
            exchange.response_body(data)
            if self.exchange is exchange:
                self._release()
                exchange.response_complete([])
        else:
            if self._bulk is None and len(data) >= LONG:
                self._bulk = BulkReader(self.transport, self)
            if state == _CHUNKED:
                self._chunked_data(exchange, data)
            else:
                exchange.response_body(data)

    # -------------------------------------------------------- reading a response

    def _head_data(self, exchange: Exchange, data: bytes) -> None:
        while True:
            if self._buffer:
                data = self._buffer + data
                self._buffer = b""
            end = data.find(b"\r\n\r\n") + 4
            plane = self.plane
            if end < 4:
                self._buffer = data
                if len(data) > plane.settings.max_response_head:
                    self._fail(exchange, head_too_long(plane.settings.max_response_head))
                elif b"\n\n" in data or data[:1] not in b"H":
                    self._fail(exchange, malformed("no status line"))
                return
            if end > plane.settings.max_response_head:
                self._fail(exchange, head_too_long(plane.settings.max_response_head))
                return
            raw = data[:end]
            if raw == self._recent_raw and exchange.request.method != b"HEAD":
                head = cast(ResponseHead, self._recent)
            else:
                try:
                    head = plane.parse_response(raw, exchange.request.method)
                except BadMessage as bad:
                    self._fail(exchange, malformed(bad.reason))
                    return
                if head.length is not None and end <= MAX_REMEMBERED_HEAD and exchange.request.method != b"HEAD":
                    self._recent_raw, self._recent = raw, head
            limit = plane.settings.max_response_headers
            if limit and len(head.headers) > limit:
                self._fail(exchange, TOO_MANY_HEADERS)
                return
            data = data[end:]
            if head.status >= 200:
                self._final_head(exchange, head, data)
                return
            if head.status == 101:
                if not exchange.switched(head, data):
                    self._fail(exchange, malformed("101 Switching Protocols that was not asked for"))
                return
            exchange.interim_head(head)
            if not data or self.exchange is not exchange:
                return

    def _final_head(self, exchange: Exchange, head: ResponseHead, data: bytes) -> None:
        self._keep = head.keep_alive
        body = head.body
        if body > 0:
            left = body - len(data)
            if left > 0:
                self._state = _LENGTH
                self._left = left
                if left > LONG:
                    self._bulk = BulkReader(self.transport, self)
                exchange.response_head(head, data, False)
                return
            if left < 0:
                data = data[:body]
                self._keep = False
            self._release()
            exchange.response_head(head, data, True)
        elif body == NO_BODY:
            if data:
                self._keep = False
            self._release()
            exchange.response_head(head, b"", True)
        elif body == CHUNKED:
            self._state = _CHUNKED
            self._chunks = ChunkedReader()
            exchange.response_head(head, b"", False)
            if data and self.exchange is not None:  # which may be another now (`proxy.hedge`)
                self._chunked_data(self.exchange, data)
        else:
            assert body == UNTIL_CLOSE
            self._state = _UNTIL_CLOSE
            exchange.response_head(head, data, False)

    def _chunked_data(self, exchange: Exchange, data: bytes) -> None:
        chunks = self._chunks
        assert chunks is not None
        try:
            payload = chunks.feed(data)
        except BadMessage as bad:
            self._fail(exchange, malformed(bad.reason))
            return
        if payload:
            exchange.response_body(payload)
        if chunks.done and self.exchange is exchange:
            if chunks.rest:
                self._keep = False
            self._release()
            exchange.response_complete(chunks.trailers)

    def _release(self) -> None:
        """The response is complete: become idle, or close."""
        self.exchange = None
        self._state = _HEAD
        self._chunks = None
        if self._bulk is not None:
            self._bulk.end()
            self._bulk = None
        self.served += 1
        plane = self.plane
        if self._keep and self._sent and self.usable and not self._last:
            assert self.connections is not None
            if self._paused:
                self.resume_reading()
            self.connections.give(self, plane.settings.max_idle_per_endpoint)
        elif self._sent:
            self.usable = False
            self.transport.close()
        else:
            # An early answer: what still waits to be sent is of no use, and a backend that reads no more would keep it.
            self.usable = False
            self.transport.abort()

    def _fail(self, exchange: Exchange, failure: Failure) -> None:
        self.abort()
        exchange.attempt_failed(failure, stale=False)
