"""HPACK (RFC 7541): header blocks to header fields and back. No I/O.

Writing keeps no state between blocks. A field is written as an index of the static table where it is there, else as a
literal that the peer shall not index. So a field always reads the same, and those that come often are written once
and remembered. It costs the wire some bytes and saves us most of the time of a response.

Reading follows the peer, who decides what is indexed and what is Huffman-coded. A block that leaves the dynamic table
as it was reads the same when it comes again, and so does its part behind the last literal (mostly the path): those of
the last block of each connection are remembered, and for all of them the strings that came Huffman-coded. Every
connection's table is exact at all times.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.http import huffman

Field = tuple[bytes, bytes]

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
_CHANGING = frozenset((b"x-vcap-request-id", b"set-cookie", b"etag", b":path"))
"""Fields that seldom say the same twice: not remembered."""
_REMEMBERED = 4096
"""What a cache holds at most; then it starts anew."""
_LONGEST_REMEMBERED = 100
"""Bytes of a value that is worth remembering: ids and dates pass through, the rest repeats."""

# -------------------------------------------------------- writing


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


_LENGTHS = [integer(length, 7, 0) for length in range(1024)]


class _Names(dict[bytes, bytes]):
    """Name, in any case → how a literal of that name begins."""

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        index = _NAMES.get(lower, 0)
        written = integer(index, 4, 0x10 if lower in _NEVER else 0x00)
        if not index:
            written += integer(len(lower), 7, 0) + lower
        if len(self) >= _REMEMBERED:
            self.clear()
        self[name] = written
        return written


_names = _Names()


def literal(name: bytes, value: bytes) -> bytes:
    """A field whose value is not worth remembering; the name in any case."""
    length = len(value)
    return _names[name] + (_LENGTHS[length] if length < 1024 else integer(length, 7, 0)) + value


class _Written(dict[Field, bytes]):
    """Field, its name in any case → how it is written."""

    def __missing__(self, field: Field) -> bytes:
        name = field[0].lower()
        index = _FIELDS.get((name, field[1]))
        written = integer(index, 7, 0x80) if index is not None else literal(*field)
        if len(field[1]) <= _LONGEST_REMEMBERED and name not in _CHANGING:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[field] = written
        return written


_written = _Written()

NO_TABLE = b"\x20"
"""Says that we use no dynamic table, whatever the peer allows; to be put before the first block (RFC 7541 §4.2)."""


def encode(fields: Iterable[Field]) -> bytes:
    """The header block of these fields, or a part of one; names in any case. Nothing is Huffman-coded."""
    return b"".join([_written[field] for field in fields])


# -------------------------------------------------------- reading

TABLE_SIZE = 4096
"""Bytes, as RFC 7541 §4.1 counts them, of the peer's dynamic table: what HTTP/2 begins with."""
OVERHEAD = 32
"""Bytes that a field counts for besides its name and value."""
_STATIC_FIELDS = ((b"", b""), *_STATIC)
_FIRST_DYNAMIC = len(_STATIC_FIELDS)
_NOWHERE = _FIRST_DYNAMIC
"""What index 0 of a whole field leads to: nothing."""
_LARGEST = 1 << 28
BEYOND = 256 * 1024
"""Bytes by which a block may be larger than we take and is still read to its end, for the table's sake."""


class HpackError(Exception):
    """A header block that can't be read: the connection has no future, for its table is unknown."""


class TooLarge(HpackError):
    """A header block of so much more than we take that it is not worth reading."""


class _Strings(dict[bytes, bytes]):
    """Huffman code → the string."""

    def __missing__(self, coded: bytes) -> bytes:
        try:
            string = huffman.decoded(coded)
        except ValueError as error:
            raise HpackError(str(error)) from None
        if len(coded) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[coded] = string
        return string


_strings = _Strings()


