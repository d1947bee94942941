"""Clients and servers that people use: curl, aiohttp, httpx, wrk; nginx, aiohttp, and a server that misbehaves."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest
from aiohttp import web

from tests.differential.compare import find
from tests.support.processes import free_port, running
from tests.support.wire import OK, Bench, Client, request, serving

DATA = hashlib.shake_128(b"data").digest(300_000)


async def echo(asked: web.Request) -> web.StreamResponse:
    """The body again, as it comes, with its hash in a header if it came whole."""
    if asked.method == "GET":
        return web.Response(body=DATA, headers={"X-Asked": asked.path_qs})
    body = await asked.read()
    return web.Response(body=body, headers={"X-Framing": asked.headers.get("Transfer-Encoding", "length")})


async def stream(asked: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(asked)
    for at in range(0, len(DATA), 7_000):
        await response.write(DATA[at : at + 7_000])
    return response


async def websocket(asked: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(asked)
    async for message in socket:
        await socket.send_bytes(message.data) if message.type == web.WSMsgType.BINARY else await socket.close()
    return socket


@asynccontextmanager
async def aiohttp_behind() -> AsyncIterator[Bench]:
    """The router, with an aiohttp server as `localhost`."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_get("/stream", stream)
    app.router.add_get("/ws", websocket)
    app.router.add_route("*", "/{rest:.*}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with serving() as (bench, _):
            bench.route("localhost", site._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
            yield bench
    finally:
        await runner.cleanup()


async def output_of(*argv: str) -> tuple[int | None, bytes]:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    return process.returncode, output


CURL = [
    # options, what is to come
    (["/a?b"], DATA),
    (["--http1.0", "/"], DATA),
    (["/stream"], DATA),
    (["--http1.0", "/stream"], DATA),
    (["/", "/stream"], DATA + DATA),
    (["--data-binary", "@FILE", "/"], DATA),
    (["--data-binary", "@FILE", "-H", "Expect: 100-continue", "/"], DATA),
    (["--data-binary", "@FILE", "-H", "Transfer-Encoding: chunked", "/"], DATA),
    (["-T", "FILE", "/put"], DATA),
]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize(("options", "body"), CURL, ids=lambda value: str(value)[:60])
async def test_curl(options: list[str], body: bytes, tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(DATA)
    async with aiohttp_behind() as bench:
        base = f"http://localhost:{bench.port}"
        argv = [base + option if option.startswith("/") else option.replace("FILE", str(file)) for option in options]
        code, got = await output_of("curl", "-s", "-S", "-4", "--fail", "--max-time", "10", *argv)
    assert (code, hashlib.sha256(got).hexdigest()) == (0, hashlib.sha256(body).hexdigest()), got[:200]


async def test_aiohttp() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 50_000):
            yield DATA[at : at + 50_000]

    async with aiohttp_behind() as bench, aiohttp.ClientSession(f"http://localhost:{bench.port}") as session:
        for path in ("/", "/stream"):
            async with session.get(path) as answer:
                assert await answer.read() == DATA
        for body in (DATA, pieces()):
            async with session.post("/", data=body) as answer:
                assert await answer.read() == DATA
                assert answer.headers["X-Framing"] == ("length" if body is DATA else "chunked")
        async with session.head("/") as answer:
            assert answer.status == 200
        async with session.ws_connect("/ws") as socket:
            for size in (0, 10, 70_000, len(DATA)):
                await socket.send_bytes(DATA[:size])
                assert await socket.receive_bytes() == DATA[:size]


async def test_httpx() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 50_000):
            yield DATA[at : at + 50_000]

    async with aiohttp_behind() as bench, httpx.AsyncClient(base_url=f"http://localhost:{bench.port}") as client:
        for path in ("/", "/stream"):
            assert (await client.get(path)).content == DATA
        assert (await client.post("/", content=DATA)).content == DATA
        assert (await client.put("/", content=pieces())).content == DATA
        assert (await client.head("/")).status_code == 200
        answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(20)))
        assert sorted(int(answer.headers["X-Asked"][1:]) for answer in answers) == list(range(20))


NGINX = """\
daemon off;
pid {directory}/nginx.pid;
error_log /dev/null crit;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 20;
  server {{
    listen 127.0.0.1:{port};
    location = /small {{ return 200 "small"; }}
    location /files/ {{ alias {directory}/; }}
    location = /zipped {{ gzip on; gzip_types *; gzip_min_length 1; alias {directory}/data; }}
    location = /teapot {{ return 418; }}
  }}
}}
"""


