"""A connection of HTTP/2 as its frames come in (RFC 9113 §4–§6): bytes in, calls out. No I/O.

Everything that a frame may do to the connection's state is here, for both ends of it; what a request or a response is,
is not. A frame is read where it lies in the received bytes, no object is made of it. What has to be said at once
(acknowledgements, windows, resets) is gathered in `out`, and whoever feeds the connection sends it.

Errors have two sizes (§5.4). A `Violation` ends the connection: it is raised, and carries the code for the GOAWAY. What
concerns one stream resets that one and is told to it by `reset_sent`.

All that comes in is given back to the peer's window of the connection at once, to that of a stream when there is room
further on: a slow reader slows its own stream and no other, and holds `STREAM_WINDOW` bytes at most.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import Generic, TypeVar

from router.http.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    GOAWAY,
    HEAD_SIZE,
    HEADERS,
    HIGHEST,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    SMALLEST_FRAME,
    WINDOW_UPDATE,
    Code,
    Setting,
    goaway,
    pong,
    rst_stream,
    settings,
    window_update,
)
from router.http.hpack import BEYOND, Decoder, Field, HpackError, TooLarge

STREAM_WINDOW = 128 * 1024
"""Bytes of a body that may be on their way to us, per stream."""
CONNECTION_WINDOW = 1024 * 1024
"""The same for a whole connection."""
MOST_CONTINUATIONS = 80
"""Frames that a header block may come in, besides the first."""
MANY = 2**31
"""Streams at once that a peer allows who has not said how many."""
CLOSED_REMEMBERED = 128
"""Streams of which we know how they ended."""

# What frames weigh that cost us work and bring nothing on.
RESET_WEIGHT = 5.0
PING_WEIGHT = 2.0
SETTINGS_WEIGHT = 10.0
EMPTY_WEIGHT = 2.0
STRAY_WEIGHT = 5.0
UNKNOWN_WEIGHT = 1.0
WINDOW_WEIGHT = 1.0
UPDATE_COST = 512
"""Bytes of a body for each of which a peer may open a window once without being counted."""

_read_head = Struct(">HBBBL").unpack_from
_read_number = Struct(">L").unpack_from
_read_setting = Struct(">HL").iter_unpack


class Violation(Exception):
    """The peer broke the rules, or has worn out our patience: the connection ends with this code."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class StreamState:
    """What the protocol knows of a stream. Who has it tells the rest."""

    __slots__ = ("awaited", "id", "owed", "remote_done", "room", "window")

    def __init__(self, id: int, window: int) -> None:
        self.id = id
        self.window = window
        """Bytes that the peer takes of us; below zero after it changed its mind (§6.9.2)."""
        self.room = STREAM_WINDOW
        """Bytes that the peer may send."""
        self.owed = 0
        """Bytes that came and were not given back to its window."""
        self.remote_done = False
        """The peer's message is complete."""
        self.awaited = -1
        """Bytes that its body still lacks, going by Content-Length; -1 = it may have any length."""

    def data_came(self, data: bytes, size: int, ended: bool) -> None:
        """A piece of the peer's body, maybe the last; `size` is what it takes of our window, padding included."""
        raise NotImplementedError

    def reset_sent(self, code: Code, reason: str) -> None:
        """What the peer did on this stream is against the rules: it was reset, and is forgotten."""
        raise NotImplementedError


S = TypeVar("S", bound=StreamState)


