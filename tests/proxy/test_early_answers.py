"""Answers that begin before the request has ended, and clients that end their side (RFC 9112 §9.5, §9.6).

The backend may read on, stop reading, or close; the answer reaches the client in every case, and no connection of which
the two sides could have different ideas is used again.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.wire import OK, Client, answering, request, serving, until

TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"
SIZE = 8 * 1024 * 1024


async def _upload(client: Client, size: int) -> None:
    try:
        await client.send(request("app.test", "/", f"Content-Length: {size}", method="POST"))
        for _ in range(size // 65536):
            await client.send(b"x" * 65536)
    except ConnectionError:
        pass  # the router reads no more


async def _stops_reading(client: Client) -> None:
    await client.reader.readuntil(b"\r\n\r\n")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(TOO_LARGE)
    await asyncio.Event().wait()


async def _closes(client: Client) -> None:
    await client.reader.readuntil(b"\r\n\r\n")
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(TOO_LARGE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    # What came of the body is unread: the system answers further bytes with a reset.


async def _reads_on(client: Client) -> None:
    await client.reader.readuntil(b"\r\n\r\n")
    await client.send(TOO_LARGE)
    await client.reader.readexactly(SIZE)
    await client.rest()


@pytest.mark.parametrize("script", [_stops_reading, _closes, _reads_on])
async def test_an_early_answer_reaches_the_client(script: object) -> None:
    async with serving(script) as (bench, (backend,)):  # type: ignore[arg-type]
        for _ in range(5):
            client = await bench.client()
            upload = asyncio.create_task(_upload(client, SIZE))
            status, _, body = await client.response()
            assert (status, body) == (413, b"no")
            upload.cancel()
            client.reset()
        assert len(backend.connections) == 5


async def test_an_answer_that_streams_while_the_body_comes() -> None:
    """HTTP/1.1 both ways at once: an echo."""

    async def echo(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        for _ in range(3):
            await client.send(await client.reader.readexactly(3))
        await client.rest()

    async with serving(echo) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Content-Length: 9", method="POST"))
        await client.head()
        for piece in (b"one", b"two", b"six"):
            await client.send(piece)
            assert await client.exactly(3) == piece
        assert (await client.get("nope.test"))[0] == 404


async def test_a_small_rest_of_a_body_is_read_and_the_connection_kept() -> None:
    async with serving(answering(TOO_LARGE)) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Content-Length: 100000", method="POST") + b"x" * 10)
        assert (await client.response())[0] == 413
        await client.send(b"x" * 99_990 + request("nope.test"))
        assert (await client.response())[0] == 404


async def test_a_client_that_ends_its_side_in_a_body_leaves_half_a_request() -> None:
    got: list[bytes] = []

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        got.append(await client.rest())

    for lines, body in (("Content-Length: 10", b"half"), ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n")):
        async with serving(script) as (bench, _):
            client = await bench.client()
            await client.send(request("app.test", "/", lines, method="POST") + body)
            await until(lambda: len(bench.plane.backends) == 1)
            client.writer.write_eof()
            assert await client.rest() == b""
            await until(lambda: bool(got))
            assert not got.pop().endswith(b"0\r\n\r\n")


async def test_what_was_answered_arrives_after_the_client_ended_its_side() -> None:
    async with serving(answering(OK)) as (bench, _):
        client = await bench.client()
        await client.send(request("nope.test") * 20)
        client.writer.write_eof()
        assert (await client.rest()).count(b"HTTP/1.1 404") == 20


async def test_an_answer_that_waits_behind_a_broken_pipe_is_read() -> None:
    """Sending finds the connection reset before the answer was read: it is there all the same."""
    closed = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        backend = next(iter(bench.plane.backends))
        backend.transport.pause_reading()
        await client.send(TOO_LARGE)
        client.reset()
        closed.set()

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", f"Content-Length: {SIZE}", method="POST"))
        await closed.wait()
        upload = asyncio.create_task(_upload(client, SIZE))
        status, _, body = await client.response()
        assert (status, body) == (413, b"no")
        upload.cancel()
        client.reset()
