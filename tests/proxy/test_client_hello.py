"""A client whose protocols are none of ours (RFC 7301 §3.2): read from its first message, as real clients write it."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.proxy.client_hello import nothing_in_common
from router.proxy.tls import FrontDoor
from tests.support import certs

OURS = (b"h2", b"http/1.1")


def hello(*protocols: str, name: str = "app.test", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = certs.client()
    context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(records: bytes, size: int) -> bytes:
    """The same message in smaller records."""
    payload = records[5:]
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return b"".join(records[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("protocols", "none"),
    [
        ((), False),
        (("h2",), False),
        (("http/1.1",), False),
        (("h3", "http/1.1"), False),
        (("h3",), True),
        (("smtp", "http/1.0", "h2c"), True),
    ],
)
def test_what_a_client_offers(protocols: tuple[str, ...], none: bool, version: ssl.TLSVersion) -> None:
    said = hello(*protocols, version=version)
    assert nothing_in_common(said, OURS) is none
    for size in (1, 7, 64):
        assert nothing_in_common(in_records(said, size), OURS) is none


@given(st.binary(max_size=300), st.integers(0, 600))
def test_whatever_comes_is_read_without_an_error(noise: bytes, at: int) -> None:
    nothing_in_common(noise, OURS)
    said = hello("h3")
    nothing_in_common(said[:at] + noise + said[at + len(noise) :], OURS)


@pytest.mark.parametrize("piece", [1, 100, 10_000])
@pytest.mark.parametrize(
    ("protocols", "answer"),
    [(("h3",), b"\x15\x03\x03\x00\x02\x02\x78"), (("h3", "h2"), b"\x16\x03\x03"), ((), b"\x16\x03\x03")],
)
def test_the_alert(protocols: tuple[str, ...], answer: bytes, piece: int) -> None:
    door = FrontDoor(certs.front(), ("h2", "http/1.1"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = door.context.wrap_bio(incoming, outgoing, server_side=True)
    said = hello(*protocols)
    for at in range(0, len(said), piece):
        incoming.write(said[at : at + piece])
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
    assert outgoing.read().startswith(answer)
