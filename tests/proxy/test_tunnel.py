"""Upgrades (contract §8.6): only what is allowed, only after the backend's 101, and no byte lost."""

from __future__ import annotations

import asyncio
import re

from router.observe.counters import Counter
from tests.support.wire import OK, Client, answering, request, serving, until

UPGRADE = request("app.test", "/ws", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"
)


async def echo(client: Client) -> None:
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert b"Sec-WebSocket-Key: k\r\n" in head
    await client.send(SWITCH + b"early ")
    while data := await client.reader.read(1 << 16):
        await client.send(data)


async def test_bytes_pass_both_ways_early_ones_too() -> None:
    async with serving(echo) as (bench, _):
        client = await bench.client()
        await client.send(UPGRADE + b"impatient ")
        head = await client.head()
        assert re.fullmatch(
            rb"HTTP/1\.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\nConnection: Upgrade\r\n"
            rb"Upgrade: websocket\r\nX-Vcap-Request-Id: [0-9a-f-]{36}\r\n\r\n",
            head,
        )
        assert await client.exactly(16) == b"early impatient "
        await client.send(b"x" * 1_000_000)
        assert await client.exactly(1_000_000) == b"x" * 1_000_000
        assert bench.plane.own_lane[1] == 1
        assert bench.plane.stats().connections == 1
        client.close()
        await until(lambda: not bench.plane.tunnels)
        assert bench.plane.own_lane[1] == 0


async def test_the_backends_end_ends_the_client() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(SWITCH + b"bye")

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(UPGRADE)
        await client.head()
        assert await client.rest() == b"bye"


async def test_a_refused_upgrade_is_a_plain_response() -> None:
    async with serving(answering(OK)) as (bench, _):
        client = await bench.client()
        await client.send(UPGRADE)
        assert (await client.response())[0] == 200
        assert (await client.get())[0] == 200
        bench.plane.flush_log()
        assert bench.plane.counters[Counter.UPGRADE_FAILURES] == 1


async def test_other_protocols_are_not_passed_on() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), upgrades=("websocket", "h2c")) as (bench, _):
        client = await bench.client()
        lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
        assert (await client.get("app.test", "/", *lines))[0] == 200
    assert b"pgrade" not in heads[0]
    assert b"HTTP2" not in heads[0]


async def test_an_answer_with_another_token_is_502() -> None:
    switch = SWITCH.replace(b"websocket", b"other")
    async with serving(answering(switch)) as (bench, _):
        client = await bench.client()
        await client.send(UPGRADE)
        assert (await client.response())[0] == 502


async def test_an_idle_tunnel_is_closed() -> None:
    async with serving(echo, frontend_idle_timeout=0.3) as (bench, _):
        client = await bench.client()
        await client.send(UPGRADE)
        await client.head()
        async with asyncio.timeout(5):
            assert await client.rest() == b"early "


async def test_a_slow_reader_stops_the_other_side() -> None:
    sent = 0

    async def script(client: Client) -> None:
        nonlocal sent
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(SWITCH)
        for _ in range(500):
            await client.send(b"x" * 100_000)
            sent += 100_000

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(UPGRADE)
        await client.head()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        last = -1
        while last != sent:
            last = sent
            await asyncio.sleep(0.1)
        assert sent < 50_000_000
        client.reset()
