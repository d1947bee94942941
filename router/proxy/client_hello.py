"""What a client's first TLS message says of protocols (RFC 8446 §4.1.2, RFC 7301 §3.1). No I/O.

OpenSSL has read the message by the time we are asked, and found it well-formed; Python does not tell what was in it.
"""

from __future__ import annotations

from collections.abc import Iterable

_RECORD_HEAD = 5
_FIXED = 4 + 2 + 32
"""Bytes of a ClientHello before the first that vary in length: kind and length, version, random."""
_ALPN = 16


def nothing_in_common(records: bytes, ours: Iterable[bytes]) -> bool:
    """The client names protocols, and none of `ours`. `records` are what it sent, as it came."""
    if any(bytes((len(name),)) + name in records for name in ours):
        return False  # most clients: no need to look closer
    try:
        offered = _offered(_handshake(records))
    except IndexError:
        return False
    return offered is not None and not offered.intersection(ours)


def _handshake(records: bytes) -> bytes:
    """What is in the records."""
    pieces = []
    at = 0
    while at < len(records):
        end = at + _RECORD_HEAD + (records[at + 3] << 8 | records[at + 4])
        pieces.append(records[at + _RECORD_HEAD : end])
        at = end
    return b"".join(pieces)


def _offered(hello: bytes) -> set[bytes] | None:
    """The names in the extension; None without it."""
    at = _FIXED
    at += 1 + hello[at]  # session id
    at += 2 + (hello[at] << 8 | hello[at + 1])  # cipher suites
    at += 1 + hello[at]  # compression methods
    end = at + 2 + (hello[at] << 8 | hello[at + 1]) if at < len(hello) else at
    at += 2
    while at < end:
        kind, size = hello[at] << 8 | hello[at + 1], hello[at + 2] << 8 | hello[at + 3]
        at += 4
        if kind == _ALPN:
            return set(_names(hello[at + 2 : at + size]))
        at += size
    return None


def _names(listed: bytes) -> Iterable[bytes]:
    at = 0
    while at < len(listed):
        yield listed[at + 1 : at + 1 + listed[at]]
        at += 1 + listed[at]
