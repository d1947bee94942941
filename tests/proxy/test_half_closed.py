"""Clients that end their side while a request is in flight: those that wait get their answer, those that left are
found out at once (docs/decisions/0013)."""

from __future__ import annotations

import asyncio

import pytest

from router.proxy import half_closed
from tests.support import certs
from tests.support.wire import OK, Client, Script, answering, request, serving, until

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n"


def late(told: asyncio.Event, gone: asyncio.Event | None = None, answer: bytes = OK) -> Script:
    """Answers when told; says when its peer has gone instead."""

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        left = asyncio.create_task(client.rest())
        waits = asyncio.create_task(told.wait())
        await asyncio.wait((left, waits), return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if gone is not None and left.done():
            gone.set()
        left.cancel()
        if told.is_set():
            await client.send(answer)

    return script


@pytest.mark.parametrize("asked", [request(), OLD, request() * 3])
async def test_a_prompt_answer_comes_as_if_nothing_had_been(asked: bytes) -> None:
    async with serving(answering(OK)) as (bench, _):
        client = await bench.client()
        await client.send(asked)
        client.writer.write_eof()
        answers = await client.rest()
        assert answers.count(b" 200 OK\r\n") == answers.count(b"\r\n\r\nok") == asked.count(b"GET")
        assert CONTINUE not in answers


async def test_a_late_answer_comes_to_who_has_shown_that_it_is_there() -> None:
    told = asyncio.Event()
    async with serving(late(told)) as (bench, _):
        client = await bench.client()
        await client.send(request())
        client.writer.write_eof()
        assert await client.head() == CONTINUE
        told.set()
        assert (await client.response())[::2] == (200, b"ok")
        assert await client.rest() == b""


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_who_has_left_is_found_out(how: str) -> None:
    told, gone = asyncio.Event(), asyncio.Event()
    async with serving(late(told, gone)) as (bench, (backend,)):
        client = await bench.client()
        await client.send(request())
        await until(lambda: bool(backend.connections))
        getattr(client, how)()
        async with asyncio.timeout(5):
            await gone.wait()
        assert not told.is_set()


async def test_an_old_client_that_can_not_be_asked_has_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_closed, "SILENCE", 0.2)
    gone = asyncio.Event()
    async with serving(late(asyncio.Event(), gone), frontend_idle_timeout=0.2) as (bench, _):
        client = await bench.client()
        await client.send(OLD)
        client.writer.write_eof()
        assert await client.rest() == b""
        await gone.wait()


async def test_a_download_that_had_begun_goes_on_as_long_as_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_closed, "SILENCE", 0.2)
    size = 1 << 22
    begun = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * size), b"x" * 10)
        await begun.wait()
        await client.send(b"x" * (size - 10))
        await client.rest()

    async with serving(script, frontend_idle_timeout=0.2) as (bench, _):
        client = await bench.client()
        await client.send(request())
        await client.head()
        client.writer.write_eof()
        begun.set()
        assert len(await client.rest()) == size, "all that there was; then silence, and the end"


async def test_over_tls_both_sides_end() -> None:
    gone = asyncio.Event()
    settings = {"listeners": ("https",), "front_tls": certs.front()}
    async with serving(late(asyncio.Event(), gone), **settings) as (bench, (backend,)):
        client = await bench.client(certs.client())
        await client.send(request())
        await until(lambda: bool(backend.connections))
        client.close()
        async with asyncio.timeout(5):
            await gone.wait()
