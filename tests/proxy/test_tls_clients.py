"""Other people's clients at the HTTPS listener: openssl, httpx, h2load, a WebSocket library (contract §9)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import web

from tests.support import certs
from tests.support.wire import OK, answering, serving


def https(**options: object) -> dict[str, Any]:
    return {"listeners": ("https",), "front_tls": certs.front("app.test", "two.test", **options)}


async def run(*argv: str, stdin: bytes = b"") -> str:
    """What the program writes."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate(stdin)
    return out.decode(errors="replace")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-tls1_3", "-servername", "app.test"), "Protocol version: TLSv1.3"),
        (("-tls1_2", "-servername", "app.test"), "Protocol version: TLSv1.2"),
        (("-servername", "two.test"), "Peer certificate: O = Tests"),
        (("-servername", "app.test", "-alpn", "h2"), "ALPN protocol: h2"),
        (("-servername", "app.test", "-alpn", "http/1.1"), "ALPN protocol: http/1.1"),
        (("-servername", "app.test", "-cert", "{leaf}", "-key", "{key}"), "Verification: OK"),
    ],
)
async def test_openssl(tmp_path: Path, options: tuple[str, ...], expected: str) -> None:
    leaf = certs.issued("client.test")
    files = {"leaf": tmp_path / "leaf.pem", "key": tmp_path / "key.pem", "ca": tmp_path / "ca.pem"}
    files["leaf"].write_bytes(leaf.cert_chain_pems[0].bytes())
    files["key"].write_bytes(leaf.private_key_pem.bytes())
    files["ca"].write_text(certs.pem(certs.authority()))
    async with serving(answering(OK), **https(client_certificates="request")) as (bench, _):
        given = [option.format(**{name: str(path) for name, path in files.items()}) for option in options]
        command = ("openssl", "s_client", "-brief", "-CAfile", str(files["ca"]))
        said = await run(*command, "-connect", f"127.0.0.1:{bench.port}", *given)
        if "ALPN" in expected:
            said = await run("openssl", "s_client", "-connect", f"127.0.0.1:{bench.port}", *given)
        assert expected.removeprefix("Protocol version: ") in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("options", "alert"),
    [
        (("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), "alert protocol version"),
        (("-tls1_2", "-cipher", "AES128-SHA"), "alert handshake failure"),
        (("-tls1_3",), "alert certificate required"),
        (("-tls1_2",), "alert handshake failure"),
        (("-tls1_3", "-cert", "{leaf}", "-key", "{key}"), "alert unknown ca"),
        (("-tls1_2", "-cert", "{leaf}", "-key", "{key}"), "alert unknown ca"),
    ],
)
async def test_who_is_refused_is_told_why(tmp_path: Path, options: tuple[str, ...], alert: str) -> None:
    leaf = certs.issued("client.test", by_stranger=True)
    files = {"leaf": tmp_path / "leaf.pem", "key": tmp_path / "key.pem"}
    files["leaf"].write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    files["key"].write_bytes(leaf.private_key_pem.bytes())
    async with serving(answering(OK), **https(client_certificates="require")) as (bench, _):
        given = [option.format(**{name: str(path) for name, path in files.items()}) for option in options]
        said = await run("openssl", "s_client", "-connect", f"127.0.0.1:{bench.port}", "-ign_eof", *given)
        assert alert in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", [("-servername", "app.test"), ("-noservername",)])
async def test_who_speaks_no_protocol_of_ours_is_told(version: str, name: tuple[str, ...]) -> None:
    async with serving(answering(OK), **https()) as (bench, _):
        command = ("openssl", "s_client", "-connect", f"127.0.0.1:{bench.port}", "-ign_eof", version, *name)
        assert "alert no application protocol" in await run(*command, "-alpn", "h3,smtp")


@pytest.mark.parametrize("http2", [True, False])
async def test_httpx(http2: bool) -> None:
    async with serving(answering(OK), **https()) as (bench, _):
        async with httpx.AsyncClient(http2=http2, verify=certs.client()) as client:
            answers = await asyncio.gather(
                *[
                    client.get(
                        f"https://127.0.0.1:{bench.port}/{number}",
                        headers={"Host": "app.test"},
                        extensions={"sni_hostname": "app.test"},
                    )
                    for number in range(10)
                ]
            )
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (nghttp2-client) is not installed")
async def test_h2load() -> None:
    async with serving(answering(OK), **https()) as (bench, _):
        said = await run(
            "h2load",
            "-n",
            "500",
            "-c",
            "4",
            "-m",
            "10",
            "-H",
            ":authority: app.test",
            f"https://127.0.0.1:{bench.port}/",
        )
        assert "500 succeeded, 0 failed, 0 errored" in said


async def test_a_websocket_library_over_tls() -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with serving(**https()) as (bench, _):
        bench.route("app.test", runner.addresses[0][1])
        async with aiohttp.ClientSession() as session:
            url = f"wss://127.0.0.1:{bench.port}/ws"
            async with session.ws_connect(
                url, ssl=certs.client(), server_hostname="app.test", headers={"Host": "app.test"}
            ) as socket:
                for word in ("one", "two" * 30_000):
                    await socket.send_str(word)
                    assert await socket.receive_str() == word.upper()
    await runner.cleanup()
