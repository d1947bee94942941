"""An HTTP/2 connection to a backend: many requests at once, each a stream (RFC 9113, contract §8.7).

A stream is to its exchange what an HTTP/1.1 connection is: the same calls. The connection stays with its endpoint until
the backend says GOAWAY, it breaks, or it has been idle for as long as idle connections are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from router.http.h2_fields import request_fields, response_head, safe_trailers
from router.http.message import BadMessage, HeaderList
from router.proxy.attempts import Failure, Retry, lost, malformed
from router.proxy.h2_connection import H2Peer, H2Stream

if TYPE_CHECKING:
    from router.proxy.connections import Connections
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane


_HIGHEST = 2**31 - 1
"""The last number that a stream may have (RFC 9113 §5.1.1)."""


class BackendStream(H2Stream):
    """One request to the backend and its response."""

    __slots__ = ("answered", "complete")

    connection: BackendH2

    def __init__(self, connection: BackendH2) -> None:
        super().__init__(connection, 0)  # numbered when it begins: numbers must go out in order
        self.answered = False
        """A final response head came."""
        self.complete = False
        """So did the end of the response."""

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
        self.begin(request_fields(request, lines, exchange.takes_trailers), body)
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
            self.connection.reset(self, ErrorCodes.CANCEL)
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
        if self.complete:
            self.connection.forget(self)

    def broke(self) -> None:
        self.failed(malformed("the request can't be sent over HTTP/2"))

    def failed(self, failure: Failure, *, unseen: bool = False) -> None:
        """The attempt came to nothing. `unseen`: the backend says that it has not looked at the request."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.attempt_failed(failure, stale=unseen)

    # -------------------------------------------------------- the response

    def head_received(self, fields: list[tuple[bytes, bytes]], ended: bool) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        try:
            head = response_head(fields, ended, exchange.request.method, self.connection.plane.rewrite)
            limit = self.connection.plane.settings.max_response_headers
        except BadMessage as bad:
            self._refuse(malformed(bad.reason))
            return
        if limit and len(head.headers) > limit:
            self._refuse(Failure("Too many response headers", Retry.NEVER, False))
        elif head.status < 200:
            exchange.interim_head(head)
        else:
            self.answered = True
            exchange.response_head(head, b"", False)

    def _refuse(self, failure: Failure) -> None:
        self.failed(failure)
        self.connection.reset(self, ErrorCodes.PROTOCOL_ERROR)

    def body_received(self, data: bytes, flow: int) -> None:
        if data and self.exchange is not None:
            self.exchange.response_body(data)
        self.came(flow)

    def response_complete(self, trailers: HeaderList) -> None:
        if self.complete:
            return
        self.complete = True
        exchange, self.exchange = self.exchange, None
        connection = self.connection
        connection.served += 1
        if self.ended and not self.out_size and self.head is None:
            connection.forget(self)
        else:  # the rest of the request is not wanted
            connection.reset(self, ErrorCodes.NO_ERROR)
        connection.maybe_close()
        if exchange is not None:
            exchange.response_complete(trailers)


class BackendH2(H2Peer[BackendStream]):
    """A connection, shared by many exchanges."""

    __slots__ = ("_abandoned", "_going", "_next", "address", "connections", "idle_since", "local", "served", "usable")

    def __init__(self, plane: Plane) -> None:
        super().__init__(
            plane,
            client_side=True,
            settings={SettingCodes.ENABLE_PUSH: 0},
            largest_head=plane.settings.max_response_head,
        )
        self.address = ""
        self.local = ""
        self.connections: Connections | None = None
        self.idle_since = monotonic()
        self.served = 0
        """Requests answered over this connection."""
        self.usable = False
        self._abandoned = False
        self._going = False
        self._next = 1

    @property
    def room(self) -> bool:
        """Another request may begin."""
        return self.usable and len(self.streams) < self._conn.remote_settings.max_concurrent_streams

    def new_stream(self) -> BackendStream:
        """For one more request."""
        return BackendStream(self)

    def open(self, stream: BackendStream) -> bool:
        """Give the stream its number; heads go out in this order. False: the connection takes no more."""
        if not self.room or self._next > _HIGHEST:
            return False
        stream.id = self._next
        self._next += 2
        self.streams[stream.id] = stream
        return True

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
        self.begin(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self.connections is not None:
            self.connections.forget_shared(self)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.failed(lost(self.local, self.address, error, False))

    def data_received(self, data: bytes) -> None:
        try:
            events = self._conn.receive_data(data)
        except H2Error as error:
            self._write()
            self.usable = False
            streams, self.streams = self.streams, {}
            for stream in streams.values():
                stream.failed(malformed(str(error)))
            self.transport.close()
            return
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        self._write()

    # -------------------------------------------------------- what the backend does

    def _response(self, event: ResponseReceived | InformationalResponseReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            ended = isinstance(event, ResponseReceived) and event.stream_ended is not None
            stream.head_received(event.headers or [], ended)

    def _data(self, event: DataReceived) -> None:
        stream = self.streams.get(event.stream_id)
        flow = event.flow_controlled_length or 0
        if stream is None:
            self.acknowledge(event.stream_id, flow)
        else:
            stream.body_received(event.data or b"", flow)

    def _trailers(self, event: TrailersReceived) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.response_complete(safe_trailers(event.headers or ()))

    def _stream_ended(self, event: StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.response_complete([])

    def _stream_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        self.forget(stream)
        if event.error_code == ErrorCodes.NO_ERROR and stream.complete:
            return
        refused = event.error_code == ErrorCodes.REFUSED_STREAM  # RFC 9113 §8.7: it was not processed
        name = ErrorCodes(event.error_code).name if event.error_code in set(ErrorCodes) else hex(event.error_code)
        reason = f"stream error: stream ID {stream.id}; {name}; received from peer"
        stream.failed(Failure(reason, Retry.ALWAYS if refused else Retry.NEVER, False), unseen=refused)
        self.maybe_close()

    def _window(self, event: WindowUpdated) -> None:
        self.window_opened(event.stream_id)

    def _settings(self, event: RemoteSettingsChanged) -> None:
        self.window_opened(0)

    def _terminated(self, event: ConnectionTerminated) -> None:
        """GOAWAY: what came after the last stream it names was not processed (RFC 9113 §6.8)."""
        last = event.last_stream_id or 0
        self.retire()
        for stream in [stream for id, stream in self.streams.items() if id > last]:
            self.forget(stream)
            failure = Failure("http2: server sent GOAWAY and closed the connection", Retry.ALWAYS, False)
            stream.failed(failure, unseen=True)
        self.maybe_close()


def _not_sent(exchange: Exchange) -> None:
    if exchange.backend is not None:
        failure = Failure("http2: the connection takes no more requests", Retry.ALWAYS, False)
        exchange.attempt_failed(failure, stale=True)


_HANDLERS: dict[type[Event], Callable[[BackendH2, Any], None]] = {
    ResponseReceived: BackendH2._response,
    InformationalResponseReceived: BackendH2._response,
    DataReceived: BackendH2._data,
    TrailersReceived: BackendH2._trailers,
    StreamEnded: BackendH2._stream_ended,
    StreamReset: BackendH2._stream_reset,
    WindowUpdated: BackendH2._window,
    RemoteSettingsChanged: BackendH2._settings,
    ConnectionTerminated: BackendH2._terminated,
}
