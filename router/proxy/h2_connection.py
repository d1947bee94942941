"""What both ends of HTTP/2 have in common: a connection, its streams and their windows (RFC 9113).

`h2` keeps the protocol's state; here are the socket and the flow of bodies. A stream gathers what is to be sent (head,
body, end); at the end of the turn of the loop the connection sends of it what the peer's windows allow, all in one
write. What comes in is acknowledged when there is room for it further on, so a slow reader slows its own stream only.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame

from router.http.hpack import Encoder
from router.http.message import HeaderList
from router.proxy.bulk import HIGH_WATER

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane

STREAM_WINDOW = 128 * 1024
"""Bytes of a body that may be on their way to us, per stream."""
CONNECTION_WINDOW = 1024 * 1024
"""The same for a whole connection."""


class _Connection(H2Connection):
    """h2 would have all streams end at a GOAWAY; those begun go on (RFC 9113 §6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class H2Stream:
    """One message each way. Sending: `begin`, `send`, `end`; `full` and `drained` tell whoever feeds it."""

    __slots__ = (
        "_unacknowledged",
        "connection",
        "ended",
        "exchange",
        "full",
        "head",
        "id",
        "moved",
        "out",
        "out_size",
        "paused",
        "trailers",
    )

    def __init__(self, connection: H2Peer[Any], id: int) -> None:
        self.connection = connection
        self.id = id
        self.exchange: Exchange | None = None
        self.head: HeaderList | None = None
        """Fields of the head, until they are sent."""
        self.out: list[bytes] = []
        """What of the body waits for the peer's windows."""
        self.out_size = 0
        self.ended = False
        """The message is complete, what is left of it is in `out`."""
        self.full = False
        """The feeder was told to wait."""
        self.trailers: HeaderList = []
        self.paused = False
        """What comes in is not acknowledged."""
        self.moved = connection.plane.clock.now
        """When something last moved, in either direction."""
        self._unacknowledged = 0

    # -------------------------------------------------------- out

    def begin(self, fields: HeaderList, data: bytes = b"") -> None:
        """The head, and the first bytes of the body."""
        self.head = fields
        if data:
            self.out.append(data)
            self.out_size += len(data)
        self.connection.soon(self)

    def send(self, data: bytes) -> None:
        """Bytes of the body."""
        self.out.append(data)
        self.out_size += len(data)
        if self.out_size > HIGH_WATER and not self.full:
            self.full = True
            self.filled()
        self.connection.soon(self)

    def end(self, trailers: HeaderList) -> None:
        """The message is complete, with these trailers."""
        self.trailers = trailers
        self.ended = True
        self.connection.soon(self)

    def filled(self) -> None:
        """The peer takes less than comes: wait until `drained`."""
        raise NotImplementedError

    def drained(self) -> None:
        """There is room again."""
        raise NotImplementedError

    def all_sent(self) -> None:
        """The message has gone out, its end included."""
        raise NotImplementedError

    def flush(self, conn: H2Connection) -> None:
        """Send what the windows allow. Raises H2Error."""
        id = self.id
        over = self.ended and not self.trailers
        if self.head is not None:
            fields, self.head = self.head, None
            conn.send_headers(id, fields, end_stream=over and not self.out_size)
            if over and not self.out_size:
                self.all_sent()
                return
        if self.out_size:
            data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
            room = min(conn.local_flow_control_window(id), len(data))
            largest = conn.max_outbound_frame_size
            for start in range(0, room, largest):
                piece = data[start : min(start + largest, room)]
                conn.send_data(id, piece, end_stream=over and start + len(piece) == len(data))
            self._went_out(data[room:] if room else data, room)
            if self.out_size:
                return
            if over:
                self.all_sent()
                return
        if self.ended:
            if self.trailers:
                conn.send_headers(id, lowered(self.trailers), end_stream=True)
            else:
                conn.end_stream(id)
            self.all_sent()

    def _went_out(self, rest: bytes, size: int) -> None:
        self.out = [rest] if rest else []
        self.out_size = len(rest)
        if size:
            self.moved = self.connection.plane.clock.now
        if self.full and self.out_size <= HIGH_WATER // 2:
            self.full = False
            self.drained()

    # -------------------------------------------------------- in

    def came(self, flow: int) -> None:
        """A piece of a body came in; `flow` is what it takes of our windows, padding included."""
        self.moved = self.connection.plane.clock.now
        self._unacknowledged += flow
        if not self.paused:
            self._acknowledge()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self.moved = self.connection.plane.clock.now
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self._unacknowledged:
            flow, self._unacknowledged = self._unacknowledged, 0
            self.connection.acknowledge(self.id, flow)

    # -------------------------------------------------------- the end

    def broke(self) -> None:
        """The stream can't be carried on: tell the exchange."""
        raise NotImplementedError


Stream = TypeVar("Stream", bound=H2Stream)


class H2Peer(asyncio.Protocol, Generic[Stream]):
    """A connection with streams."""

    __slots__ = ("_conn", "_dirty", "_flushing", "_full", "plane", "streams", "transport")

    def __init__(
        self, plane: Plane, *, client_side: bool, settings: dict[SettingCodes, int], largest_head: int
    ) -> None:
        """`settings` go to the peer besides our window; `largest_head` is bytes of a header block, unpacked."""
        self.plane = plane
        self.transport: asyncio.Transport
        self.streams: dict[int, Stream] = {}
        self._conn: H2Connection = _Connection(
            H2Configuration(
                client_side=client_side,
                header_encoding=None,
                # Header blocks are written by ourselves, and read strictly in `http.h2_fields`.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
            )
        )
        self._conn.local_settings = Settings(
            client=client_side,
            initial_values={
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: largest_head,
                **settings,
            },
        )
        self._conn.decoder.max_header_list_size = largest_head
        self._conn.encoder = Encoder()  # type: ignore[assignment]
        self._dirty: dict[Stream, None] = {}
        self._flushing = False
        self._full = False

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there: say who we are."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        self._conn.initiate_connection()
        self._conn.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self._write()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._dirty.update(dict.fromkeys(self.streams.values()))
        self._flush()

    def soon(self, stream: Stream) -> None:
        """The stream has something to send: it goes out at the end of this turn of the loop."""
        self._dirty[stream] = None
        if not self._flushing:
            self._flushing = True
            self.plane.loop.call_soon(self._flush)

    def window_opened(self, id: int) -> None:
        """The peer takes more: of one stream, or, with 0, of all."""
        for stream in self.streams.values() if not id else filter(None, [self.streams.get(id)]):
            if stream.out_size:
                self.soon(stream)

    def acknowledge(self, id: int, flow: int) -> None:
        """Open our windows again for what was taken in."""
        if flow:
            try:
                self._conn.acknowledge_received_data(flow, id)
            except H2Error:
                return  # the stream or the connection is closed: h2 has seen to the connection's window
            self._write()

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """End a stream before its time."""
        self.forget(stream)
        try:
            self._conn.reset_stream(stream.id, code)
        except H2Error:
            return
        self._write()
        self.maybe_close()

    def forget(self, stream: Stream) -> None:
        """The stream is over."""
        self.streams.pop(stream.id, None)
        self._dirty.pop(stream, None)

    def maybe_close(self) -> None:
        """A stream is over: close the connection if that was all it waited for."""
        raise NotImplementedError

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
                    stream.flush(self._conn)
                except H2Error:  # the peer has closed it, or it is to carry what HTTP/2 can't
                    stream.broke()
                    self.reset(stream, ErrorCodes.INTERNAL_ERROR)
        self._write()
        self.maybe_close()

    def _write(self) -> None:
        data = self._conn.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)


def lowered(headers: HeaderList) -> HeaderList:
    """Header fields as HTTP/2 wants their names."""
    return [(name.lower(), value) for name, value in headers]
