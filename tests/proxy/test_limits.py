"""Time-outs and limits (contract §8.1, §8.3), and how much a stream may hold."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest

from router.proxy import plane
from tests.support.wire import OK, Client, answering, request, serving, until


async def test_a_head_that_does_not_come_is_cut_off() -> None:
    async with serving(answering(OK), read_header_timeout=0.2) as (bench, _):
        silent, slow = await bench.client(), await bench.client()
        await slow.send(b"GET / HTTP/1.1\r\nHost: ")
        assert await slow.rest() == b""
        assert await silent.rest() == b""


async def test_the_time_for_a_head_does_not_run_between_requests() -> None:
    async with serving(answering(OK), read_header_timeout=0.2, frontend_idle_timeout=30.0) as (bench, _):
        client = await bench.client()
        assert (await client.get())[0] == 200
        before = time.monotonic()
        await until(lambda: time.monotonic() - before > 0.6)
        assert (await client.get())[0] == 200


async def test_an_idle_client_is_closed() -> None:
    async with serving(answering(OK), frontend_idle_timeout=0.2) as (bench, _):
        client = await bench.client()
        assert (await client.get())[0] == 200
        assert await client.rest() == b""


async def test_a_body_that_does_not_come_is_408() -> None:
    async def script(client: Client) -> None:
        await client.rest()

    async with serving(script, client_body_timeout=0.2) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Content-Length: 10", method="POST") + b"half")
        assert (await client.response())[0] == 408
        assert await client.rest() == b""


async def test_a_response_that_stalls_is_cut() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await client.rest()

    async with serving(script, endpoint_timeout=0.3) as (bench, _):
        client = await bench.client()
        await client.send(request())
        await client.head()
        assert await client.rest() in (b"half", b"")


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 50_000_000)

    async with serving(script, client_send_timeout=0.3) as (bench, _):
        client = await bench.client()
        client.reader._limit = 1024  # type: ignore[attr-defined]
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await until(lambda: len(bench.plane.frontends) == 1 and bool(bench.plane.backends))
        await until(lambda: not bench.plane.frontends)
        assert not any(bench.plane.own_lane[:8])


async def test_a_client_that_takes_nothing_stops_the_backend() -> None:
    written = 0

    async def script(client: Client) -> None:
        nonlocal written
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.transport.set_write_buffer_limits(0)  # type: ignore[attr-defined]
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            await client.send(b"x" * 100_000)
            written += 100_000

    async with serving(script) as (bench, _):
        client = await bench.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        frontend = (await _the(bench.plane.frontends)).transport
        await until(lambda: frontend.get_write_buffer_size() > 0)
        last = -1
        while last != written:  # until nothing moves for a while
            last = written
            await asyncio.sleep(0.1)
        assert frontend.get_write_buffer_size() <= 128 * 1024
        assert written < 50_000_000  # the rest is in the kernel's buffers
        client.reset()


async def _the(things: object) -> object:
    await until(lambda: bool(things))
    return next(iter(things))  # type: ignore[call-overload]


async def test_more_connections_than_allowed() -> None:
    release = asyncio.Event()

    async def script(client: Client) -> None:
        while True:
            await client.reader.readuntil(b"\r\n\r\n")
            await release.wait()
            await client.send(OK)

    async with serving(script, max_connections=2) as (bench, _):
        idle, busy = await bench.client(), await bench.client()
        release.set()
        assert (await idle.get())[0] == 200
        release.clear()
        await busy.send(request())
        await until(lambda: bool(bench.plane.own_lane[1]))
        third = await bench.client()
        await third.send(request())
        assert await idle.rest() == b""  # the idle one made room
        await until(lambda: bench.plane.own_lane[1] == 2)
        fourth = await bench.client()
        status, head, _ = await fourth.response()
        assert status == 503
        assert b"Retry-After: 1\r\n" in head
        release.set()
        assert (await busy.response())[0] == (await third.response())[0] == 200


async def test_requests_per_connection() -> None:
    async with serving(answering(OK), max_requests_per_connection=2) as (bench, _):
        client = await bench.client()
        assert b"Connection: close" not in (await client.get())[1]
        assert b"Connection: close" in (await client.get())[1]
        assert await client.rest() == b""


async def test_idle_backend_connections_are_closed() -> None:
    async with serving(answering(OK), backend_idle_timeout=0.2) as (bench, _):
        client = await bench.client()
        assert (await client.get())[0] == 200
        await until(lambda: not bench.plane.backends)
        assert (await client.get())[0] == 200


async def test_idle_backend_connections_are_looked_at_a_part_at_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane, "SWEPT", 1)
    async with serving(answering(OK), answering(OK), answering(OK), backend_idle_timeout=0.2) as (bench, _):
        client = await bench.client()
        for _ in range(3):
            assert (await client.get())[0] == 200
        assert len(bench.plane.backends) == 3
        await until(lambda: not bench.plane.backends)


async def test_requests_that_must_not_be_repeated_get_fresh_connections() -> None:
    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            if b"POST" in head:
                await client.reader.readexactly(2)
            await client.send(OK)
            if b"close-me" in head:
                return

    async with serving(script) as (bench, (backend,)):
        client = await bench.client()
        assert (await client.get("app.test", "/close-me"))[0] == 200
        await until(lambda: not bench.plane.backends)
        connections = bench.plane.table.endpoints[1].connections
        assert 0 < connections.closes_after < 5
        assert (await client.get())[0] == 200
        post = request("app.test", "/", "Content-Length: 2", method="POST") + b"hi"
        for _ in range(3):  # it was seen to close at once: a POST trusts no idle connection
            await client.send(post)
            assert (await client.response())[0] == 200
        assert len(backend.connections) >= 4


async def test_a_stop_lets_requests_in_flight_end() -> None:
    release = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await release.wait()
        await client.send(OK)

    async with serving(script) as (bench, (backend,)):
        idle, busy = await bench.client(), await bench.client()
        assert (await idle.get("nope.test"))[0] == 404
        await busy.send(request())
        await until(lambda: bool(backend.connections))
        stopping = asyncio.create_task(bench.plane.stop(5.0))
        assert await idle.rest() == b""
        release.set()
        status, head, body = await busy.response()
        assert (status, body) == (200, b"ok")
        assert b"Connection: close\r\n" in head
        await stopping


@pytest.mark.parametrize("proxy", [False, True])
async def test_a_stop_answers_those_whom_nobody_has_accepted_yet(proxy: bool) -> None:
    async with serving(answering(OK), enable_proxy=proxy) as (bench, _):
        waiting = [socket.create_connection(("127.0.0.1", bench.port)) for _ in range(20)]
        for client in waiting:  # the kernel has greeted them, the event loop knows nothing of it
            client.sendall(request())
        await bench.plane.stop(5.0)
        for client in waiting:
            with client, client.makefile("rb") as answer:
                head, _, _ = answer.read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert b"\r\nConnection: close" in head
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", bench.port))


async def test_a_stop_takes_no_connection_for_quiet_that_was_just_used() -> None:
    async with serving(answering(OK)) as (bench, _):
        client = await bench.client()
        assert (await client.get())[0] == 200
        bench.plane.clock.now += 1.0  # a tick: by the coarse clock the request was a second ago
        stopping = asyncio.create_task(bench.plane.stop(5.0))
        await until(lambda: bench.plane.stopping)
        await asyncio.sleep(0)
        status, head, _ = await client.get()
        assert status == 200
        assert b"Connection: close\r\n" in head
        await stopping


async def test_a_stop_keeps_a_connection_whose_response_has_promised_to() -> None:
    release = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await release.wait()
        await client.send(b"ok")

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(request())
        assert b"Connection: close" not in await client.head()
        stopping = asyncio.create_task(bench.plane.stop(5.0))
        await until(lambda: bench.plane.stopping)
        release.set()
        assert await client.exactly(2) == b"ok"
        status, head, _ = await client.get()
        assert status == 200
        assert b"Connection: close\r\n" in head
        await stopping


async def test_a_request_that_nobody_has_read_yet_keeps_a_connection_from_being_closed() -> None:
    async with serving(answering(OK)) as (bench, _):
        client = await bench.client()
        assert (await client.get())[0] == 200
        (frontend,) = bench.plane.frontends
        bench.plane.stopping = True
        os.write(client.writer.get_extra_info("socket").fileno(), request())
        frontend.check(bench.plane.clock.now + 60.0)
        assert (await client.response())[0] == 200


async def test_the_connection_idle_for_longest_makes_room_and_tunnels_count() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            await client.send(switch if b"websocket" in head else OK)

    async with serving(script, max_connections=3) as (bench, _):
        older, newer, tunnel = await bench.client(), await bench.client(), await bench.client()
        await tunnel.send(request("app.test", "/", "Connection: Upgrade", "Upgrade: websocket"))
        await tunnel.head()
        assert (await newer.get())[0] == 200
        assert (await older.get())[0] == 200  # it came first, and was busy last
        another = await bench.client()
        assert (await another.get())[0] == 200
        assert await newer.rest() == b""
        assert (await older.get())[0] == 200
