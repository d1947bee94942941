"""`router front --watch` as users run it: real routers on a real bus come and go, the file and the reloads follow."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from router.cli.main import app
from tests.support.processes import free_port
from tests.support.programs import needs
from tests.support.routers import RouterProcess, nats_server, router, until

FRONT = (sys.executable, "-m", "router.cli.main", "front")


@asynccontextmanager
async def watching(directory: Path, nats_port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    options = ("--watch", "--interval", "0.1", "--listen", f"127.0.0.1:{free_port()}", "--run-dir", str(directory))
    reload = f"grep -c max_fails {directory}/front.conf >> {directory}/reloads"
    process = await asyncio.create_subprocess_exec(
        *(*FRONT, "nginx", "--nats", f"nats://127.0.0.1:{nats_port}", *options),
        *("--output", f"{directory}/front.conf", "--reload-cmd", reload),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@needs("nginx")
async def test_the_file_follows_the_routers(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "front")]
    for folder in folders:
        folder.mkdir()
    file, reloads = folders[2] / "front.conf", folders[2] / "reloads"

    def lists(*routers: RouterProcess) -> bool:
        text = file.read_text() if file.exists() else ""
        return text.count("max_fails=") == len(routers) and all(f"127.0.0.1:{each.port} " in text for each in routers)

    async with nats_server() as bus, watching(folders[2], bus.port) as front:
        async with router(folders[0], bus.port, local_route="127.0.0.1") as one:
            await until(lambda: lists(one))
            async with router(folders[1], bus.port, local_route="127.0.0.1", drain_wait="1m") as two:
                await until(lambda: lists(one, two))
                assert set((await printed_for(bus.port))["routers"]) == {f"127.0.0.1:{r.port}" for r in (one, two)}
                two.process.send_signal(signal.SIGQUIT)
                await until(lambda: lists(one))
                assert two.process.returncode is None  # out of the file before it stops to serve
            await until(lambda: reloads.read_text() == "1\n2\n1\n")
        front.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(front.communicate(), 20)
        assert (front.returncode, lists(one)) == (0, True)
        assert "Traceback" not in said.decode()
        assert reloads.read_text() == "1\n2\n1\n"


async def printed_for(nats_port: int) -> dict[str, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *(*FRONT, "haproxy", "--nats", f"127.0.0.1:{nats_port}", "--json"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    found: dict[str, list[str]] = json.loads(output)
    return found


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (("nginx", "--router", "here"), 1, "--router here: expected HOST:PORT"),
        (("nginx", "--router", "a:80", "--watch"), 2, "--watch needs --output FILE"),
        (("nginx", "--reload-cmd", "true"), 2, "--reload-cmd needs --output"),
        (("apache",), 2, "'apache' is not one of 'nginx', 'haproxy'"),
        (("nginx", "--nats", "nats://127.0.0.1:1"), 1, "NATS at 127.0.0.1:1 can't be reached"),
        (("nginx", "--nats", "http://127.0.0.1:1"), 1, "--nats: expected nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT]"),
        (("nginx", "--creds", "x"), 2, "go with --nats"),
    ],
)
def test_what_cannot_be_done_is_said(options: tuple[str, ...], status: int, says: str) -> None:
    done = CliRunner().invoke(app, ["front", *options], prog_name="router")
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (status, True)
    assert says in " ".join(done.stderr.split())
