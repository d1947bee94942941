"""How TLS records come in and go out at the front door: in pieces, many at once, cut off, and to who doesn't read."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import pytest

from tests.support import certs
from tests.support.wire import OK, Client, answering, request, serving, until

HTTPS: dict[str, Any] = {"listeners": ("https",), "front_tls": certs.front()}
PIECES = [bytes((number & 255,)) * (1 << 16) for number in range(16 * 16)]
SIZE = sum(map(len, PIECES))
"""Bytes of a body that no socket's buffers take in."""


class Records:
    """A TLS client that has its records in hand."""

    def __init__(self, plain: Client) -> None:
        self.plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = certs.client().wrap_bio(self._incoming, self._outgoing, server_hostname="app.test")

    async def handshake(self) -> None:
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self.plain.send(self._outgoing.read())
                await self._take()
            else:
                await self.plain.send(self._outgoing.read())
                return

    async def _take(self) -> None:
        came = await asyncio.wait_for(self.plain.reader.read(65536), 5)
        assert came, "the router closed"
        self._incoming.write(came)

    def record(self, data: bytes) -> bytes:
        """The bytes of data as one record."""
        self._object.write(data)
        return self._outgoing.read()

    def last_word(self) -> bytes:
        """The alert that says that no more comes (RFC 8446 §6.1)."""
        with suppress(ssl.SSLWantReadError):
            self._object.unwrap()
        return self._outgoing.read()

    async def answers(self, count: int) -> bytes:
        """What comes, until that many answers are here."""
        got = b""
        while got.count(b"\r\n\r\nok") < count:
            try:
                got += self._object.read(65536)
            except ssl.SSLWantReadError:
                await self._take()
        return got


async def records(bench: Any) -> Records:
    made = Records(await bench.client())
    await made.handshake()
    return made


async def test_a_record_in_two_pieces_cut_at_every_byte() -> None:
    async with serving(answering(OK), **HTTPS) as (bench, _):
        client = await records(bench)
        for cut in range(1, len(request()) + 20):
            record = client.record(request())
            await client.plain.send(record[:cut])
            await asyncio.sleep(0)
            await client.plain.send(record[cut:])
            assert (await client.answers(1)).startswith(b"HTTP/1.1 200 ")


async def test_a_record_byte_by_byte() -> None:
    async with serving(answering(OK), **HTTPS) as (bench, _):
        client = await records(bench)
        for byte in client.record(request()):
            await client.plain.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert (await client.answers(1)).startswith(b"HTTP/1.1 200 ")


async def test_a_request_of_one_byte_a_record() -> None:
    async with serving(answering(OK), **HTTPS) as (bench, _):
        client = await records(bench)
        await client.plain.send(b"".join(client.record(bytes((byte,))) for byte in request()))
        assert (await client.answers(1)).startswith(b"HTTP/1.1 200 ")


async def test_many_requests_at_once_are_answered_in_order() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), **HTTPS) as (bench, _):
        client = await records(bench)
        await client.plain.send(b"".join(client.record(request(path=f"/{number}")) for number in range(20)))
        assert (await client.answers(20)).count(b"HTTP/1.1 200 ") == 20
    assert [head.split()[1] for head in heads] == [b"/%d" % number for number in range(20)]


@pytest.mark.parametrize("said", [True, False], ids=["with a last word", "without"])
async def test_an_end_in_the_middle_of_a_request(said: bool) -> None:
    async with serving(answering(OK), **HTTPS) as (bench, _):
        client = await records(bench)
        record = client.record(request()[:-2])
        await client.plain.send(record + client.last_word() if said else record[:-1])
        if not said:
            client.plain.writer.write_eof()
        await client.plain.rest()
        await until(lambda: not bench.plane.frontends)


async def test_a_client_that_does_not_read_holds_the_backend_back() -> None:
    sent = 0

    async def script(backend: Client) -> None:
        nonlocal sent
        await backend.head()
        await backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for piece in PIECES:
            await backend.send(piece)
            sent += len(piece)

    async with serving(script, **HTTPS) as (bench, _):
        client = await bench.client(certs.client())
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await until(lambda: any(frontend._full for frontend in bench.plane.frontends))
        assert sent < SIZE
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await client.head()
        assert await client.exactly(SIZE) == b"".join(PIECES)


async def test_a_backend_that_does_not_read_holds_the_client_back() -> None:
    read = asyncio.Event()
    took = b""

    async def script(backend: Client) -> None:
        nonlocal took
        await backend.head()
        backend.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await read.wait()
        backend.writer.transport.resume_reading()  # type: ignore[attr-defined]
        took = await backend.exactly(SIZE)
        await backend.send(OK)

    async with serving(script, **HTTPS) as (bench, _):
        client = await bench.client(certs.client())
        head = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % SIZE
        sending = asyncio.create_task(client.send(head, *PIECES))
        await until(lambda: any(frontend._paused for frontend in bench.plane.frontends))
        assert not sending.done()
        read.set()
        assert (await client.response())[0] == 200
        await sending
    assert took == b"".join(PIECES)
