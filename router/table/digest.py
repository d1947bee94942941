"""Digests of a table by which routers see where theirs differ, without sending it.

Hosts fall into `BUCKETS` buckets. A bucket's digest is the XOR of the digests of its entries, so it does not depend on
the order in which they came, and a change costs two hashes whatever the size of the table. Only what an endpoint is
goes in, never when it was heard of: heartbeats leave digests alone.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from zlib import crc32

import msgspec

from router.table.uri import host_of

BUCKETS = 256
_WIDTH = 8  # bytes of one digest
_PACKED = struct.Struct(f">{BUCKETS}Q")
PACKED_BYTES = _PACKED.size

MOST_WAITING = 150_000
"""Entries that may wait for `TableDigest.settle`: a fifth of a second's work."""

_encode = msgspec.msgpack.Encoder().encode
_PAIR = b"\x92"  # an array of two begins so
_from_bytes = int.from_bytes


def bucket_of(key: str) -> int:
    """The bucket of a route key: that of its host, the same in every router."""
    return crc32(host_of(key).encode("utf-8", "surrogatepass")) % BUCKETS


def entry_digest(key: str, packed: bytes) -> int:
    """The digest of one endpoint of one route: of MessagePack's array of key and spec."""
    return int.from_bytes(blake2b(_PAIR + _encode(key) + packed, digest_size=_WIDTH).digest(), "big")


class TableDigest:
    """The digests of all buckets of one table."""

    __slots__ = ("_digests", "_waiting", "behind")

    def __init__(self) -> None:
        self._digests = [0] * BUCKETS
        self._waiting: deque[tuple[Iterable[tuple[str, bytes]], int]] = deque()
        self.behind = 0
        """Entries that wait for `settle`."""

    def toggle(self, key: str, *packed: bytes) -> None:
        """These endpoints have come to a route, or have left it."""
        bucket = bucket_of(key)
        for each in packed:
            self._digests[bucket] ^= entry_digest(key, each)

    def toggle_later(self, entries: Iterable[tuple[str, bytes]], number: int) -> None:
        """As `toggle`, for so many (key, packed endpoint), gone through by `settle` or when they are needed."""
        self._waiting.append((entries, number))
        self.behind += number
        while self.behind > MOST_WAITING:
            self.settle()

    def settle(self) -> bool:
        """Work out some of what waits; False when nothing does."""
        if not self._waiting:
            return False
        digests, (entries, number) = self._digests, self._waiting.popleft()
        self.behind -= number
        for key, packed in entries:
            host = key.partition("/")[0].encode("utf-8", "surrogatepass")
            digest = blake2b(_PAIR + _encode(key) + packed, digest_size=_WIDTH).digest()
            digests[crc32(host) % BUCKETS] ^= _from_bytes(digest, "big")
        return True

    def pack(self) -> bytes:
        """All digests, for `differing` of another router: `PACKED_BYTES` bytes."""
        while self.settle():
            pass
        return _PACKED.pack(*self._digests)

    def differing(self, packed: bytes) -> frozenset[int]:
        """Buckets in which the table behind `packed` (of `PACKED_BYTES` bytes) is not like this one."""
        while self.settle():
            pass
        others = _PACKED.unpack(packed)
        return frozenset(i for i, (own, other) in enumerate(zip(self._digests, others, strict=True)) if own != other)


def differing(one: bytes, other: bytes) -> list[int]:
    """Buckets in which two tables differ, both given as `TableDigest.pack`."""
    pairs = zip(_PACKED.unpack(one), _PACKED.unpack(other), strict=True)
    return [i for i, (a, b) in enumerate(pairs) if a != b]
