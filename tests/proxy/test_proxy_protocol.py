"""The PROXY protocol at the listener: who is told to be the client, with and without TLS; HAProxy as the sender."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.http.proxy_header import SIGNATURE
from tests.support import certs
from tests.support.processes import free_port, running
from tests.support.wire import OK, Client, answering, request, serving, until

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
V2 = SIGNATURE + struct.pack("!BBH4s4sHH", 0x21, 0x11, 12, bytes((192, 0, 2, 7)), bytes((1, 1, 1, 1)), 4711, 443)
LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)
GET = request()


def forwarded_for(heads: list[bytes]) -> bytes:
    return heads[-1].partition(b"\r\nX-Forwarded-For: ")[2].partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("header", "client"), [(V1, b"192.0.2.7"), (V2, b"192.0.2.7"), (LOCAL, b"127.0.0.1"), (b"", b"127.0.0.1")]
)
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_the_client_is_who_the_header_names(header: bytes, client: bytes, step: int) -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), enable_proxy=True) as (bench, _):
        connection = await bench.client()
        message = header + GET
        await connection.send(*[message[i : i + step] for i in range(0, len(message), step)])
        assert (await connection.response())[0] == 200
        assert (await connection.get())[0] == 200  # the header stands before the first request only
    assert forwarded_for(heads) == client


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"PROXY TCP4 nobody 1.1.1.1 1 2\r\n", V2[:12] + b"\x99" + V2[13:]]
)
async def test_a_malformed_header_closes_without_an_answer(header: bytes) -> None:
    async with serving(answering(OK), enable_proxy=True) as (bench, _):
        connection = await bench.client()
        await connection.send(header + GET)
        assert await connection.rest() == b""
        assert bench.log.names() == ["proxy-header-refused"]


async def test_a_stop_waits_for_a_header_that_has_begun() -> None:
    async with serving(answering(OK), enable_proxy=True) as (bench, _):
        connection = await bench.client()
        await connection.send(V1[:20])
        await until(lambda: bool(bench.plane.greeting))
        stopping = asyncio.create_task(bench.plane.stop(10.0))
        await until(lambda: bench.plane.stopping)
        await connection.send(V1[20:] + GET)
        status, head, _ = await connection.response()
        assert (status, b"Connection: close\r\n" in head) == (200, True)
        await stopping


async def test_a_silent_client_is_not_waited_for() -> None:
    async with serving(answering(OK), enable_proxy=True) as (bench, _):
        connection = await bench.client()
        async with asyncio.timeout(10):
            while not bench.plane.frontends:  # its frontend stands although nothing has come
                await asyncio.sleep(0.005)
        assert (await connection.get())[0] == 200


@pytest.mark.parametrize(("trusted", "status"), [(("127.0.0.0/8",), 200), (("10.0.0.0/8", "::1/128"), 400)])
async def test_only_trusted_sources_are_believed(trusted: tuple[str, ...], status: int) -> None:
    async with serving(answering(OK), enable_proxy=True, proxy_trusted_sources=trusted) as (bench, _):
        connection = await bench.client()
        await connection.send(V1 + GET)
        assert (await connection.response())[0] == status


@pytest.mark.parametrize("header", [V1, V2, b""])
async def test_before_tls(header: bytes) -> None:
    heads: list[bytes] = []
    settings = {"listeners": ("https",), "front_tls": certs.front(), "enable_proxy": True}
    async with serving(answering(OK, heads=heads), **settings) as (bench, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(header)
        await writer.start_tls(certs.client(), server_hostname="app.test")
        connection = Client(reader, writer)
        assert (await connection.get())[0] == 200
        connection.close()
    assert forwarded_for(heads) == (b"192.0.2.7" if header else b"127.0.0.1")


async def test_what_is_no_tls_after_the_header() -> None:
    settings = {"listeners": ("https",), "front_tls": certs.front(), "enable_proxy": True}
    async with serving(answering(OK), **settings) as (bench, _):
        connection = await bench.client()
        await connection.send(V1 + GET)
        assert (await connection.response())[0] == 400
        connection.close()
        connection = await bench.client(certs.client())
        assert (await connection.get())[0] == 200


HAPROXY = """\
global
  maxconn 100
defaults
  mode tcp
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen v
  bind 127.0.0.1:{port}
  server router 127.0.0.1:{router} {send}
"""


@asynccontextmanager
async def haproxy(folder: Path, router: int, send: str) -> AsyncIterator[int]:
    port = free_port()
    config = folder / f"{send}.cfg"
    config.write_text(HAPROXY.format(port=port, router=router, send=send))
    async with running(["haproxy", "-db", "-f", str(config)], port):
        yield port


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("secure", [False, True])
async def test_haproxy_in_front(tmp_path: Path, send: str, secure: bool) -> None:
    heads: list[bytes] = []
    tls: ssl.SSLContext | None = certs.client() if secure else None
    settings = {"listeners": ("https",), "front_tls": certs.front()} if secure else {}
    async with (
        serving(answering(OK, heads=heads), enable_proxy=True, **settings) as (bench, _),
        haproxy(tmp_path, bench.port, send) as port,
    ):
        connection = await Client.to(port, tls)
        host, number = connection.writer.get_extra_info("sockname")
        assert (await connection.get())[0] == 200
        assert {frontend.peer for frontend in bench.plane.frontends} >= {f"{host}:{number}".encode()}
        connection.close()
    assert forwarded_for(heads) == b"127.0.0.1"
