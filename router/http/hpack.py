"""Writing HPACK (RFC 7541): header fields in, a header block out, without state between blocks. No I/O.

A field is written as an index of the static table where it is there, else as a literal that the peer shall not index.
So a field always reads the same, and those that come often are written once and remembered. It costs the wire some
bytes and saves us most of the time of a response; reading, where the peer decides what is used, is left to the `hpack`
library.
"""

from __future__ import annotations

from collections.abc import Iterable

_STATIC = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    *(
        (name, b"gzip, deflate" if name == b"accept-encoding" else b"")
        for name in (
            b"accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age "
            b"allow authorization cache-control content-disposition content-encoding content-language content-length "
            b"content-location content-range content-type cookie date etag expect expires from host if-match "
            b"if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
            b"proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
            b"strict-transport-security transfer-encoding user-agent vary via www-authenticate"
        ).split()
    ),
)
"""RFC 7541, appendix A, from index 1 on."""
_FIELDS = {field: index for index, field in reversed(list(enumerate(_STATIC, 1)))}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}
_NEVER = frozenset((b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"))
"""Nobody on the way may index these either (RFC 7541 §7.1)."""
_REMEMBERED = 4096
_LONGEST_REMEMBERED = 100
"""Bytes of a value that is worth remembering: ids and dates pass through, the rest repeats."""


def integer(value: int, prefix: int, pattern: int) -> bytes:
    """A number in a prefix of so many bits, behind the bits of `pattern` (RFC 7541 §5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((pattern | value,))
    out = bytearray((pattern | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _literal(name: bytes, value: bytes) -> bytes:
    pattern = 0x10 if name in _NEVER else 0x00
    index = _NAMES.get(name, 0)
    head = integer(index, 4, pattern)
    if not index:
        head += integer(len(name), 7, 0) + name
    return head + integer(len(value), 7, 0) + value


class _Written(dict[tuple[bytes, bytes], bytes]):
    """Field → how it is written."""

    def __missing__(self, field: tuple[bytes, bytes]) -> bytes:
        index = _FIELDS.get(field)
        written = integer(index, 7, 0x80) if index is not None else _literal(*field)
        if len(self) < _REMEMBERED and len(field[1]) <= _LONGEST_REMEMBERED and field[0] not in _CHANGING:
            self[field] = written
        return written


_CHANGING = frozenset((b"date", b"x-vcap-request-id", b"set-cookie", b"etag", b"last-modified", b":path"))
"""Fields that seldom say the same twice: not remembered."""
_written = _Written()


class Encoder:
    """Takes the place of the encoder of a connection of the `h2` library."""

    header_table_size = 0
    """What the peer allows for its dynamic table does not matter: we never use it."""

    def encode(self, fields: Iterable[tuple[bytes, bytes]], huffman: bool = False) -> bytes:
        """The header block of these fields, names in lower case. Nothing is Huffman-coded."""
        return b"".join([_written[field] for field in fields])
