"""Frames of the feed: from messages to bytes, and from a stream of bytes back to payloads. No I/O.

A frame is a 4-byte big-endian length and that many bytes of MessagePack (`router.messages`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from router.messages import FRAME_HEADER, MAX_FRAME

_encode = msgspec.msgpack.Encoder().encode


class FrameError(Exception):
    """The peer sent what is no frame."""


def frame(message: msgspec.Struct) -> bytes:
    """The message as one frame."""
    payload = _encode(message)
    return len(payload).to_bytes(FRAME_HEADER, "big") + payload


class Splitter:
    """Cuts a stream into payloads; keeps what is not complete yet."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def split(self, data: bytes) -> Iterator[bytes]:
        """The payloads that `data` completes, in order. Raises FrameError when a length can't be true."""
        self._rest += data
        at, end = 0, len(self._rest)
        try:
            while end - at >= FRAME_HEADER:
                size = int.from_bytes(self._rest[at : at + FRAME_HEADER], "big")
                if size > MAX_FRAME:
                    raise FrameError(f"a frame of {size} bytes is announced, at most {MAX_FRAME} are allowed")
                start = at + FRAME_HEADER
                if end - start < size:
                    return
                at = start + size
                yield bytes(self._rest[start:at])
        finally:
            del self._rest[:at]
