"""Tables on their way from one router to another, or to a file: pieces of a size that the bus carries.

    piece     zlib of MessagePack: `Piece`. Stamps are seconds of the sender's monotonic clock, and `at` is its now, so
              that the reader can tell ages without either knowing the other's time of day
    layout    which fields an endpoint has; routers of another layout can't read one another's pieces and don't try

What a piece may become in memory is bounded, whatever it claims to be.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator

import msgspec

from router.control.merging import Route, export, export_gone, merge, merge_gone
from router.control.registry import Registry
from router.messages import EndpointSpec, RouteOptions, TableOp

FORMAT = 2
_FIELDS = ",".join(EndpointSpec.__struct_fields__ + RouteOptions.__struct_fields__)
LAYOUT = f"{FORMAT}-{zlib.crc32(_FIELDS.encode()):08x}"
"""What a router and its peer must have in common to exchange endpoints."""
PIECE_BYTES = 256 * 1024
"""Encoded bytes after which a piece is full: with any content less than the 1 MiB that NATS carries, compressed."""
MOST_BYTES = 16 * 1024 * 1024
_LEVEL = 1
_TOGETHER = 100  # endpoints of one route in one record


class PieceError(Exception):
    """What was received is no piece; the text says why."""


class _Record(msgspec.Struct, array_like=True, gc=False):
    """A `Route` whose endpoints are packed already."""

    key: str
    context_path: str
    options: RouteOptions | None
    endpoints: list[tuple[msgspec.Raw, float]]


class Gone(msgspec.Struct, array_like=True, gc=False):
    """An endpoint that was taken away from a route, and the second until which that holds."""

    key: str
    address: str
    stamp: float


class Piece(msgspec.Struct, array_like=True):
    """A part of a table: number `number`, and the last one or not. `buckets` are what the whole answer covers."""

    sender: str
    at: float
    listening_since: float
    number: int
    last: bool
    buckets: list[int] | None
    routes: list[Route]
    gone: list[Gone]


class _Draft(msgspec.Struct, array_like=True):
    """A `Piece` whose records are encoded already."""

    sender: str
    at: float
    listening_since: float
    number: int
    last: bool
    buckets: list[int] | None
    routes: list[msgspec.Raw]
    gone: list[msgspec.Raw]


_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.Decoder(Piece).decode


def pieces(registry: Registry, sender: str, buckets: Collection[int] | None = None) -> Iterator[bytes]:
    """The table, or some buckets of it, in pieces; may be used bit by bit while the table changes."""
    wanted = None if buckets is None else sorted(buckets)
    routes: list[msgspec.Raw] = []
    gone: list[msgspec.Raw] = []
    size = number = 0

    def piece(last: bool) -> bytes:
        draft = _Draft(sender, registry.now, registry.listening_since, number, last, wanted, routes, gone)
        return zlib.compress(_encode(draft), _LEVEL)

    for kind, record in _records(registry, buckets):
        encoded = _encode(record)
        size += len(encoded)
        (gone if kind is Gone else routes).append(msgspec.Raw(encoded))
        if size >= PIECE_BYTES:
            yield piece(last=False)
            routes, gone, size = [], [], 0
            number += 1
    yield piece(last=True)


def _records(registry: Registry, buckets: Collection[int] | None) -> Iterator[tuple[type, _Record | Gone]]:
    for key, address, stamp in export_gone(registry, buckets):
        yield Gone, Gone(key, address, stamp)
    for key, path, options, endpoints in export(registry, buckets):
        for begin in range(0, len(endpoints), _TOGETHER):
            part = [(msgspec.Raw(packed), stamp) for packed, stamp in endpoints[begin : begin + _TOGETHER]]
            yield Route, _Record(key, path, options, part)


def read_piece(data: bytes) -> Piece:
    """A piece as received. Raises PieceError."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data, MOST_BYTES)
        if not unpacker.eof:
            raise PieceError(f"it is cut off, or larger than {MOST_BYTES} bytes")
        return _decode(plain)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PieceError(str(error)) from None


def apply(registry: Registry, piece: Piece, offset: float) -> int:
    """Merge a piece into a table: the number of changes. `offset` is this clock less the sender's, in seconds."""
    changes = 0
    ops: list[TableOp] = []
    for gone in piece.gone:
        changes += merge_gone(registry, gone.key, gone.address, gone.stamp + offset, ops)
    changes += merge(registry, piece.routes, offset, ops)
    if ops:
        registry.sink(ops)
    return changes
