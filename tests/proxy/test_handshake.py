"""What the event loop gets from an `SSLObject` of ours, without a network (contract §9)."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest

from router.proxy.handshake import Direct
from tests.support import certs


class Side:
    """One end of a connection in memory."""

    def __init__(self, context: ssl.SSLContext, server: bool) -> None:
        context.sslobject_class = Direct
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server, None if server else "app.test")


@pytest.fixture
def sides() -> tuple[Side, Side]:
    """A server and a client, joined, their handshake done."""
    server, client = Side(certs.server(certs.issued("app.test")), True), Side(certs.client(), False)
    for _ in range(4):
        for side in (client, server):
            with suppress(ssl.SSLWantReadError):
                side.object.do_handshake()
        carry(client, server)
        carry(server, client)
    with pytest.raises(ssl.SSLWantReadError):
        client.object.read(1)  # takes in the tickets
    return server, client


def carry(one: Side, other: Side) -> None:
    other.incoming.write(one.outgoing.read())


def test_all_that_came_is_read_and_then_more_is_wanted(sides: tuple[Side, Side]) -> None:
    server, client = sides
    sent = [b"a" * 16384, b"b" * 16384, b"c"]
    for data in sent:
        client.object.write(data)
    carry(client, server)
    assert server.object.read(10) == b"a" * 10, "the rest of a record is decrypted, and not in the buffer any more"
    rest = b"".join(sent)[10:]
    while rest:
        got = server.object.read(65536)
        assert got
        assert rest.startswith(got)
        rest = rest[len(got) :]
    with pytest.raises(ssl.SSLWantReadError):
        server.object.read(65536)


def test_every_split_of_a_record_is_read(sides: tuple[Side, Side]) -> None:
    server, client = sides
    client.object.write(b"hello")
    record = client.outgoing.read()
    for byte in record[:-1]:
        server.incoming.write(bytes((byte,)))
        with pytest.raises(ssl.SSLWantReadError):
            server.object.read(65536)
    server.incoming.write(record[-1:])
    into = bytearray(16)
    assert server.object.read(16, into) == 5  # type: ignore[arg-type]
    assert into[:5] == b"hello"


def test_an_end_is_told_once_what_came_before_it_is_read(sides: tuple[Side, Side]) -> None:
    server, client = sides
    client.object.write(b"bye")
    with suppress(ssl.SSLWantReadError):
        client.object.unwrap()
    carry(client, server)
    assert server.object.read(65536) == b"bye"
    assert server.object.read(65536) == b""


def test_an_end_without_a_word_is_an_error(sides: tuple[Side, Side]) -> None:
    server, _ = sides
    server.incoming.write_eof()
    with pytest.raises(ssl.SSLError, match="EOF"):
        server.object.read(65536)
