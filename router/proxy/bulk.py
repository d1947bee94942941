"""Reading long bodies in pieces of bounded size.

uvloop hands a protocol up to 256 KiB at once. That is fine for a message that fits, but a connection whose other side
reads slowly would hold on to as much. While a long body comes in, a connection is therefore read through one buffer
of `PIECE` bytes, shared by the whole worker: what a stream can hold is its transport's high-water mark and one piece.
"""

from __future__ import annotations

import asyncio

PIECE = 64 * 1024
"""Bytes read at once of a long body."""
LONG = 64 * 1024
"""A body with more bytes than this still to come is long."""
HIGH_WATER = 32 * 1024
"""Bytes waiting to be sent at which the other side is no longer read."""

_buffer = memoryview(bytearray(PIECE))


class BulkReader(asyncio.BufferedProtocol):
    """Stands in for `protocol` at `transport` until `end`: what comes in arrives at `protocol.data_received`."""

    __slots__ = ("_protocol", "_transport")

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        self._transport = transport
        self._protocol = protocol
        _switch(transport, self)

    def end(self) -> None:
        """Give the connection back to its protocol."""
        if not self._transport.is_closing():
            _switch(self._transport, self._protocol)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(_buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def _switch(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Change protocols. uvloop chooses how to read when reading starts, so reading is started anew."""
    reading = transport.is_reading()
    if reading:
        transport.pause_reading()
    transport.set_protocol(protocol)
    if reading:
        transport.resume_reading()
