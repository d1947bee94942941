"""The PROXY protocol, versions 1 and 2: bytes in, the client's address out (contract §8.8). No I/O.

A header stands before everything else on a connection, TLS included. It is read whole or not at all: `read` tells how
many bytes it takes, or that more are needed, or that there is none. Type-length fields of version 2 are passed over.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST = 16 + 4096
"""Bytes of a header that are accepted: an address and a few kilobytes of fields."""
_V1 = b"PROXY "
_V1_LONGEST = 107  # bytes, line end included
_V2_HEAD = struct.Struct("!12sBBH")
_ADDRESSES = {0x11: "!4s4sHH", 0x21: "!16s16sHH"}
"""Family and transport → how its addresses are laid out: TCP over IPv4 and IPv6."""


class Header(NamedTuple):
    """A header of `size` bytes; `ip` is "" where it leaves the connection's own address in force."""

    size: int
    ip: str = ""
    port: int = 0


class Malformed(Exception):
    """It began like a PROXY header and is none; the text says why."""


def read(data: bytes) -> Header | None:
    """The header at the start of `data`; None when more bytes are needed to tell. `size` 0: there is none.

    Raises Malformed.
    """
    if data.startswith(SIGNATURE):
        return _version_2(data)
    if data.startswith(_V1):
        return _version_1(data)
    if SIGNATURE.startswith(data) or _V1.startswith(data):
        return None
    return Header(0)


def _version_1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise Malformed("the line has no end")
        return None
    fields = data[:end].decode("latin-1").split(" ")
    if len(fields) != 6 or fields[1] not in ("TCP4", "TCP6"):
        raise Malformed("expected `PROXY TCP4|TCP6 source destination source-port destination-port`")
    _, family, source, destination, port, destination_port = fields
    try:
        addresses = [ipaddress.ip_address(text) for text in (source, destination)]
    except ValueError:
        raise Malformed("an address that is none") from None
    if any(address.version != int(family[3]) for address in addresses):
        raise Malformed(f"addresses that are not {family}")
    source_port, _ = _port(port), _port(destination_port)
    return Header(end + 2, str(addresses[0]), source_port)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536):
        raise Malformed("a port that is none")
    return int(text)


def _version_2(data: bytes) -> Header | None:
    if len(data) < _V2_HEAD.size:
        return None
    _, version_command, family, length = _V2_HEAD.unpack_from(data)
    if version_command not in (0x20, 0x21):
        raise Malformed(f"version and command {version_command:#04x}")
    size = _V2_HEAD.size + length
    if size > LONGEST:
        raise Malformed(f"a header of {size} bytes")
    if len(data) < size:
        return None
    if version_command == 0x20 or family == 0:  # LOCAL: the sender's own health check; UNSPEC
        return Header(size)
    if family not in _ADDRESSES:
        raise Malformed(f"address family {family:#04x}, only TCP over IPv4 or IPv6 comes here")
    layout = _ADDRESSES[family]
    if length < struct.calcsize(layout):
        raise Malformed("addresses cut short")
    source, _, port, _ = struct.unpack_from(layout, data, _V2_HEAD.size)
    return Header(size, str(ipaddress.ip_address(source)), port)
