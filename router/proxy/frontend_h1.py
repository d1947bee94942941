"""One HTTP/1.1 connection of a client.

Cuts what comes in into requests, one at a time and in order (pipelined ones wait), and writes what the exchange
commands. It knows its exchange and nothing of backends. Framing towards the client is decided here, because it
depends on the client's version and on nothing else (RFC 9112 §6).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from router.http.errors import Answer, refusal, status_line
from router.http.framing import ChunkedReader, LengthReader, chunk, last_chunk
from router.http.message import NO_BODY, BadMessage, HeaderList
from router.http.request import Recent
from router.http.response import STATUS_LINES, ResponseHead
from router.observe.counters import Counter
from router.proxy.bulk import HIGH_WATER, LONG, BulkReader
from router.proxy.client import QUIET, introduce, unread
from router.proxy.exchange import Exchange
from router.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from router.proxy.backend_h1 import BackendH1
    from router.proxy.half_closed import Ended
    from router.proxy.plane import Plane

MAX_PIPELINED = 64 * 1024
"""Bytes of further requests taken in while one is being answered."""
MAX_DISCARDED = 256 * 1024
"""Bytes of an unwanted request body that are read to keep the connection; more than that closes it (contract §8.4)."""
LINGER = 2.0
"""Seconds in which a closing connection still takes in what the client sends, so that it gets to read our answer."""
FORGET_AFTER = 1.0
"""Seconds of idleness after which a connection forgets its last header lines: idle ones are there by the thousand."""
_SPACE = 0x20
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class FrontendH1(asyncio.Protocol):
    """A client's connection."""

    __slots__ = (
        # for ever
        "peer",
        "client_certificate",
        "peer_ip",
        "secure",
        "plane",
        "transport",
        # from request to request
        "_buffer",
        "_ended",
        "_full",
        "_linger_until",
        "_partial",
        "_paused",
        "_pumping",
        "_recent",
        "_served",
        "_since",
        "_unsent",
        # per request
        "_body",
        "_bulk",
        "_chunking",
        "_discarded",
        "_keep",
        "exchange",
    )

    def __init__(self, plane: Plane, client: tuple[str, int] | None = None) -> None:
        """`client` is who sends, where that is not the peer of the connection (PROXY protocol)."""
        host, port = client or ("", 0)
        self.plane = plane
        self.peer_ip = host.encode()
        self.peer = b"%b:%d" % (self.peer_ip, port) if client else b""
        """`ip:port` of the client."""
        self.secure = False
        """The client speaks TLS."""
        self.client_certificate = b""
        """The certificate it showed, base64 of its DER."""
        self.exchange: Exchange | None = None
        self._buffer = b""
        self._ended: Ended | None = None
        """The client sends no more, but seems to wait for its answer (`proxy.half_closed`)."""
        self._full = False
        self._linger_until = 0.0
        self._partial = True
        """Some of a head is there, or none of the first: the time for a head runs."""
        self._paused = False
        self._pumping = False
        self._recent = Recent()
        self._served = 0
        self._unsent = 0
        self._since = 0.0
        """When the connection last began to wait: for a request, for more of its head or body, or to be read."""
        self._body: LengthReader | ChunkedReader | None = None
        self._bulk: BulkReader | None = None
        self._chunking = False
        self._discarded = 0
        self._keep = True

    # -------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        if not introduce(self, transport):
            self.transport.abort()
        plane = self.plane
        self._since = plane.clock.now
        full = plane.full()
        plane.frontends[self] = None
        if full:
            self._reject(503, "too many connections", b"Retry-After: 1\r\n")

    def eof_received(self) -> bool:
        """The client ends its side. True: it may still want the answer to what it has asked for in full.

        Over TLS that is not possible: the event loop closes both sides.
        """
        exchange = self.exchange
        asked = (self._full and self._buffer) if exchange is None else not exchange.upgrade
        if not asked or self._body is not None or self.secure or self._linger_until:
            return False
        if self._ended is None:
            self._ended = self.plane.half_closed.add(self)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.plane.frontends.pop(self, None)
        if self._ended is not None:
            self.plane.half_closed.forget(self._ended)
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._full = True
        self._since = self.plane.clock.now
        self._unsent = self.transport.get_write_buffer_size()
        if self.exchange is not None:
            self.exchange.client_full()

    def resume_writing(self) -> None:
        self._full = False
        if self.exchange is not None:
            self.exchange.client_drained()
        else:
            self._pump()

    def data_received(self, data: bytes) -> None:
        if self._linger_until:
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._pump()

    # -------------------------------------------------------- reading requests

    def _pump(self) -> None:
        """Work on what has come in, until more is needed or an answer must be waited for."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._buffer and not self._linger_until:
                if self._body is not None:
                    self._take_body(self._body)
                elif self.exchange is not None or self._full:
                    if len(self._buffer) > MAX_PIPELINED:
                        self.pause_reading()
                    return
                elif not self._take_head():
                    return
        finally:
            self._pumping = False

    def _take_head(self) -> bool:
        """Begin the request at the start of the buffer. False: its head isn't complete, or can't be read."""
        data = self._buffer
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return self._partial_head(data)
        if data[0] <= _SPACE:
            return self._before_head(data)
        plane = self.plane
        if end > plane.max_head:
            self._reject(431, "request head too large")
            return False
        try:
            request = plane.parse_request(data[:end], self._recent)
        except BadMessage as bad:
            self._reject(bad.status, bad.reason)
            return False
        if len(request.target) > plane.settings.max_target:
            self._reject(414, "request target too long")
            return False
        self._buffer = data[end:]
        self._served += 1
        self._partial = False
        if request.body != NO_BODY:
            self._body = LengthReader(request.body) if request.body > 0 else ChunkedReader()
            self._discarded = 0
        most = plane.settings.max_requests_per_connection
        self._keep = request.keep_alive and not plane.stopping and not (most and self._served >= most)
        exchange = self.exchange = Exchange(plane, self, request)
        if self._body is not None and self._buffer:
            # What is here of the body goes with the head, in one write.
            self._take_body(self._body)
        if self.exchange is exchange:
            try:
                exchange.start()
            except Exception as error:
                exchange.crashed(error)
        return True

    def _partial_head(self, data: bytes) -> bool:
        if data[0] <= _SPACE and data != b"\r":
            return self._before_head(data)
        if self._ended is not None:
            self.transport.close()
            return False
        if not self._partial:
            self._partial = True
            self._since = self.plane.clock.now
        if len(data) > self.plane.max_head:
            self._reject(431, "request head too large")
        elif b"\n" in data.replace(b"\r\n", b""):
            self._reject(400, "bare LF in the request head")
        elif b"\0" in data:
            self._reject(400, "NUL in the request head")
        return False

    def _before_head(self, data: bytes) -> bool:
        """An empty line before a request line is forgiven (RFC 9112 §2.2), any other white space is not."""
        if data.startswith(b"\r\n"):
            self._buffer = data[2:]
            return len(self._buffer) > 0
        self._reject(400, "white space before the request line")
        return False

    def _take_body(self, body: LengthReader | ChunkedReader) -> None:
        data = self._buffer
        self._buffer = b""
        self._since = self.plane.clock.now
        if len(data) >= LONG and self._bulk is None:
            self._bulk = BulkReader(self.transport, self)
        exchange = self.exchange
        try:
            payload = body.feed(data)
        except BadMessage as bad:
            self._bad_body(bad)
            return
        if payload:
            if exchange is not None:
                exchange.request_body(payload)
            else:
                self._discarded += len(payload)
                if self._discarded > MAX_DISCARDED:
                    self._linger()
                    return
        if body.done:
            self._body = None
            if self._bulk is not None:
                self._bulk.end()
                self._bulk = None
            self._buffer = body.rest
            if exchange is None:
                self._since = self.plane.clock.now
            elif self.exchange is exchange:
                exchange.request_complete(body.trailers)

    def _bad_body(self, bad: BadMessage) -> None:
        """The framing of a request body broke: nothing after it can be read, and the backend must not see its end."""
        exchange = self.exchange
        if exchange is None:
            self._linger()
            return
        self.exchange = None
        responding = exchange.responding
        exchange.client_gone(bad.status)
        if responding:
            self.abort()
        else:
            self._reject(bad.status, bad.reason)

    def _reject(self, status: int, reason: str, lines: bytes = b"") -> None:
        """Answer what can't be read, and close (contract §6, last table)."""
        self.plane.counters[Counter.UNREADABLE] += 1
        self._buffer = b""
        self.transport.write(refusal(status, reason, lines))
        self._linger()

    # -------------------------------------------------------- from the exchange

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response; HTTP/1.0 knows none (RFC 9110 §15.2)."""
        if self.exchange is not None and self.exchange.request.version != b"1.0":
            self.transport.write(b"%b%b\r\n" % (STATUS_LINES[head.status], head.text))

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, lines: bytes, data: bytes, backend: BackendH1
    ) -> None:
        """Send the 101 and join the two connections; bytes that either side sent early are not lost."""
        upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n" % exchange.upgrade
        self.transport.write(b"".join((STATUS_LINES[101], head.text, upgrade, lines, b"\r\n", data)))
        early, self._buffer = self._buffer, b""
        self.exchange = None
        self.plane.frontends.pop(self, None)
        server = backend.hand_over()
        Tunnel(self.plane, exchange, self.transport, server)
        if early:
            server.write(early)
        self.resume_reading()

    def send_continue(self) -> None:
        """Our own 100."""
        self.transport.write(CONTINUE)

    def send_head(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """A response's head, with further header lines, and the first bytes of its body."""
        exchange = self.exchange
        assert exchange is not None
        version = exchange.request.version
        if exchange.expects:
            self._keep = False  # the client may or may not send its body now: the two readings must not meet
        framing = b""
        length = head.length
        if length is not None:
            framing = b"Content-Length: %b\r\n" % length
        elif head.body != NO_BODY:
            if version == b"1.1":
                self._chunking = True
                framing = b"Transfer-Encoding: chunked\r\n"
                if data:
                    data = chunk(data)
            else:
                self._keep = False
        if self._keep and version == b"1.1":
            status, connection = STATUS_LINES[head.status], b"\r\n"
        else:
            status, connection = status_line(head.status, version), self._connection_line(version) + b"\r\n"
        self.transport.write(
            b"".join(
                (
                    status,
                    head.text,
                    lines,
                    b"" if b"date" in head.noted else self.plane.clock.date_line,
                    framing,
                    connection,
                    data,
                )
            )
        )

    def send_answer(self, answer: Answer, body: bytes) -> None:
        """A router-made response, whole."""
        assert self.exchange is not None
        request = self.exchange.request
        if self.exchange.expects:
            self._keep = False
        self.transport.write(
            b"".join(
                (
                    status_line(answer.status, request.version),
                    answer.headers,
                    self.plane.clock.date_line,
                    self._connection_line(request.version),
                    b"\r\n",
                    body,
                )
            )
        )

    def _connection_line(self, version: bytes) -> bytes:
        if not self._keep:
            return b"Connection: close\r\n"
        return b"" if version == b"1.1" else b"Connection: keep-alive\r\n"

    def send_body(self, data: bytes) -> None:
        """Bytes of a response's body."""
        self.transport.write(chunk(data) if self._chunking else data)

    def finish(self, trailers: HeaderList) -> None:
        """The response is complete, with these trailers; the exchange is over."""
        if self._chunking:
            self._chunking = False
            self.transport.write(last_chunk(trailers))
        self.next_request()

    def next_request(self) -> None:
        """The exchange is over: close, or go on with the next request."""
        self.exchange = None
        self._since = self.plane.clock.now
        self._partial = False
        if not self._keep:
            if self._body is None:
                self.transport.close()
            else:
                self._linger()
            return
        plane = self.plane
        if plane.by_idleness:
            plane.frontends[self] = plane.frontends.pop(self)
        if self._paused:
            self.resume_reading()
        if self._buffer:
            self._pump()
        elif self._ended is not None:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection: what was sent must not pass for complete."""
        self.exchange = None
        self.transport.abort()

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    # -------------------------------------------------------- time and the end

    def _linger(self) -> None:
        """Close, but first let the client read our last words: a reset would throw them away (RFC 9112 §9.6)."""
        self._linger_until = self.plane.clock.now + LINGER
        self._buffer = b""
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet: one or none."""
        return int(self.exchange is not None)

    @property
    def idle(self) -> bool:
        """Between two requests."""
        return self.exchange is None and not self._linger_until and not self._partial and self._body is None

    def check(self, now: float) -> None:
        """Called at every tick of the clock: time-outs (contract §8.1)."""
        exchange = self.exchange
        settings = self.plane.settings
        waited = now - self._since
        if self._linger_until:
            if now >= self._linger_until:
                self.transport.abort()
        elif self._full:
            if settings.client_send_timeout and waited >= settings.client_send_timeout:
                self._check_progress(now)
        elif exchange is not None:
            if self._body is not None and not self._paused:
                limit = settings.client_body_timeout
                if limit and waited >= limit:
                    self._bad_body(BadMessage(408, "the request body did not come"))
                    return
            if self._ended is not None:
                self._ended.check(now)
            exchange.check(now)
        elif self._body is not None or self._partial:
            limit = settings.read_header_timeout if self._body is None else settings.client_body_timeout
            if limit and waited >= limit:
                self.transport.close()
        else:
            if waited >= FORGET_AFTER:
                self._recent.forget()
            limit = QUIET if self.plane.stopping else settings.frontend_idle_timeout
            if limit and waited >= limit and not unread(self.transport):
                self.transport.close()

    def _check_progress(self, now: float) -> None:
        """The client was slow for a whole time-out: cut it off unless it has taken something meanwhile."""
        waiting = self.transport.get_write_buffer_size()
        if waiting >= self._unsent:
            self.transport.abort()
        self._unsent = waiting
        self._since = now

    def stop(self) -> None:
        """The worker stops: the next response is the last one here, and a connection that stays quiet closes.

        A response that has begun has promised another one: to close behind it would cost a client the next request. How
        long the connection has been idle is known to a tick only: it counts from now.
        """
        if self.exchange is not None:
            self._keep = self._keep and self.exchange.responding
        elif self.idle:
            self._since = self.plane.clock.now

    def close(self) -> None:
        """Close a connection that is idle."""
        self.transport.close()