class H2Protocol(Generic[S]):
    """One end of a connection. Those who inherit take the calls: `headers_came` to `introduced`."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_id",
        "_block_size",
        "_closed",
        "_continuations",
        "_decoder",
        "_largest_block",
        "_need",
        "_only",
        "_preface",
        "_rest",
        "_server",
        "_taken",
        "acknowledged",
        "earned",
        "newest",
        "out",
        "peer_frame",
        "peer_streams",
        "peer_window",
        "streams",
        "window",
    )

    def __init__(self, *, server: bool, largest_block: int) -> None:
        """`largest_block`: bytes of a header block, unpacked."""
        self.streams: dict[int, S] = {}
        """Those that go on."""
        self.out: list[bytes | memoryview] = []
        """What is to be sent."""
        self.newest = 0
        """The highest number of a stream that the client began."""
        self.window = FIRST_WINDOW
        """Bytes of bodies that the peer takes of us on all streams together."""
        self.earned = 0
        """Bytes that went out and were not set off yet against what the peer has opened its windows for."""
        self.peer_window = FIRST_WINDOW
        """What a new stream's window is."""
        self.peer_frame = SMALLEST_FRAME
        """Bytes of a frame's payload that the peer takes."""
        self.peer_streams = MANY
        """Streams at once that the peer takes."""
        self.acknowledged = False
        """The peer knows our settings."""
        self._server = server
        self._decoder = Decoder(largest_block)
        self._largest_block = largest_block
        self._preface = PREFACE if server else b""
        """What is still to come of it."""
        self._only = SETTINGS
        """The one kind of frame that may come now; -1 = any."""
        self._rest = bytearray()
        """The beginning of a frame whose end has not come."""
        self._need = 0
        """Bytes of `_rest` before which it is not worth looking at."""
        self._taken = 0
        self._closed: deque[int] = deque(maxlen=CLOSED_REMEMBERED)
        """Numbers of streams that ended, below zero if we reset them."""
        self._block: list[bytes] = []
        self._block_id = self._block_flags = self._block_size = self._continuations = 0

    # -------------------------------------------------------- what those who inherit do

    def headers_came(self, id: int, fields: list[Field] | None, ended: bool) -> None:
        """A header block, whichever it is: `streams` knows the stream, or not. None: more fields than we take."""
        raise NotImplementedError

    def reset_came(self, stream: S, code: int) -> None:
        """The peer ended a stream. It is forgotten."""
        raise NotImplementedError

    def goaway_came(self, last: int, code: int) -> None:
        """The peer takes no further streams, and none after `last` that we began."""
        raise NotImplementedError

    def connection_window_opened(self) -> None:
        """The peer takes more of all streams together."""
        raise NotImplementedError

    def window_opened(self, stream: S) -> None:
        """The peer takes more of this stream."""
        raise NotImplementedError

    def annoyed(self, weight: float) -> None:
        """A frame came that brings nothing on."""
        raise NotImplementedError

    def introduced(self) -> None:
        """The peer's first settings are known."""
        raise NotImplementedError

    # -------------------------------------------------------- what they say

    def greet(self, values: dict[Setting, int]) -> None:
        """Say who we are; `values` go to the peer besides our windows and what we take of a header block."""
        if not self._server:
            self.out.append(PREFACE)
        ours = {Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW, Setting.MAX_HEADER_LIST_SIZE: self._largest_block}
        self.out.append(settings({**ours, **values}) + window_update(0, CONNECTION_WINDOW - FIRST_WINDOW))

    def forget(self, stream: S) -> None:
        """The stream is over, for both sides."""
        if self.streams.pop(stream.id, None) is not None:
            self._closed.append(stream.id)

    def end(self, stream: S, code: int) -> None:
        """End a stream before its time; it is forgotten."""
        if self.streams.pop(stream.id, None) is not None:
            self._closed.append(-stream.id)
            self.out.append(rst_stream(stream.id, code))

    def give_back(self, stream: S) -> None:
        """There is room again for what came on a stream: tell the peer, when it is enough to be worth telling."""
        owed = stream.owed
        if owed >= STREAM_WINDOW // 2 and not stream.remote_done:
            stream.owed = 0
            stream.room += owed
            self.out.append(window_update(stream.id, owed))

    def last_words(self, code: int, reason: str = "") -> None:
        """No stream is taken after the newest."""
        self.out.append(goaway(self.newest if self._server else 0, code, reason))

    # -------------------------------------------------------- frames come in

    def feed(self, data: bytes) -> None:
        """Take in what came. Raises Violation; nothing may be fed after one."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._need:
                return
            data = bytes(rest)
            rest.clear()
        if self._preface:
            data = self._without_preface(data)
        at, end = 0, len(data)
        need = HEAD_SIZE
        while end - at >= HEAD_SIZE:
            high, low, kind, flags, id = _read_head(data, at)
            size = high << 8 | low
            if size > SMALLEST_FRAME:
                raise Violation(Code.FRAME_SIZE_ERROR, "a frame that is too large")
            start = at + HEAD_SIZE
            stop = start + size
            if stop > end:
                need = HEAD_SIZE + size
                break
            at = stop
            id &= HIGHEST
            if self._only >= 0 and kind != self._only:
                raise Violation(Code.PROTOCOL_ERROR, "another frame than must come here")
            if kind == DATA:
                self._data(data, start, stop, flags, id)
            elif kind == HEADERS:
                self._headers(data, start, stop, flags, id)
            elif kind == WINDOW_UPDATE:
                self._window_update(data, start, size, id)
            else:
                self._seldom(kind, data[start:stop], flags, id)
        if at < end:
            rest += data[at:]
            self._need = need

    def _without_preface(self, data: bytes) -> bytes:
        preface = self._preface
        size = min(len(preface), len(data))
        if data[:size] != preface[:size]:
            raise Violation(Code.PROTOCOL_ERROR, "this is not how an HTTP/2 client begins")
        self._preface = preface[size:]
        return data[size:]

    def _data(self, data: bytes, start: int, stop: int, flags: int, id: int) -> None:
        size = stop - start
        # What came is given back while half of the window is still open, so the peer can't overrun it.
        self._taken += size
        if self._taken >= CONNECTION_WINDOW // 2:
            self.out.append(window_update(0, self._taken))
            self._taken = 0
        if flags & PADDED:
            start, stop = _unpadded(data, start, stop)
        stream = self.streams.get(id)
        if stream is None:
            self._stray(id)
            return
        if stream.remote_done:
            self.fail(stream, Code.STREAM_CLOSED, "DATA behind the end of a message")
            return
        stream.room -= size
        if stream.room < 0:
            self.fail(stream, Code.FLOW_CONTROL_ERROR, "more DATA than the window allows")
            return
        ended = flags & END_STREAM != 0
        if stream.awaited >= 0:
            stream.awaited -= stop - start
            if stream.awaited < 0 or (ended and stream.awaited):
                self.fail(stream, Code.PROTOCOL_ERROR, "a body of another length than Content-Length says")
                return
        if ended:
            stream.remote_done = True
        elif start == stop:
            self.annoyed(EMPTY_WEIGHT)
        stream.data_came(data[start:stop], size, ended)

    def _headers(self, data: bytes, start: int, stop: int, flags: int, id: int) -> None:
        if flags & PADDED:
            start, stop = _unpadded(data, start, stop)
        if flags & PRIORITY_FLAG:
            start += 5  # what depends on what is nothing we go by (§5.3.2)
            if start > stop:
                raise Violation(Code.FRAME_SIZE_ERROR, "a frame without room for what its flags say")
        if flags & END_HEADERS:
            self._decoded(id, data[start:stop], flags)
            return
        self._only = CONTINUATION
        self._block_id, self._block_flags = id, flags
        self._block_size = stop - start
        self._continuations = 0
        self._block.append(data[start:stop])

    def _continuation(self, payload: bytes, flags: int, id: int) -> None:
        if self._only != CONTINUATION or id != self._block_id:
            raise Violation(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._continuations += 1
        if self._continuations > MOST_CONTINUATIONS:
            raise Violation(Code.PROTOCOL_ERROR, "a header block in too many frames")
        self._block_size += len(payload)
        if self._block_size > self._largest_block + BEYOND:
            raise Violation(Code.ENHANCE_YOUR_CALM, "a header block with far more in it than we take")
        self._block.append(payload)
        if flags & END_HEADERS:
            block = b"".join(self._block)
            self._block.clear()
            self._only = -1
            self._decoded(id, block, self._block_flags)

    def _decoded(self, id: int, block: bytes, flags: int) -> None:
        if not id:
            raise Violation(Code.PROTOCOL_ERROR, "HEADERS that belong to no stream")
        try:
            fields = self._decoder.decode(block)
        except TooLarge as error:
            raise Violation(Code.ENHANCE_YOUR_CALM, str(error)) from None
        except HpackError as error:
            raise Violation(Code.COMPRESSION_ERROR, str(error)) from None
        self.headers_came(id, fields, flags & END_STREAM != 0)

    def trailers_came(self, stream: S, ended: bool) -> bool:
        """The block that `headers_came` for a message under way: may it be its trailers? Else the stream fails."""
        if stream.remote_done:
            self.fail(stream, Code.STREAM_CLOSED, "HEADERS behind the end of a message")
        elif not ended or stream.awaited > 0:
            self.fail(stream, Code.PROTOCOL_ERROR, "trailers that don't end a message, or before its end")
        else:
            stream.remote_done = True
            return True
        return False

    def stray_headers(self, id: int) -> None:
        """The block that `headers_came` belongs to no stream that goes on, and begins none."""
        if -id not in self._closed:
            known = Code.STREAM_CLOSED if id in self._closed else Code.PROTOCOL_ERROR
            raise Violation(known, "HEADERS for a stream that can't have any")

    def _window_update(self, data: bytes, start: int, size: int, id: int) -> None:
        if size != 4:
            raise Violation(Code.FRAME_SIZE_ERROR, "a WINDOW_UPDATE of another size")
        self.earned -= UPDATE_COST
        if self.earned < 0:
            self.earned = 0
            self.annoyed(WINDOW_WEIGHT)
        more = _read_number(data, start)[0] & HIGHEST
        if not id:
            self.window += more
            if not more or self.window > HIGHEST:
                code = Code.FLOW_CONTROL_ERROR if more else Code.PROTOCOL_ERROR
                raise Violation(code, "a window opened by nothing, or too far")
            self.connection_window_opened()
            return
        stream = self.streams.get(id)
        if stream is None:
            self._must_have_been(id)  # that it comes late is no fault (§5.1)
            return
        stream.window += more
        if not more:
            self.fail(stream, Code.PROTOCOL_ERROR, "a window opened by nothing")
        elif stream.window > HIGHEST:
            self.fail(stream, Code.FLOW_CONTROL_ERROR, "a window opened too far")
        else:
            self.window_opened(stream)

    def _seldom(self, kind: int, payload: bytes, flags: int, id: int) -> None:
        rule = _SELDOM.get(kind)
        if rule is None:  # kinds that we don't know are to be ignored (§4.1)
            self.annoyed(UNKNOWN_WEIGHT)
            return
        of_a_stream, size, handler = rule
        if of_a_stream is not (id > 0):
            raise Violation(Code.PROTOCOL_ERROR, "a frame of the connection on a stream, or the other way round")
        if size >= 0 and len(payload) != size:
            raise Violation(Code.FRAME_SIZE_ERROR, "a frame of another size than its kind has")
        handler(self, payload, flags, id)

    def _priority(self, payload: bytes, flags: int, id: int) -> None:
        self.annoyed(UNKNOWN_WEIGHT)
        if len(payload) != 5:
            stream = self.streams.get(id)
            if stream is None:
                raise Violation(Code.FRAME_SIZE_ERROR, "a frame of another size than its kind has")
            self.fail(stream, Code.FRAME_SIZE_ERROR, "a frame of another size than its kind has")

    def _rst_stream(self, payload: bytes, flags: int, id: int) -> None:
        stream = self.streams.get(id)
        if stream is None:
            self._must_have_been(id)
        else:
            self.forget(stream)
            self.reset_came(stream, _read_number(payload)[0])
        self.annoyed(RESET_WEIGHT)

    def _settings(self, payload: bytes, flags: int, id: int) -> None:
        if flags & ACK:
            if payload:
                raise Violation(Code.FRAME_SIZE_ERROR, "settings in an acknowledgement")
            if self._only >= 0:
                raise Violation(Code.PROTOCOL_ERROR, "another frame than must come here")
            self.acknowledged = True
            return
        if len(payload) % 6:
            raise Violation(Code.FRAME_SIZE_ERROR, "half a setting")
        first = self._only >= 0
        self._only = -1
        if first:
            self.peer_streams = MANY
        for key, value in _read_setting(payload):
            self._setting(key, value)
        self.out.append(SETTINGS_ACK)
        if first:
            self.introduced()
        else:
            self.annoyed(SETTINGS_WEIGHT)

    def _setting(self, key: int, value: int) -> None:
        if key == Setting.ENABLE_PUSH and value > self._server:  # a server can't have it
            raise Violation(Code.PROTOCOL_ERROR, "ENABLE_PUSH that can't be")
        if key == Setting.MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
        elif key == Setting.INITIAL_WINDOW_SIZE:
            if value > HIGHEST:
                raise Violation(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE that can't be")
            more, self.peer_window = value - self.peer_window, value
            for stream in self.streams.values():
                stream.window += more
                if stream.window > HIGHEST:
                    raise Violation(Code.FLOW_CONTROL_ERROR, "a window opened too far")
                if more > 0:
                    self.window_opened(stream)
        elif key == Setting.MAX_FRAME_SIZE:
            if not SMALLEST_FRAME <= value < 1 << 24:
                raise Violation(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE that can't be")
            self.peer_frame = value

    def _push_promise(self, payload: bytes, flags: int, id: int) -> None:
        raise Violation(Code.PROTOCOL_ERROR, "PUSH_PROMISE that nobody allowed")

    def _ping(self, payload: bytes, flags: int, id: int) -> None:
        if not flags & ACK:
            self.out.append(pong(payload))
        self.annoyed(PING_WEIGHT)

    def _goaway(self, payload: bytes, flags: int, id: int) -> None:
        if len(payload) < 8:
            raise Violation(Code.FRAME_SIZE_ERROR, "a frame of another size than its kind has")
        self.goaway_came(_read_number(payload)[0] & HIGHEST, _read_number(payload, 4)[0])

    # -------------------------------------------------------- what is wrong with them

    def fail(self, stream: S, code: Code, reason: str) -> None:
        """The peer broke a rule on one stream: it is over."""
        self.end(stream, code)
        stream.reset_sent(code, reason)
        self.annoyed(STRAY_WEIGHT)

    def _must_have_been(self, id: int) -> None:
        """A frame for a stream that does not go on is wrong if it never began (§5.1)."""
        if id > self.newest or not id & 1:
            raise Violation(Code.PROTOCOL_ERROR, "a frame for a stream that never began")

    def _stray(self, id: int) -> None:
        """DATA for a stream that does not go on: after a reset of ours it may have been on its way."""
        self._must_have_been(id)
        if -id not in self._closed:
            self.out.append(rst_stream(id, Code.STREAM_CLOSED))
            self.annoyed(STRAY_WEIGHT)


def _unpadded(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Where the payload of a padded frame begins and ends (§6.1)."""
    if start == stop:
        raise Violation(Code.FRAME_SIZE_ERROR, "a frame without room for what its flags say")
    stop -= data[start]
    start += 1
    if stop < start:
        raise Violation(Code.PROTOCOL_ERROR, "more padding than the frame holds")
    return start, stop


_ANY = -1
_SELDOM = {
    PRIORITY: (True, _ANY, H2Protocol._priority),
    RST_STREAM: (True, 4, H2Protocol._rst_stream),
    SETTINGS: (False, _ANY, H2Protocol._settings),
    PUSH_PROMISE: (True, _ANY, H2Protocol._push_promise),
    PING: (False, 8, H2Protocol._ping),
    GOAWAY: (False, _ANY, H2Protocol._goaway),
    CONTINUATION: (True, _ANY, H2Protocol._continuation),
}
"""Kind → does it belong to a stream (else to the connection), bytes of its payload, what it does."""
