"""`router health`: an exit status, and the reason where it is not 0."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli.main import app
from tests.support import certs
from tests.support.processes import free_port
from tests.support.router import FREE_PORTS, router


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["health", *arguments], prog_name="router")


@pytest.mark.parametrize("more", [(), ("--ready",)])
async def test_a_router_that_is_well_and_one_that_leaves(more: tuple[str, ...], tmp_path: Path) -> None:
    word = "ready" if more else "healthy"
    async with router(tmp_path) as control:
        file = ("-c", str(tmp_path / "router.yml"))
        url = ("--url", f"127.0.0.1:{control.status_port}")
        for where in (file, url):
            told = await run(*where, *more)
            assert (told.exit_code, told.stdout, told.stderr) == (0, f"{word}\n", "")
        control.health.stopping("it drains")
        told = await run(*file, *more)
        assert (told.exit_code, told.stdout) == (1, "")
        assert told.stderr == f"router health: not {word}: it drains\n"
        told = await run(*url, *more, "--json")
        assert (told.exit_code, json.loads(told.stdout)) == (
            1,
            {"healthy": False, "status": 503, "reason": "it drains"},
        )
    told = await run(*file, *more)
    assert told.exit_code == 1
    assert "no router runs on port 0" in told.stderr


async def test_a_router_that_waits_for_the_bus(tmp_path: Path) -> None:
    bus = {"hosts": [{"hostname": "127.0.0.1", "port": free_port()}]}
    async with router(tmp_path, nats=bus):
        told = await run("-c", str(tmp_path / "router.yml"))
        assert told.exit_code == 1
        assert told.stderr.startswith("router health: not healthy: not connected to NATS since ")


async def test_a_status_port_with_tls_only(tmp_path: Path) -> None:
    leaf = certs.issued("status.test")
    leaf.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    tls = {"port": 0, "certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    status = {**FREE_PORTS["status"], "enable_nontls_health_checks": False, "tls": tls}
    async with router(tmp_path, status=status) as control:
        assert (await run("-c", str(tmp_path / "router.yml"))).exit_code == 0
        told = await run("--url", f"https://127.0.0.1:{control.status_tls_port}")
        assert told.exit_code == 1
        assert "certificate" in told.stderr.lower()


async def test_nobody_and_somebody_else() -> None:
    told = await run("--url", "http://127.0.0.1:1", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["status"] == 0
    assert (await run("--url", "ftp://x")).exit_code == 1

    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    async with await asyncio.start_server(chatter, "127.0.0.1", 0) as server:
        url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        told = await run("--url", url)
        assert told.exit_code == 1
        assert "does not answer as a router" in told.stderr
        told = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--url", url], prog_name="router")
        assert "does not answer as a router" in told.stderr
