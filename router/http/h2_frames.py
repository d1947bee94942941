"""The frames of HTTP/2 as we write them, and the numbers in them (RFC 9113 §4, §6, §7). No I/O, no state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (§3.4)."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
PRIORITY_FLAG = 0x20

HEAD_SIZE = 9
"""Bytes before the payload of a frame."""
SMALLEST_FRAME = 16384
"""Bytes of payload that anyone takes: what we take, too."""
FIRST_WINDOW = 65535
"""Bytes of bodies that may be sent before anything is said about it."""
HIGHEST = 2**31 - 1
"""The largest window, and the last number that a stream may have."""


class Code(IntEnum):
    """Why a stream or a connection ends (§7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


def code_name(code: int) -> str:
    """A code as logs show it."""
    return Code(code).name if code in _CODES else hex(code)


_CODES = frozenset(Code)


class Setting(IntEnum):
    """What either side tells of itself (§6.5.2; the last: RFC 8441)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6
    ENABLE_CONNECT_PROTOCOL = 8


_head = Struct(">HBBBL").pack
_number = Struct(">L").pack
_two_numbers = Struct(">LL").pack
_setting = Struct(">HL").pack


def frame_head(size: int, kind: int, flags: int, id: int) -> bytes:
    """What stands before a payload of `size` bytes."""
    return _head(size >> 8, size & 0xFF, kind, flags, id)


def headers(id: int, block: bytes, ended: bool, largest: int) -> bytes:
    """A header block: one frame, or as many as it takes when none may be over `largest` bytes."""
    flags = END_STREAM if ended else 0
    if len(block) <= largest:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, id) + block
    pieces = [block[at : at + largest] for at in range(0, len(block), largest)]
    written = [frame_head(largest, HEADERS, flags, id) + pieces[0]]
    for number, piece in enumerate(pieces[1:], 2):
        last = END_HEADERS if number == len(pieces) else 0
        written.append(frame_head(len(piece), CONTINUATION, last, id) + piece)
    return b"".join(written)


def rst_stream(id: int, code: int) -> bytes:
    """The end of a stream before its time."""
    return frame_head(4, RST_STREAM, 0, id) + _number(code)


def settings(values: Mapping[Setting, int]) -> bytes:
    """What we are like."""
    payload = b"".join([_setting(key, value) for key, value in values.items()])
    return frame_head(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK = frame_head(0, SETTINGS, ACK, 0)


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return frame_head(8, PING, ACK, 0) + payload


def goaway(last: int, code: int, reason: str = "") -> bytes:
    """No stream after `last` is taken; `reason` is for people."""
    said = reason.encode()
    return frame_head(8 + len(said), GOAWAY, 0, 0) + _two_numbers(last, code) + said


def window_update(id: int, more: int) -> bytes:
    """So many bytes more may be sent: on a stream, or, with 0, on all together."""
    return frame_head(4, WINDOW_UPDATE, 0, id) + _number(more)
