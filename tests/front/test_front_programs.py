"""Real nginx and HAProxy with the configuration that `router front` prints, before two data planes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from router.messages import HealthState
from router.observe.counters import Counter
from tests.support.processes import free_port, running
from tests.support.programs import needs
from tests.support.wire import OK, Backend, Bench, Client, answering, request, serving

ARGV = {"nginx": ("nginx", "-g", "daemon off;", "-c"), "haproxy": ("haproxy", "-db", "-f")}
REQUESTS = 10
UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",  # HAProxy checks the app's Sec-WebSocket-Accept against it
)

pytestmark = [needs("nginx", "haproxy"), pytest.mark.parametrize("kind", ARGV)]


class Front(NamedTuple):
    """A front, the planes of two routers behind it, and all heads that their app got."""

    port: int
    planes: list[Bench]
    heads: list[bytes]

    async def get(self, *lines: str, method: str = "GET", path: str = "/") -> int:
        client = await Client.to(self.port)
        await client.send(request("app.test", path, *lines, method=method))
        status, _, _ = await client.response()
        client.close()
        return status


def printed(kind: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "router.cli.main", "front", kind, *options],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def echoing(client: Client) -> None:
    """An app that takes a websocket and sends back what it gets."""
    head = await client.head()
    assert b"upgrade: websocket" in head.lower()
    path = head.split(b" ")[1]
    await client.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Path: " + path + b"\r\n\r\n",
    )
    while data := await client.reader.read(1000):
        await client.send(data)


@asynccontextmanager
async def front(kind: str, directory: Path, *options: str, proxy: bool = False) -> AsyncIterator[Front]:
    heads: list[bytes] = []
    sockets = Backend(echoing)
    await sockets.start()
    app = answering(OK, heads=heads)
    settings = {"enable_proxy": proxy}
    async with serving(app, **settings) as (one, _), serving(app, **settings) as (two, _):
        for bench in (one, two):
            bench.plane.health = HealthState(healthy=True)
            bench.route("ws.test", sockets.port)
        port = free_port()
        routers = [option for bench in (one, two) for option in ("--router", f"127.0.0.1:{bench.port}")]
        listen = ("--listen", f"127.0.0.1:{port}", "--run-dir", str(directory))
        text = await asyncio.to_thread(printed, kind, *routers, *listen, *options)
        (directory / "front.conf").write_text(text)
        async with running([*ARGV[kind], str(directory / "front.conf")], port):
            yield Front(port, [one, two], heads)
    await sockets.stop()


async def test_a_router_that_is_killed_costs_no_request(kind: str, tmp_path: Path) -> None:
    async with front(kind, tmp_path) as made:
        assert await made.get() == 200
        used, other = sorted(made.planes, key=lambda bench: -bench.plane.counters[Counter.REQUESTS])
        before = other.plane.counters[Counter.REQUESTS]
        await used.plane.stop(0)
        assert {await made.get(method=method) for _ in range(REQUESTS) for method in ("GET", "POST")} == {200}
        assert other.plane.counters[Counter.REQUESTS] >= before + 2 * REQUESTS


async def test_what_clients_claim_is_replaced(kind: str, tmp_path: Path) -> None:
    lies = (
        "X-Forwarded-For: 192.0.2.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Client-Cert: mine",
        "Connection: keep-alive",
    )
    async with front(kind, tmp_path) as made:
        assert await made.get(*lies, path="/a%2Fb//c?d=%20") == 200
    head = made.heads[-1].lower()
    assert head.startswith(b"get /a%2fb//c?d=%20 http/1.1\r\n")
    assert b"\r\nhost: app.test\r\n" in head
    assert b"\r\nx-forwarded-for: 127.0.0.1" in head
    assert b"\r\nx-forwarded-proto: http\r\n" in head
    assert b"192.0.2.9" not in head
    assert b": mine\r\n" not in head


async def test_a_trusted_load_balancer_is_believed(kind: str, tmp_path: Path) -> None:
    async with front(kind, tmp_path, "--trust", "127.0.0.0/8") as made:
        assert await made.get("X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https") == 200
        assert await made.get() == 200
    first, second = (head.lower() for head in made.heads[-2:])
    assert b"\r\nx-forwarded-for: 192.0.2.9, 127.0.0.1" in first
    assert b"\r\nx-forwarded-proto: https\r\n" in first
    assert b"\r\nx-forwarded-proto: http\r\n" in second


async def test_a_proxy_header_of_a_trusted_load_balancer_names_the_client(kind: str, tmp_path: Path) -> None:
    async with front(kind, tmp_path, "--trust", "127.0.0.0/8", "--accept-proxy") as made:
        client = await Client.to(made.port)
        await client.send(b"PROXY TCP4 192.0.2.9 192.0.2.1 1234 80\r\n", request())
        assert (await client.response())[0] == 200
        client.close()
    assert b"\r\nx-forwarded-for: 192.0.2.9" in made.heads[-1].lower()


async def test_websockets_pass(kind: str, tmp_path: Path) -> None:
    async with front(kind, tmp_path) as made:
        client = await Client.to(made.port)
        await client.send(request("ws.test", "/a%2Fb//c", *UPGRADE))
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"x-path: /a%2fb//c\r\n" in head.lower()
        for word in (b"hello", b"again"):
            await client.send(word)
            assert await client.exactly(5) == word
        client.close()


async def test_haproxy_sends_proxy_headers(kind: str, tmp_path: Path) -> None:
    if kind != "haproxy":
        pytest.skip("nginx can't, and says so")
    async with front(kind, tmp_path, "--send-proxy", proxy=True) as made:
        assert {await made.get() for _ in range(4)} == {200}
