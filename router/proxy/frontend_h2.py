"""A client's HTTP/2 connection, and its streams (RFC 9113).

A stream is to its exchange what a frontend is: the same calls, and the exchange knows no difference. What both ends of
HTTP/2 share is in `h2_connection`; here are requests, time-outs, and the defence.

Frames that cost us work and bring no request on are counted: resets of the client's own requests, pings, settings,
empty data, windows opened for less than was sent. A client with too many of them is sent away (`ENHANCE_YOUR_CALM`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from router.http.errors import Answer, refusal_fields
from router.http.h2_fields import RecentFields, answer_block, interim_block, response_block, safe_trailers
from router.http.h2_frames import HIGHEST, Code, Setting, goaway, headers
from router.http.h2_protocol import Violation
from router.http.hpack import Field, encode
from router.http.message import BadMessage, HeaderList
from router.http.response import ResponseHead
from router.observe.counters import Counter
from router.proxy.client import QUIET, introduce, unread
from router.proxy.exchange import Exchange
from router.proxy.h2_connection import H2Peer, H2Stream

if TYPE_CHECKING:
    from router.proxy.backend_h1 import BackendH1
    from router.proxy.plane import Plane

STREAMS = 128
"""Requests at once on one connection."""
PATIENCE = 1000.0
"""Weight of frames that bring nothing on, within `PATIENCE_SECONDS`, after which a client is sent away."""
PATIENCE_SECONDS = 10.0
_ANSWERED = 2.0
"""What a request that was answered makes up for: frames may come with requests, as priorities do."""
_BAD_REQUEST = 10.0
PARTING = 2.0
"""Seconds in which a client that was told to send no more requests may still do so."""
FORGET_AFTER = 1.0
"""Seconds of idleness after which a connection forgets its last header fields: idle ones are there by the thousand."""
LINGER = 2.0
"""Seconds in which a client gets to read why it was sent away."""


class Stream(H2Stream):
    """One request and its response: the frontend of an exchange."""

    __slots__ = ()

    connection: FrontendH2

    # -------------------------------------------------------- who it is

    @property
    def peer(self) -> bytes:
        return self.connection.peer

    @property
    def peer_ip(self) -> bytes:
        return self.connection.peer_ip

    @property
    def secure(self) -> bool:
        return self.connection.secure

    @property
    def client_certificate(self) -> bytes:
        return self.connection.client_certificate

    # -------------------------------------------------------- the request

    def data_came(self, data: bytes, size: int, ended: bool) -> None:
        exchange = self.exchange
        if data and exchange is not None:
            exchange.request_body(data)
        self.came(size)
        if ended:
            self.request_complete([])

    def request_complete(self, trailers: HeaderList) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.request_done:
            exchange.request_complete(trailers)

    def reset_sent(self, code: Code, reason: str) -> None:
        exchange, self.exchange = self.exchange, None
        self.connection.plane.counters[Counter.UNREADABLE] += 1
        if exchange is not None:
            exchange.client_gone(400)

    # -------------------------------------------------------- from the exchange

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response."""
        self.connection.send_interim(self, interim_block(head))

    def send_continue(self) -> None:
        """Our own 100."""
        self.connection.send_interim(self, encode([(b":status", b"100")]))

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, lines: bytes, data: bytes, backend: BackendH1
    ) -> None:
        raise AssertionError("HTTP/2 has no Upgrade (RFC 9113 §8.6): the exchange never asks for one")

    def send_head(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """A response's head, with further header lines, and the first bytes of its body."""
        if b"date" not in head.noted:
            lines += self.connection.plane.clock.date_line
        self.begin(response_block(head, lines), data)

    def send_answer(self, answer: Answer, body: bytes) -> None:
        """A router-made response, whole."""
        lines = answer.headers + self.connection.plane.clock.date_line
        self.begin(answer_block(answer.status, lines), body)

    def send_body(self, data: bytes) -> None:
        """Bytes of the response's body."""
        self.send(data)

    def finish(self, trailers: HeaderList) -> None:
        """The response is complete, with these trailers; the exchange is over."""
        self.exchange = None
        self.end(trailers)

    def next_request(self) -> None:
        """The exchange is over."""
        self.finish([])

    def abort(self) -> None:
        """What was sent must not pass for complete."""
        self.exchange = None
        self.connection.end(self, Code.INTERNAL_ERROR)

    # -------------------------------------------------------- the response goes out

    def filled(self) -> None:
        if self.exchange is not None:
            self.exchange.client_full()

    def drained(self) -> None:
        if self.exchange is not None:
            self.exchange.client_drained()

    def all_sent(self) -> None:
        self.connection.answered(self)

    def broke(self) -> None:
        """The client does not want the response any more."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()

    # -------------------------------------------------------- time

    def check(self, now: float) -> None:
        """Called at every tick of the clock: time-outs (contract §8.1)."""
        settings = self.connection.plane.settings
        waited = now - self.moved
        exchange = self.exchange
        if self.out_size:
            limit = settings.client_send_timeout
            if limit and waited >= limit:
                self.broke()
                self.connection.end(self, Code.CANCEL)
        elif exchange is not None:
            limit = settings.client_body_timeout
            if not self.remote_done and not self.paused and limit and waited >= limit and not exchange.responding:
                self.exchange = None
                exchange.client_gone(408)
                self.connection.end(self, Code.CANCEL)
                return
            exchange.check(now)


class FrontendH2(H2Peer[Stream]):
    """A client's connection."""

    __slots__ = (
        # for ever
        "client_certificate",
        "peer",
        "peer_ip",
        "secure",
        # from frame to frame
        "_annoyance",
        "_annoyed_since",
        "_going",
        "_linger_until",
        "_parting",
        "_recent",
        "_since",
    )

    def __init__(self, plane: Plane, client: tuple[str, int] | None = None) -> None:
        """`client` is who sends, where that is not the peer of the connection (PROXY protocol)."""
        super().__init__(plane, server=True, largest_head=plane.max_head)
        host, port = client or ("", 0)
        self.peer_ip = host.encode()
        self.peer = b"%b:%d" % (self.peer_ip, port) if client else b""
        self.secure = False
        self.client_certificate = b""
        self._going = False
        self._linger_until = 0.0
        self._parting = 0.0
        """When the client was told to send no more requests; 0 = it was not."""
        self._recent = RecentFields()
        self._annoyance = 0.0
        self._annoyed_since = self._since = plane.clock.now

    # -------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plane = self.plane
        welcome = introduce(self, transport)
        full = plane.full()
        plane.frontends[self] = None
        self.start(transport, {Setting.MAX_CONCURRENT_STREAMS: STREAMS, Setting.ENABLE_CONNECT_PROTOCOL: 0})
        if not welcome:
            self.transport.abort()
        elif full:
            self._send_away(Code.REFUSED_STREAM, "too many connections")
        elif plane.stopping:
            self.stop()

    def connection_lost(self, error: Exception | None) -> None:
        self.plane.frontends.pop(self, None)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.broke()

    def data_received(self, data: bytes) -> None:
        if self._linger_until:
            return
        self._since = self.plane.clock.now
        try:
            self.feed(data)
        except Violation as violation:
            self.plane.counters[Counter.UNREADABLE] += 1
            self._send_away(violation.code, str(violation))
            return
        if self.out and not self._flushing:
            self.write()

    # -------------------------------------------------------- what the client does

    def headers_came(self, id: int, fields: list[Field] | None, ended: bool) -> None:
        stream = self.streams.get(id)
        if stream is not None:
            if self.trailers_came(stream, ended):
                self._trailers(stream, fields)
        elif id > self.newest and id & 1:
            self.newest = id
            self._request(id, fields, ended)
        else:
            self.stray_headers(id)

    def _request(self, id: int, fields: list[Field] | None, ended: bool) -> None:
        plane = self.plane
        stream = self.streams[id] = Stream(self, id)
        stream.remote_done = ended
        if self._going:
            self.end(stream, Code.REFUSED_STREAM)
            return
        if len(self.streams) > STREAMS:
            if self.acknowledged:
                raise Violation(Code.PROTOCOL_ERROR, "more streams at once than we said")
            self.end(stream, Code.REFUSED_STREAM)  # it could not know
            return
        try:
            if fields is None:
                raise BadMessage(431, "request head too large")
            reader = plane.read_fields or plane.make_field_reader()
            request = reader.request(fields, ended, self._recent)
            if len(request.target) > plane.settings.max_target:
                raise BadMessage(414, "request target too long")
        except BadMessage as bad:
            plane.counters[Counter.UNREADABLE] += 1
            refusal, body = refusal_fields(bad.status, bad.reason)
            stream.begin(encode(refusal), body)
            stream.next_request()
            self.annoyed(_BAD_REQUEST)
            return
        if not ended and request.body >= 0:
            stream.awaited = request.body
        exchange = stream.exchange = Exchange(plane, stream, request)
        try:
            exchange.start()
        except Exception as error:
            exchange.crashed(error)

    def _trailers(self, stream: Stream, fields: list[Field] | None) -> None:
        try:
            if fields is None:
                raise BadMessage(431, "trailers too large")
            stream.request_complete(safe_trailers(fields))
        except BadMessage as bad:
            self.fail(stream, Code.PROTOCOL_ERROR, bad.reason)

    def reset_came(self, stream: Stream, code: int) -> None:
        stream.broke()

    def goaway_came(self, last: int, code: int) -> None:
        self._going = True
        self.maybe_close()

    def annoyed(self, weight: float) -> None:
        """Count a frame that brings nothing on, and send the client away when there are too many."""
        now = self.plane.clock.now
        if now - self._annoyed_since > PATIENCE_SECONDS:
            self._annoyed_since, self._annoyance = now, 0.0
        self._annoyance += weight
        if self._annoyance > PATIENCE:
            reason = "a flood of idle frames"
            self.plane.log.warn("http2-client-sent-away", peer=self.peer.decode(), reason=reason)
            raise Violation(Code.ENHANCE_YOUR_CALM, reason)

    def introduced(self) -> None:
        """Nothing waits for a client's settings."""

    # -------------------------------------------------------- what the streams do

    def send_interim(self, stream: Stream, block: bytes) -> None:
        """Send a 1xx head, if the final one has not gone out."""
        if stream.id in self.streams and not stream.head:
            self.out.append(headers(stream.id, self.first_block(block), False, self.peer_frame))
            self.soon()

    def answered(self, stream: Stream) -> None:
        """The response is whole. What the request still lacks is not needed (RFC 9113 §8.1)."""
        if self._annoyance:
            self._annoyance = max(0.0, self._annoyance - _ANSWERED)
        if stream.remote_done:
            self.forget(stream)
        else:
            self.end(stream, Code.NO_ERROR)

    # -------------------------------------------------------- time and the end

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return len(self.streams)

    @property
    def idle(self) -> bool:
        """Between requests."""
        return not self.streams and not self._linger_until

    def check(self, now: float) -> None:
        """Called at every tick of the clock."""
        if self._linger_until:
            if now >= self._linger_until:
                self.transport.abort()
            return
        if self.streams:
            for stream in list(self.streams.values()):
                stream.check(now)
            if self._parting and now - self._parting >= PARTING:
                self.close()
            return
        waited = now - self._since
        if waited >= FORGET_AFTER:
            self._recent.forget()
        limit = QUIET if self._parting else self.plane.settings.frontend_idle_timeout
        if limit and waited >= limit and not unread(self.transport):
            self.close()

    def stop(self) -> None:
        """The worker stops: ask for no further requests, but take those on their way (RFC 9113 §6.8).

        A connection that stays quiet closes, and so does one whose client will not hear.
        """
        if not self._parting:
            self._parting = self._since = self.plane.clock.now
            self.out.append(goaway(HIGHEST, Code.NO_ERROR))
            self.write()

    def close(self) -> None:
        """Take no further requests; close when those at hand are answered."""
        if not self._going:
            self._going = True
            self.last_words(Code.NO_ERROR)
            self.write()
        self.maybe_close()

    def maybe_close(self) -> None:
        if self._going and not self.streams and not self._linger_until:
            self.write()
            self.transport.close()

    def _send_away(self, code: Code, reason: str) -> None:
        """Close the connection and say why. Nothing more is read; the client gets a moment to read our last words."""
        self.last_words(code, reason)
        self.write()
        streams, self.streams = self.streams, {}
        self._dirty.clear()
        self._waiting.clear()
        for stream in streams.values():
            stream.broke()
        self._linger_until = self.plane.clock.now + LINGER
        self.transport.close()
