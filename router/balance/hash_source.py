"""What of a request a hashing strategy hashes (notation: `table.hash_key`), and how.

CRC-32 is the hash: it is in C, the same on every machine, and more than even enough for a table with a prime number of
entries. Who wants to can choose a value that leads to a certain endpoint; that is so with any hash that all routers
share.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from router.balance.strategy import Request

Source = Callable[[Request], bytes | None]


def source(key: str) -> Source:
    """Gives the bytes to hash, None (or nothing) for a request that has none. `key` is in its one spelling."""
    kind, _, name = key.partition(":")
    wanted = name.encode()
    if kind == "header":
        return lambda request: request.header(wanted)
    if kind == "cookie":
        return lambda request: _value(request.header(b"cookie") or b"", b";", wanted)
    if kind == "query":
        return lambda request: _value(request.target.partition(b"?")[2], b"&", wanted)
    if kind == "path":
        return lambda request: request.target.partition(b"?")[0]
    return lambda request: request.client


def _value(pairs: bytes, separator: bytes, name: bytes) -> bytes | None:
    """The value of the first pair with this name."""
    for pair in pairs.split(separator):
        found, equals, value = pair.partition(b"=")
        if equals and found.strip() == name:
            return value.strip()
    return None


hashed = crc32