@asynccontextmanager
async def nginx_behind(directory: Path) -> AsyncIterator[Bench]:
    program = find("nginx")
    if program is None:
        pytest.skip("needs nginx")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)  # nginx may change its user
    (directory / "data").write_bytes(DATA)
    port, path = free_port(), directory / "nginx.conf"
    path.write_text(NGINX.format(directory=directory, port=port))
    nginx = running([program, "-e", "/dev/null", "-p", str(directory), "-c", str(path)], port)
    async with nginx, serving() as (bench, _):
        bench.route("localhost", port)
        yield bench


async def test_nginx_as_a_backend(tmp_path: Path) -> None:
    async with nginx_behind(tmp_path) as bench, aiohttp.ClientSession(f"http://localhost:{bench.port}") as session:
        async with session.get("/files/data") as answer:
            assert await answer.read() == DATA
            modified = answer.headers["Last-Modified"]
        async with session.get("/files/data", headers={"Range": "bytes=10-19"}) as answer:
            assert (answer.status, await answer.read()) == (206, DATA[10:20])
        async with session.get("/files/data", headers={"If-Modified-Since": modified}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with session.get("/zipped", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert await answer.read() == DATA
        async with session.get("/teapot") as answer:
            assert answer.status == 418
        async with session.head("/files/data") as answer:
            assert answer.headers["Content-Length"] == str(len(DATA))
        for _ in range(50):  # nginx closes each connection after 20 requests
            async with session.get("/small") as answer:
                assert await answer.text() == "small"


@pytest.mark.skipif(not shutil.which("wrk"), reason="needs wrk")
async def test_wrk(tmp_path: Path) -> None:
    async with nginx_behind(tmp_path) as bench:
        # Under load, with connections that the backend closes all the time.
        url = f"http://localhost:{bench.port}/small"
        code, output = await output_of("wrk", "-t1", "-c16", "-d1s", url)
    assert code == 0
    assert b"Non-2xx" not in output, output
    assert b"Socket errors" not in output, output
    found = re.search(rb"(\d+) requests in", output)
    assert found is not None
    assert int(found[1]) > 20


# ---------------------------------------------------------------- a server that misbehaves

ANSWERS = [
    ("length", b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"),
    ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
]


@pytest.mark.parametrize(("name", "answer"), ANSWERS, ids=[row[0] for row in ANSWERS])
@pytest.mark.parametrize("end", ["reset", "close"])
async def test_an_end_at_every_point_is_502_or_visibly_incomplete(name: str, answer: bytes, end: str) -> None:
    async def script(client: Client) -> None:
        head = await client.reader.readuntil(b"\r\n\r\n")
        await client.send(answer[: int(head.split()[1][1:])])
        if end == "reset":
            client.reset()

    async with serving(script) as (bench, _):
        for at in range(len(answer)):
            client = await bench.client()
            await client.send(request("app.test", f"/{at}", "Connection: close"))
            got = await client.rest()
            whole, body = got.partition(b"\r\n\r\n")[::2]
            if at < answer.index(b"\r\n\r\n") + 4:
                assert whole.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"), (at, got)
            elif name == "length":
                assert len(body) < 5, (at, got)
            else:
                assert not body.endswith(b"0\r\n\r\n"), (at, got)
            client.close()


async def test_a_backend_that_dribbles() -> None:
    answer = ANSWERS[1][1]

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        for at in range(len(answer)):
            await client.send(answer[at : at + 1])
            await asyncio.sleep(0)

    async with serving(script) as (bench, _):
        client = await bench.client()
        assert (await client.get())[2] == b"hello"


async def test_a_backend_that_closes_its_half_and_still_listens() -> None:
    """RFC 9112 §9.6: it has said all; what it said counts, and the connection is not used again."""

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.write(OK)
        client.writer.write_eof()
        await client.rest()

    async with serving(script) as (bench, (backend,)):
        client = await bench.client()
        for _ in range(3):
            assert (await client.get())[2] == b"ok"
        assert len(backend.connections) == 3


async def test_a_backend_that_answers_at_once_and_reads_nothing() -> None:
    async def script(client: Client) -> None:
        await client.send(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        await client.reader.readuntil(b"\r\n\r\n")

    async with serving(script) as (bench, _):
        client = await bench.client()
        sending = asyncio.create_task(client.send(request("app.test", "/", "Content-Length: 9000000", method="POST")))
        assert (await client.response())[0] == 403
        await sending
        client.close()
