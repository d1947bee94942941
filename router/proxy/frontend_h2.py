"""A client's HTTP/2 connection, and its streams (RFC 9113).

A stream is to its exchange what a frontend is: the same calls, and the exchange knows no difference. What both ends of
HTTP/2 share is in `h2_connection`; here are requests, time-outs, and the defence.

Frames that cost us work and bring no request on are counted: resets of the client's own requests, pings, settings,
empty data. A client with too many of them is sent away (`ENHANCE_YOUR_CALM`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingReceived,
    PriorityUpdated,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from router.http.errors import Answer, refusal_fields
from router.http.h2_fields import fields_of, safe_trailers
from router.http.message import BadMessage, HeaderList
from router.http.response import ResponseHead
from router.observe.counters import Counter
from router.proxy.client import introduce
from router.proxy.exchange import Exchange
from router.proxy.h2_connection import H2Peer, H2Stream, lowered

if TYPE_CHECKING:
    from router.proxy.backend_h1 import BackendH1
    from router.proxy.plane import Plane

STREAMS = 128
"""Requests at once on one connection."""
PATIENCE = 1000.0
"""Weight of frames that bring nothing on, within `PATIENCE_SECONDS`, after which a client is sent away."""
PATIENCE_SECONDS = 10.0
_WEIGHTS: dict[type[Event], float] = {
    StreamReset: 5.0,
    PingReceived: 2.0,
    RemoteSettingsChanged: 10.0,
    PriorityUpdated: 1.0,
}
_EMPTY_DATA = 2.0
_BAD_REQUEST = 10.0
LINGER = 2.0
"""Seconds in which a client gets to read why it was sent away."""


class Stream(H2Stream):
    """One request and its response: the frontend of an exchange."""

    __slots__ = ("request_done",)

    connection: FrontendH2

    def __init__(self, connection: FrontendH2, id: int) -> None:
        super().__init__(connection, id)
        self.request_done = False

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

    def data_received(self, data: bytes, flow: int) -> None:
        """A piece of the request's body; `flow` is what it takes of our windows."""
        if data and self.exchange is not None:
            self.exchange.request_body(data)
        self.came(flow)

    def request_complete(self, trailers: HeaderList) -> None:
        if not self.request_done:
            self.request_done = True
            if self.exchange is not None:
                self.exchange.request_complete(trailers)

    # -------------------------------------------------------- from the exchange

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response."""
        self.connection.send_interim(self, [(b":status", b"%d" % head.status), *lowered(head.headers)])

    def send_continue(self) -> None:
        """Our own 100."""
        self.connection.send_interim(self, [(b":status", b"100")])

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, lines: bytes, data: bytes, backend: BackendH1
    ) -> None:
        raise AssertionError("HTTP/2 has no Upgrade (RFC 9113 §8.6): the exchange never asks for one")

    def send_head(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """A response's head, with further header lines, and the first bytes of its body."""
        fields = [(b":status", b"%d" % head.status), *lowered(head.headers), *fields_of(lines)]
        if b"date" not in head.noted:
            fields.append(self._date())
        if head.length is not None:
            fields.append((b"content-length", head.length))
        self.begin(fields, data)

    def send_answer(self, answer: Answer, body: bytes) -> None:
        """A router-made response, whole."""
        self.begin([(b":status", b"%d" % answer.status), *fields_of(answer.headers), self._date()], body)

    def _date(self) -> tuple[bytes, bytes]:
        return b"date", self.connection.plane.clock.date_line[6:-2]

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
        self.connection.reset(self, ErrorCodes.INTERNAL_ERROR)

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
                self.connection.reset(self, ErrorCodes.CANCEL)
        elif exchange is not None:
            limit = settings.client_body_timeout
            if not self.request_done and not self.paused and limit and waited >= limit and not exchange.responding:
                self.exchange = None
                exchange.client_gone(408)
                self.connection.reset(self, ErrorCodes.CANCEL)
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
        "_newest",
        "_since",
    )

    def __init__(self, plane: Plane, client: tuple[str, int] | None = None) -> None:
        """`client` is who sends, where that is not the peer of the connection (PROXY protocol)."""
        settings = {SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS, SettingCodes.ENABLE_CONNECT_PROTOCOL: 0}
        super().__init__(plane, client_side=False, settings=settings, largest_head=plane.max_head)
        host, port = client or ("", 0)
        self.peer_ip = host.encode()
        self.peer = b"%b:%d" % (self.peer_ip, port) if client else b""
        self.secure = False
        self.client_certificate = b""
        self._going = False
        self._linger_until = 0.0
        self._newest = 0
        self._annoyance = 0.0
        self._annoyed_since = self._since = plane.clock.now

    # -------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plane = self.plane
        welcome = introduce(self, transport)
        full = plane.full()
        plane.frontends[self] = None
        self.begin(transport)
        if not welcome:
            self.transport.abort()
        elif full:
            self._send_away(ErrorCodes.REFUSED_STREAM)

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
            events = self._conn.receive_data(data)
        except H2Error:
            self.plane.counters[Counter.UNREADABLE] += 1
            self._write()  # h2 has made the GOAWAY that says why
            self._drop()
            return
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
            if self._linger_until:
                return
            weight = _WEIGHTS.get(type(event))
            if weight is not None:
                self._annoyed(weight)
        self._write()

    # -------------------------------------------------------- what the client does

    def _request(self, event: RequestReceived) -> None:
        plane = self.plane
        id = event.stream_id
        stream = self.streams[id] = Stream(self, id)
        self._newest = max(self._newest, id)
        if self._going:
            self.reset(stream, ErrorCodes.REFUSED_STREAM)
            return
        ended = event.stream_ended is not None
        stream.request_done = ended
        try:
            request = plane.read_fields.request(event.headers or (), ended)
            if len(request.target) > plane.settings.max_target:
                raise BadMessage(414, "request target too long")
        except BadMessage as bad:
            plane.counters[Counter.UNREADABLE] += 1
            stream.begin(*refusal_fields(bad.status, bad.reason))
            stream.next_request()
            self._annoyed(_BAD_REQUEST)
            return
        exchange = stream.exchange = Exchange(plane, stream, request)
        try:
            exchange.start()
        except Exception as error:
            exchange.crashed(error)

    def _data(self, event: DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        flow = event.flow_controlled_length or 0
        if stream is None or stream.exchange is None:
            self.acknowledge(event.stream_id, flow)  # nobody wants it any more
        else:
            stream.data_received(event.data or b"", flow)
        if not event.data and event.stream_ended is None:
            self._annoyed(_EMPTY_DATA)

    def _trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.request_complete(safe_trailers(event.headers or ()))

    def _stream_ended(self, event: StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.request_complete([])

    def _stream_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            self.forget(stream)
            stream.broke()

    def _window(self, event: WindowUpdated) -> None:
        self.window_opened(event.stream_id)

    def _terminated(self, event: ConnectionTerminated) -> None:
        self._going = True
        self.maybe_close()

    def _annoyed(self, weight: float) -> None:
        """Count a frame that brings nothing on, and send the client away when there are too many."""
        now = self.plane.clock.now
        if now - self._annoyed_since > PATIENCE_SECONDS:
            self._annoyed_since, self._annoyance = now, 0.0
        self._annoyance += weight
        if self._annoyance > PATIENCE:
            self.plane.log.warn("http2-client-sent-away", peer=self.peer.decode(), reason="a flood of idle frames")
            self._send_away(ErrorCodes.ENHANCE_YOUR_CALM)

    # -------------------------------------------------------- what the streams do

    def send_interim(self, stream: Stream, fields: HeaderList) -> None:
        """Send a 1xx head, if the final one has not gone out."""
        if stream.id in self.streams and stream.head is None:
            try:
                self._conn.send_headers(stream.id, fields)
            except H2Error:
                return
            self._write()

    def answered(self, stream: Stream) -> None:
        """The response is whole. What the request still lacks is not needed (RFC 9113 §8.1)."""
        self.forget(stream)
        if not stream.request_done:
            self._conn.reset_stream(stream.id, ErrorCodes.NO_ERROR)

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
        for stream in list(self.streams.values()):
            stream.check(now)
        limit = self.plane.settings.frontend_idle_timeout
        if not self.streams and limit and now - self._since >= limit:
            self.stop()

    def stop(self) -> None:
        """Take no further requests; close when those at hand are answered (RFC 9113 §6.8)."""
        if not self._going:
            self._going = True
            self._write()
            # Made by hand: after a GOAWAY of its own h2 would not let the streams go on.
            goaway = GoAwayFrame(0, last_stream_id=self._newest, error_code=int(ErrorCodes.NO_ERROR))
            self.transport.write(goaway.serialize())
        self.maybe_close()

    def close(self) -> None:
        """Close a connection that is idle."""
        self.stop()

    def maybe_close(self) -> None:
        if self._going and not self.streams and not self._linger_until:
            self.transport.close()

    def _send_away(self, code: ErrorCodes) -> None:
        """Close the connection and say why."""
        try:
            self._conn.close_connection(code)
        except H2Error:
            pass
        self._write()
        self._drop()

    def _drop(self) -> None:
        """Nothing more is read; the client gets a moment to read our last words."""
        streams, self.streams = self.streams, {}
        self._dirty.clear()
        for stream in streams.values():
            stream.broke()
        self._linger_until = self.plane.clock.now + LINGER
        self.transport.close()


_HANDLERS: dict[type[Event], Callable[[FrontendH2, Any], None]] = {
    RequestReceived: FrontendH2._request,
    DataReceived: FrontendH2._data,
    TrailersReceived: FrontendH2._trailers,
    StreamEnded: FrontendH2._stream_ended,
    StreamReset: FrontendH2._stream_reset,
    WindowUpdated: FrontendH2._window,
    ConnectionTerminated: FrontendH2._terminated,
}
