"""PROXY headers, byte for byte (contract §8.8; the protocol's own text for version 2)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.http.proxy_header import LONGEST, SIGNATURE, Header, Malformed, read

V4 = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + struct.pack("!HH", 4711, 443)
V6 = bytes.fromhex("20010db8000000000000000000000007") * 2 + struct.pack("!HH", 4711, 443)


def v2(version_command: int, family: int, payload: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", version_command, family, len(payload)) + payload


GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7", 4711),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7", 4711),
    (v2(0x21, 0x11, V4), "192.0.2.7", 4711),
    (v2(0x21, 0x21, V6), "2001:db8::7", 4711),
    (v2(0x21, 0x11, V4 + b"\x03\x00\x04abcd"), "192.0.2.7", 4711),  # with a type-length field
    (v2(0x20, 0x00, b""), "", 0),  # LOCAL: the sender's own health check
    (v2(0x20, 0x11, V4), "", 0),
    (v2(0x21, 0x00, b"x" * 5), "", 0),  # UNSPEC
]


@pytest.mark.parametrize(("data", "ip", "port"), GOOD)
def test_headers(data: bytes, ip: str, port: int) -> None:
    assert read(data + b"GET / HTTP/1.1\r\n") == Header(len(data), ip, port)


@pytest.mark.parametrize(("data", "ip", "port"), GOOD)
def test_a_header_in_pieces(data: bytes, ip: str, port: int) -> None:
    assert [read(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert read(data) == Header(len(data), ip, port)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PROXYTCP4",
        b"\r\n\r\nGET",
        b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    ],
)
def test_no_header(data: bytes) -> None:
    assert read(data) == Header(0)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 x\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.999 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 x\r\n",
        b"PROXY " + b"x" * 200,
        v2(0x11, 0x11, V4),
        v2(0x22, 0x11, V4),
        v2(0x21, 0x31, b"x" * 216),  # a Unix socket
        v2(0x21, 0x12, V4),  # UDP
        v2(0x21, 0x11, V4[:8]),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, LONGEST),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


@given(st.binary(max_size=300).map(lambda rest: rest), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_whatever_comes(rest: bytes, beginning: bytes) -> None:
    try:
        header = read(beginning + rest)
    except Malformed:
        return
    assert header is None or 0 <= header.size <= len(beginning + rest)