class Decoder:
    """Reads the header blocks of one connection, in their order."""

    __slots__ = ("_block", "_fields", "_largest", "_limit", "_size", "_table", "_tail", "_tail_fields", "_tail_size")

    def __init__(self, largest: int) -> None:
        """`largest`: bytes of fields, each with its overhead, that a block may hold."""
        self._largest = largest
        self._limit = TABLE_SIZE
        self._table: list[Field] = []
        """The newest entry is the last."""
        self._size = 0
        self._block = b""
        """The last block that left the table as it was, while it is as it was then; else empty."""
        self._fields: list[Field] = []
        self._tail = b""
        """What came last behind a literal, up to the end of a block, while the table is as it was then; else empty."""
        self._tail_fields: list[Field] = []
        self._tail_size = 0

    def decode(self, block: bytes) -> list[Field] | None:
        """The fields of a block; None if they are more than we take. The list is the caller's to read, not to change.
        Raises HpackError."""
        if block == self._block:
            return self._fields
        try:
            return self._read(block)
        except IndexError:
            raise HpackError("a header block that breaks off, or an index that is in no table") from None

    def _read(self, block: bytes) -> list[Field] | None:
        """Long and flat on purpose: every field of every request comes by here."""
        table = self._table
        fields: list[Field] = []
        size = at = 0
        end = len(block)
        changed = False
        literal_ended = first_behind = size_before = 0
        while at < end:
            byte = block[at]
            at += 1
            if byte & 0x80:  # a field of a table
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _number(block, at, index)
                if index >= _FIRST_DYNAMIC:
                    field = table[_FIRST_DYNAMIC - 1 - index]
                else:
                    field = _STATIC_FIELDS[index or _NOWHERE]
            else:
                if byte & 0x40:  # a field that becomes one
                    index = byte & 0x3F
                    most = 0x3F
                elif byte & 0x20:
                    if fields:
                        raise HpackError("a table size within a header block")
                    index = byte & 0x1F
                    if index == 0x1F:
                        index, at = _number(block, at, index)
                    self._resize(index)
                    changed = True
                    self._tail = b""
                    continue
                else:
                    index = byte & 0x0F
                    most = 0x0F
                if index == most:
                    index, at = _number(block, at, index)
                if index:
                    name = (_STATIC_FIELDS[index] if index < _FIRST_DYNAMIC else table[_FIRST_DYNAMIC - 1 - index])[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = name, value
                if byte & 0x40:
                    self._add(field)
                    changed = True
                    self._tail = b""
                    literal_ended = 0
                else:
                    literal_ended, first_behind = at, len(fields) + 1
                    size_before = size + len(name) + len(value) + OVERHEAD
                    if self._tail and block[at:] == self._tail:
                        fields.append(field)
                        fields += self._tail_fields
                        size = size_before + self._tail_size
                        break
            size += len(field[0]) + len(field[1]) + OVERHEAD
            if size > self._largest + BEYOND:
                raise TooLarge("a header block with far more in it than we take")
            fields.append(field)
        else:
            if literal_ended and size <= self._largest:
                self._tail, self._tail_fields = block[literal_ended:], fields[first_behind:]
                self._tail_size = size - size_before
        if size > self._largest:
            self._block, self._fields = b"", []
            return None
        self._block, self._fields = (b"", []) if changed else (block, fields)
        return fields

    def _add(self, field: Field) -> None:
        size = len(field[0]) + len(field[1]) + OVERHEAD
        self._size += size
        self._table.append(field)
        if self._size > self._limit:
            self._evict()

    def _resize(self, limit: int) -> None:
        if limit > TABLE_SIZE:
            raise HpackError("a dynamic table larger than we allow")
        self._limit = limit
        self._evict()

    def _evict(self) -> None:
        table, size = self._table, self._size
        gone = 0
        while size > self._limit:
            name, value = table[gone]
            size -= len(name) + len(value) + OVERHEAD
            gone += 1
        del table[:gone]
        self._size = size


def _number(block: bytes, at: int, value: int) -> tuple[int, int]:
    """A number that goes on behind its prefix, `value`, which is full; and where it ends."""
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if value > _LARGEST or shift > 28:
            raise HpackError("a number without an end")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """The string that begins there, and where it ends."""
    byte = block[at]
    length = byte & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _number(block, at, length)
    end = at + length
    if end > len(block):
        raise HpackError("a string that breaks off")
    return (_strings[block[at:end]] if byte & 0x80 else block[at:end]), end
