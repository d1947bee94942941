"""A client's HTTP/2 connection, and its streams (RFC 9113).

`h2` keeps the protocol's state; here are the sockets, the flow of bodies, and the limits. Rules:

- A stream is to its exchange what a frontend is: the same calls, and the exchange knows no difference.
- What streams send is gathered and written once a turn of the loop: a small response is one write, whole.
- What a client sends is acknowledged when the backend has room for it, so a slow backend slows its own stream only.
- A response that does not fit the client's windows stops its backend at `HIGH_WATER` bytes.
- Frames that cost us work and bring no request on are counted; a client with too many of them is sent away
  (`ENHANCE_YOUR_CALM`): resets of its own requests, pings, settings, empty data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
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
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from router.http.errors import Answer, refusal_fields
from router.http.h2_fields import fields_of, safe_trailers
from router.http.message import BadMessage, HeaderList
from router.http.response import ResponseHead
from router.observe.counters import Counter
from router.proxy.bulk import HIGH_WATER
from router.proxy.exchange import Exchange
from router.proxy.tls import client_certificate

if TYPE_CHECKING:
    from router.proxy.backend_h1 import BackendH1
    from router.proxy.plane import Plane

STREAMS = 128
"""Requests at once on one connection."""
STREAM_WINDOW = 128 * 1024
"""Bytes of a request body that may be on their way to us, per stream."""
CONNECTION_WINDOW = 1024 * 1024
"""The same for the whole connection."""
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


class Stream:
    """One request and its response: the frontend of an exchange."""

    __slots__ = (
        "_since",
        "_unacknowledged",
        "connection",
        "ended",
        "exchange",
        "full",
        "head",
        "id",
        "out",
        "out_size",
        "paused",
        "request_done",
        "trailers",
    )

    def __init__(self, connection: FrontendH2, id: int) -> None:
        self.connection = connection
        self.id = id
        self.exchange: Exchange | None = None
        self.head: HeaderList | None = None
        """Fields of the response's head, until they are sent."""
        self.out: list[bytes] = []
        """Body of the response that waits for the client's windows."""
        self.out_size = 0
        self.ended = False
        """The response is complete, all of it is in `out`."""
        self.full = False
        """The backend was told to wait."""
        self.trailers: HeaderList = []
        self.paused = False
        self.request_done = False
        self._unacknowledged = 0
        self._since = connection.plane.clock.now
        """When something last moved."""

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
        """A piece of the request's body; `flow` is what it takes of the windows, padding included."""
        self._since = self.connection.plane.clock.now
        self._unacknowledged += flow
        if data and self.exchange is not None:
            self.exchange.request_body(data)
        if not self.paused:
            self.acknowledge()

    def acknowledge(self) -> None:
        """Let the client send as much again."""
        if self._unacknowledged:
            flow, self._unacknowledged = self._unacknowledged, 0
            self.connection.acknowledge(self.id, flow)

    def request_complete(self, trailers: HeaderList) -> None:
        if not self.request_done:
            self.request_done = True
            if self.exchange is not None:
                self.exchange.request_complete(trailers)

    # -------------------------------------------------------- from the exchange

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx response."""
        self.connection.send_interim(self, [(b":status", b"%d" % head.status), *_lowered(head.headers)])

    def send_continue(self) -> None:
        """Our own 100."""
        self.connection.send_interim(self, [(b":status", b"100")])

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, lines: bytes, data: bytes, backend: BackendH1
    ) -> None:
        raise AssertionError("HTTP/2 has no Upgrade (RFC 9113 §8.6): the exchange never asks for one")

    def send_head(self, head: ResponseHead, lines: bytes, data: bytes) -> None:
        """A response's head, with further header lines, and the first bytes of its body."""
        fields = [(b":status", b"%d" % head.status), *_lowered(head.headers), *fields_of(lines)]
        if b"date" not in head.noted:
            fields.append((b"date", self.connection.plane.clock.date_line[6:-2]))
        if head.length is not None:
            fields.append((b"content-length", head.length))
        self._begin(fields, data)

    def send_answer(self, answer: Answer, body: bytes) -> None:
        """A router-made response, whole."""
        date = (b"date", self.connection.plane.clock.date_line[6:-2])
        self._begin([(b":status", b"%d" % answer.status), *fields_of(answer.headers), date], body)
        self.ended = True

    def _begin(self, fields: HeaderList, data: bytes) -> None:
        self.head = fields
        if data:
            self.out.append(data)
            self.out_size += len(data)
        self.connection.soon(self)

    def send_body(self, data: bytes) -> None:
        """Bytes of a response's body."""
        self.out.append(data)
        self.out_size += len(data)
        if self.out_size > HIGH_WATER and not self.full and self.exchange is not None:
            self.full = True
            self.exchange.client_full()
        self.connection.soon(self)

    def finish(self, trailers: HeaderList) -> None:
        """The response is complete, with these trailers; the exchange is over."""
        self.trailers = trailers
        self.next_request()

    def next_request(self) -> None:
        """The exchange is over."""
        self.ended = True
        self.exchange = None
        self.connection.soon(self)

    def abort(self) -> None:
        """What was sent must not pass for complete."""
        self.exchange = None
        self.connection.reset(self, ErrorCodes.INTERNAL_ERROR)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self._since = self.connection.plane.clock.now
            self.acknowledge()

    # -------------------------------------------------------- the response goes out

    def sent(self, size: int) -> None:
        """So many bytes of the body went out."""
        self.out_size -= size
        self._since = self.connection.plane.clock.now
        if self.full and self.out_size <= HIGH_WATER // 2:
            self.full = False
            if self.exchange is not None:
                self.exchange.client_drained()

    def check(self, now: float) -> None:
        """Called at every tick of the clock: time-outs (contract §8.1)."""
        settings = self.connection.plane.settings
        waited = now - self._since
        exchange = self.exchange
        if self.out_size:
            limit = settings.client_send_timeout
            if limit and waited >= limit:
                self.gone()
                self.connection.reset(self, ErrorCodes.CANCEL)
        elif exchange is not None:
            limit = settings.client_body_timeout
            if not self.request_done and not self.paused and limit and waited >= limit:
                self.exchange = None
                exchange.client_gone(408)
                self.connection.reset(self, ErrorCodes.CANCEL)
                return
            exchange.check(now)

    def gone(self) -> None:
        """The client does not want the response any more."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_gone()


class FrontendH2(asyncio.Protocol):
    """A client's connection."""

    __slots__ = (
        # for ever
        "client_certificate",
        "peer",
        "peer_ip",
        "plane",
        "secure",
        "transport",
        # from frame to frame
        "_annoyance",
        "_annoyed_since",
        "_conn",
        "_dirty",
        "_flushing",
        "_full",
        "_going",
        "_linger_until",
        "_newest",
        "_since",
        "streams",
    )

    def __init__(self, plane: Plane, client: tuple[str, int] | None = None) -> None:
        """`client` is who sends, where that is not the peer of the connection (PROXY protocol)."""
        host, port = client or ("", 0)
        self.plane = plane
        self.peer_ip = host.encode()
        self.peer = b"%b:%d" % (self.peer_ip, port) if client else b""
        self.secure = False
        self.client_certificate = b""
        self.streams: dict[int, Stream] = {}
        self._conn = H2Connection(
            H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False)
        )
        self._conn.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: plane.max_head,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
            },
        )
        self._conn.decoder.max_header_list_size = plane.max_head
        self._dirty: dict[Stream, None] = {}
        self._flushing = False
        self._full = False
        self._going = False
        self._linger_until = 0.0
        self._newest = 0
        self._annoyance = 0.0
        self._annoyed_since = self._since = plane.clock.now

    # -------------------------------------------------------- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        if not self.peer:
            peer = transport.get_extra_info("peername")
            host, port = peer[:2] if peer else ("", 0)
            self.peer_ip = host.encode()
            self.peer = b"%b:%d" % (self.peer_ip, port)
        plane = self.plane
        tls = transport.get_extra_info("ssl_object")
        if plane.front_door is not None and tls is not None:
            self.secure = True
            self.client_certificate = client_certificate(tls)
        full = plane.full()
        plane.frontends[self] = None
        self._conn.initiate_connection()
        self._conn.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        if full:
            self._send_away(ErrorCodes.REFUSED_STREAM)
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        self.plane.frontends.pop(self, None)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.gone()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._dirty.update(dict.fromkeys(self.streams.values()))
        self._flush()

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
            fields, body = refusal_fields(bad.status, bad.reason)
            stream._begin(fields, body)
            stream.next_request()
            self._annoyed(_BAD_REQUEST)
            return
        exchange = stream.exchange = Exchange(plane, stream, request)
        exchange.start()

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
        stream = self.streams.pop(event.stream_id, None)
        if stream is not None:
            self._dirty.pop(stream, None)
            stream.gone()

    def _window(self, event: WindowUpdated) -> None:
        if event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None and stream.out_size:
                self.soon(stream)
        else:
            for stream in self.streams.values():
                if stream.out_size:
                    self.soon(stream)

    def _terminated(self, event: ConnectionTerminated) -> None:
        self._going = True
        if not self.streams:
            self.transport.close()

    def _annoyed(self, weight: float) -> None:
        """Count a frame that brings nothing on, and send the client away when there are too many."""
        now = self.plane.clock.now
        if now - self._annoyed_since > PATIENCE_SECONDS:
            self._annoyed_since, self._annoyance = now, 0.0
        self._annoyance += weight
        if self._annoyance > PATIENCE:
            self.plane.log.warn("http2-client-sent-away", peer=self.peer.decode(), reason="a flood of idle frames")
            self._send_away(ErrorCodes.ENHANCE_YOUR_CALM)

    # -------------------------------------------------------- sending

    def soon(self, stream: Stream) -> None:
        """The stream has something to send: it goes out at the end of this turn of the loop."""
        self._dirty[stream] = None
        if not self._flushing:
            self._flushing = True
            self.plane.loop.call_soon(self._flush)

    def send_interim(self, stream: Stream, fields: HeaderList) -> None:
        if stream.id in self.streams and stream.head is None:
            try:
                self._conn.send_headers(stream.id, fields)
            except H2Error:
                return
            self._write()

    def acknowledge(self, id: int, flow: int) -> None:
        """Open the client's windows again for what was taken in."""
        if flow:
            try:
                self._conn.acknowledge_received_data(flow, id)
            except H2Error:
                return  # the stream or the connection is closed: h2 has seen to the connection's window
            self._write()

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """End a stream before its time."""
        self.streams.pop(stream.id, None)
        self._dirty.pop(stream, None)
        try:
            self._conn.reset_stream(stream.id, code)
        except H2Error:
            return
        self._write()
        self._maybe_close()

    def _flush(self) -> None:
        self._flushing = False
        if self.transport.is_closing():
            return
        dirty, self._dirty = self._dirty, {}
        for stream in dirty:
            if self._full:
                self._dirty[stream] = None  # taken up again by `resume_writing`
            elif self.streams.get(stream.id) is stream:
                try:
                    self._send(stream)
                except H2Error:
                    self._stream_broke(stream)
        self._write()
        self._maybe_close()

    def _stream_broke(self, stream: Stream) -> None:
        """The client has closed the stream, or the backend said what HTTP/2 can't carry."""
        self.streams.pop(stream.id, None)
        stream.gone()
        try:
            self._conn.reset_stream(stream.id, ErrorCodes.INTERNAL_ERROR)
        except H2Error:
            pass

    def _send(self, stream: Stream) -> None:
        """Send what the windows allow of a stream."""
        conn, id = self._conn, stream.id
        over = stream.ended and not stream.trailers
        if stream.head is not None:
            fields, stream.head = stream.head, None
            conn.send_headers(id, fields, end_stream=over and not stream.out_size)
            if over and not stream.out_size:
                self._finished(stream)
                return
        if stream.out_size:
            data = stream.out[0] if len(stream.out) == 1 else b"".join(stream.out)
            room = min(conn.local_flow_control_window(id), len(data))
            largest = conn.max_outbound_frame_size
            for start in range(0, room, largest):
                piece = data[start : min(start + largest, room)]
                conn.send_data(id, piece, end_stream=over and start + len(piece) == len(data))
            rest = data[room:] if room else data
            stream.out = [rest] if rest else []
            if room:
                stream.sent(room)
            if rest or (over and room):
                if not rest:
                    self._finished(stream)
                return
        if stream.ended:
            if stream.trailers:
                conn.send_headers(id, _lowered(stream.trailers), end_stream=True)
            else:
                conn.end_stream(id)
            self._finished(stream)

    def _finished(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        if not stream.request_done:
            # RFC 9113 §8.1: the response is whole, the rest of the request is not needed.
            self._conn.reset_stream(stream.id, ErrorCodes.NO_ERROR)

    def _write(self) -> None:
        data = self._conn.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

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
            goaway = GoAwayFrame(0, last_stream_id=self._newest, error_code=int(ErrorCodes.NO_ERROR))
            self.transport.write(goaway.serialize())
        self._maybe_close()

    def _maybe_close(self) -> None:
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
            stream.gone()
        self._linger_until = self.plane.clock.now + LINGER
        self.transport.close()


def _lowered(headers: HeaderList) -> HeaderList:
    return [(name.lower(), value) for name, value in headers]


_HANDLERS: dict[type[Event], Callable[[FrontendH2, Any], None]] = {
    RequestReceived: FrontendH2._request,
    DataReceived: FrontendH2._data,
    TrailersReceived: FrontendH2._trailers,
    StreamEnded: FrontendH2._stream_ended,
    StreamReset: FrontendH2._stream_reset,
    WindowUpdated: FrontendH2._window,
    ConnectionTerminated: FrontendH2._terminated,
}
