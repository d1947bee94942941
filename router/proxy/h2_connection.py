"""What both ends of HTTP/2 have in common: a connection, its streams and how bodies flow (RFC 9113).

The protocol's state is in `http.h2_protocol`; here is the socket. A stream gathers what is to be sent (head, body,
end); at the end of the turn of the loop the connection sends of it what the peer's windows allow, all in one write,
together with what the protocol has to say. Streams that wait for the connection's window take turns.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

from router.http.h2_frames import DATA, END_STREAM, Setting, frame_head, headers
from router.http.h2_protocol import UPDATE_COST, H2Protocol, StreamState
from router.http.hpack import NO_TABLE, encode
from router.http.message import HeaderList
from router.proxy.bulk import HIGH_WATER

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane


class H2Stream(StreamState):
    """One message each way. Sending: `begin`, `send`, `end`; `full` and `drained` tell whoever feeds it."""

    __slots__ = (
        "connection",
        "ended",
        "exchange",
        "full",
        "head",
        "moved",
        "out",
        "out_size",
        "paused",
        "sent",
        "trailers",
    )

    def __init__(self, connection: H2Peer[Any], id: int) -> None:
        super().__init__(id, connection.peer_window)
        self.connection = connection
        self.exchange: Exchange | None = None
        self.head = b""
        """Header block of the head, until it is sent."""
        self.out: list[bytes | memoryview] = []
        """What of the body waits for the peer's windows. Its rest is not copied: a peer may open them by a byte."""
        self.out_size = 0
        self.ended = False
        """The message is complete, what is left of it is in `out`."""
        self.sent = False
        """It has gone out, its end included."""
        self.full = False
        """The feeder was told to wait."""
        self.trailers: HeaderList = []
        self.paused = False
        """What comes in is not given back to the peer's window."""
        self.moved = connection.plane.clock.now
        """When something last moved, in either direction."""

    # -------------------------------------------------------- out

    def begin(self, block: bytes, data: bytes = b"") -> None:
        """The head, as a header block, and the first bytes of the body."""
        self.head = block
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

    def flush(self) -> None:
        """Send what the windows allow."""
        if self.sent:
            return
        connection = self.connection
        out = connection.out
        over = self.ended and not self.trailers
        if self.head:
            last = over and not self.out_size
            out.append(headers(self.id, connection.first_block(self.head), last, connection.peer_frame))
            self.head = b""
            if last:
                self._all_sent()
                return
        if self.out_size:
            if not self._flush_body(out, over):
                return
            if over:
                self._all_sent()
                return
        if self.ended:
            if self.trailers:
                out.append(headers(self.id, encode(self.trailers), True, connection.peer_frame))
            else:
                out.append(frame_head(0, DATA, END_STREAM, self.id))
            self._all_sent()

    def _all_sent(self) -> None:
        self.sent = True
        self.all_sent()

    def _flush_body(self, out: list[bytes | memoryview], over: bool) -> bool:
        """Send of the body what the windows allow; `over`: its end is the message's. True: that was all there is."""
        connection = self.connection
        size = self.out_size
        largest = connection.peer_frame
        room = min(self.window, connection.window, size)
        if room > 0:
            self.window -= room
            connection.window -= room
            # A window opened in crumbs earns their bytes only; whatever else is sent, an update of both windows too.
            connection.earned += room if room < size else room + 2 * UPDATE_COST
            self.moved = connection.plane.clock.now
            if room == size and size <= largest:
                out.append(frame_head(size, DATA, END_STREAM if over else 0, self.id))
                out += self.out
                self.out = []
            else:
                data = memoryview(self.out[0] if len(self.out) == 1 else b"".join(self.out))
                for at in range(0, room, largest):
                    piece = data[at : min(at + largest, room)]
                    last = over and at + len(piece) == size
                    out.append(frame_head(len(piece), DATA, END_STREAM if last else 0, self.id))
                    out.append(piece)
                self.out = [data[room:]] if room < size else []
            self.out_size = size - room
            if self.full and self.out_size <= HIGH_WATER // 2:
                self.full = False
                self.drained()
        if self.out_size and self.window > 0:
            connection.wait_turn(self)
        return not self.out_size

    # -------------------------------------------------------- in

    def came(self, size: int) -> None:
        """A piece of a body came in, and takes so much of our window."""
        self.moved = self.connection.plane.clock.now
        self.owed += size
        if not self.paused:
            self._give_back()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        if self.paused:
            self.paused = False
            self.moved = self.connection.plane.clock.now
            self._give_back()

    def _give_back(self) -> None:
        connection = self.connection
        connection.give_back(self)
        if connection.out:
            connection.soon()


Stream = TypeVar("Stream", bound=H2Stream)


class H2Peer(H2Protocol[Stream], asyncio.Protocol):
    """A connection with streams."""

    __slots__ = ("_dirty", "_flushing", "_full", "_greeted", "_waiting", "plane", "transport")

    def __init__(self, plane: Plane, *, server: bool, largest_head: int) -> None:
        """`largest_head` is bytes of a header block, unpacked."""
        super().__init__(server=server, largest_block=largest_head)
        self.plane = plane
        self.transport: asyncio.Transport
        self._dirty: dict[Stream, None] = {}
        """Streams with something to send."""
        self._waiting: dict[Stream, None] = {}
        """Streams that the connection's window keeps from it, in the order of their turns."""
        self._flushing = False
        self._full = False
        self._greeted = False

    def start(self, transport: asyncio.BaseTransport, settings: dict[Setting, int]) -> None:
        """The connection is there: say who we are."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        self.greet(settings)
        self.write()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._flush()

    def soon(self, stream: Stream | None = None) -> None:
        """There is something to send, of the stream or of the connection's own: it goes at the end of this turn."""
        if stream is not None:
            self._dirty[stream] = None
        if not self._flushing:
            self._flushing = True
            self.plane.loop.call_soon(self._flush)

    def wait_turn(self, stream: Stream) -> None:
        """The connection's window is used up before the stream's is."""
        self._waiting[stream] = None

    def connection_window_opened(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._dirty.update(waiting)
            self.soon()

    def window_opened(self, stream: Stream) -> None:
        if stream.out_size:
            self.soon(stream)

    def first_block(self, block: bytes) -> bytes:
        """A header block that is to be sent; the first of a connection says how all are written."""
        if self._greeted:
            return block
        self._greeted = True
        return NO_TABLE + block

    def forget(self, stream: Stream) -> None:
        super().forget(stream)
        self._let_go(stream)

    def end(self, stream: Stream, code: int) -> None:
        super().end(stream, code)
        self._let_go(stream)
        self.soon()

    def _let_go(self, stream: Stream) -> None:
        self._dirty.pop(stream, None)
        if self._waiting:
            self._waiting.pop(stream, None)

    def maybe_close(self) -> None:
        """A stream is over: close the connection if that was all it waited for."""
        raise NotImplementedError

    def _flush(self) -> None:
        self._flushing = False
        if self.transport.is_closing():
            return
        if self._dirty and not self._full:
            dirty, self._dirty = self._dirty, {}
            for stream in dirty:
                if self.streams.get(stream.id) is stream:
                    stream.flush()
        self.write()
        self.maybe_close()

    def write(self) -> None:
        """Send what is there to be said."""
        if self.out and not self.transport.is_closing():
            data = b"".join(self.out)
            self.out.clear()
            self.transport.write(data)
