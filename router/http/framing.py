"""Reading bodies: bytes as they come in, payload out, and where the message ends (RFC 9112 §6, §7).

Bodies of known length are counted, never parsed. Chunked bodies are decoded strictly and framed anew when they are
sent on: extensions are dropped, sizes re-written, and of the trailers only those pass that can't change how the message
is framed, routed or trusted (RFC 9110 §6.5.1). No I/O here.
"""

from __future__ import annotations

import re

from router.http.headers import unsafe_trailer
from router.http.message import BadMessage, HeaderList

MAX_CHUNK_LINE = 4096
"""Bytes of a chunk-size line with its extensions."""
MAX_TRAILERS = 16 * 1024
"""Bytes of a trailer section."""
LAST_CHUNK = b"0\r\n\r\n"

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\Z")
_EXTENSION = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_HEX = frozenset(b"0123456789abcdefABCDEF")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: HeaderList) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % field for field in trailers])


class LengthReader:
    """A body of `length` bytes."""

    __slots__ = ("done", "left", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self.trailers: HeaderList = []
        self.left = length
        self.done = length == 0
        self.rest = b""
        """Bytes after the end of the message, once `done`."""

    def feed(self, data: bytes) -> bytes:
        """Payload in `data`."""
        left = self.left
        size = len(data)
        if size < left:
            self.left = left - size
            return data
        self.left = 0
        self.done = True
        if size == left:
            return data
        self.rest = data[left:]
        return data[:left]


class ChunkedReader:
    """A chunked body. After `done`, `rest` holds the bytes behind it, `trailers` the fields that may pass."""

    __slots__ = ("_left", "_line", "_state", "_trailer_bytes", "done", "rest", "trailers")

    _SIZE, _DATA, _DATA_END, _TRAILER = range(4)

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._state = self._SIZE
        self._left = 0
        self._line = b""
        self._trailer_bytes = 0
        self.trailers: HeaderList = []

    def feed(self, data: bytes) -> bytes:
        """Payload in `data`, chunk framing taken off. Raises BadMessage(400)."""
        payload: list[bytes] = []
        position = 0
        if self._line:
            data = self._line + data
            self._line = b""
        size = len(data)
        while position < size:
            state = self._state
            if state == self._DATA:
                taken = data[position : position + self._left]
                payload.append(taken)
                position += len(taken)
                self._left -= len(taken)
                if not self._left:
                    self._state = self._DATA_END
                continue
            if state == self._DATA_END:
                ending = data[position : position + 2]
                if ending == b"\r\n":
                    position += 2
                    self._state = self._SIZE
                elif ending == b"\r":
                    self._line = ending
                    break
                else:
                    raise BadMessage(400, "chunk longer than its size")
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                self._line = data[position:]
                self._check_partial(state)
                break
            line = data[position:end]
            position = end + 2
            if state == self._SIZE:
                self._left = _chunk_size(line)
                self._state = self._DATA if self._left else self._TRAILER
            elif self._trailer(line):
                self.done = True
                self.rest = data[position:]
                break
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _check_partial(self, state: int) -> None:
        limit = MAX_CHUNK_LINE if state == self._SIZE else MAX_TRAILERS
        if len(self._line) > limit:
            raise BadMessage(400, "chunk line or trailers too long")
        if b"\n" in self._line:
            raise BadMessage(400, "bare LF in chunk framing")

    def _trailer(self, line: bytes) -> bool:
        """One line of the trailer section; True at its end."""
        if not line:
            return True
        self._trailer_bytes += len(line) + 2
        if self._trailer_bytes > MAX_TRAILERS:
            raise BadMessage(400, "chunk line or trailers too long")
        field = _FIELD.match(line)
        if field is None:
            raise BadMessage(400, "malformed trailer")
        name, value = field.groups()
        if not unsafe_trailer(name):
            self.trailers.append((name, value))
        return False


def _chunk_size(line: bytes) -> int:
    """The size in a chunk-size line, its extensions checked for control characters and dropped."""
    if len(line) > MAX_CHUNK_LINE:
        raise BadMessage(400, "chunk line or trailers too long")
    digits, semicolon, extension = line.partition(b";")
    if semicolon:
        digits = digits.rstrip(b" \t")
        if not _EXTENSION.match(extension):
            raise BadMessage(400, "malformed chunk extension")
    if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
        raise BadMessage(400, "malformed chunk size")
    return int(digits, 16)
