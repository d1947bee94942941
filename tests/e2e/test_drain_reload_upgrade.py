"""Drain, reload and upgrade of a router process under load: nothing is lost (contract §8.9, docs/operating.md)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.routers import RouterProcess, router, running, until
from tests.support.wire import Client, request
from tests.support.workers import backend


class Load:
    """Clients that ask without pause; `statuses` is what they were told, -1 for a broken connection."""

    def __init__(self, port: int, host: str, clients: int = 4) -> None:
        self.statuses: list[int] = []
        self._port, self._host = port, host
        self._on = True
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(clients)]

    async def _ask(self) -> None:
        client: Client | None = None
        while self._on:
            try:
                client = client or await Client.to(self._port)
                status, head, _ = await client.get(self._host)
                self.statuses.append(status)
                if b"\r\nConnection: close\r\n" in head:
                    client.close()
                    client = None
            except (OSError, asyncio.IncompleteReadError):
                self.statuses.append(-1)
                client = None
        if client is not None:
            client.close()

    async def more(self, count: int = 50) -> None:
        """Return when so many more requests have been answered."""
        wanted = len(self.statuses) + count
        await until(lambda: len(self.statuses) >= wanted)

    async def end(self) -> set[int]:
        """Stop; the kinds of answers there were."""
        self._on = False
        await asyncio.gather(*self._tasks)
        return set(self.statuses)


@asynccontextmanager
async def loaded(directory: Path, **config: Any) -> AsyncIterator[tuple[RouterProcess, Load]]:
    async with running(directory, **config) as (r, other), backend() as port:
        await other.say("register", port, "a.test")
        await r.answers("a.test", 200)
        yield r, Load(r.port, "a.test")


async def history_of(r: RouterProcess, host: str) -> Any:
    """What the router remembers of a host's routes."""
    credentials = base64.b64encode(b"u:p").decode()
    authorization = f"Authorization: Basic {credentials}"
    status, _, body = await r.get("localhost", f"/api/history/{host}", authorization, port=r.status_port)
    assert status == 200
    return json.loads(body)["events"]


def rewrite(r: RouterProcess, **config: Any) -> None:
    """Change the configuration file of a running router."""
    r.config.update(config)
    (r.directory / "router.yml").write_text(json.dumps(r.config))


async def test_a_reload_puts_new_settings_in_force_and_loses_nothing(tmp_path: Path) -> None:
    async with loaded(tmp_path, workers=2) as (r, load):
        before = {worker.pid for worker in r.workers()}
        await load.more()
        rewrite(r, debug_404=True)
        r.process.send_signal(signal.SIGHUP)
        await r.logged("configuration-reloaded")
        await load.more()
        assert await load.end() == {200}
        assert b"Registered hosts that come near: a.test" in (await r.get("b.test"))[2]
        await until(lambda: len(r.workers()) == 2)
        assert not before & {worker.pid for worker in r.workers()}


async def test_a_bad_configuration_is_refused_whole(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (r, load):
        before = r.workers()
        rewrite(r, prot=1, endpoint_timeout="soon")
        r.process.send_signal(signal.SIGHUP)
        refused = await r.logged("reload-refused")
        assert [problem.split(": ")[1] for problem in refused["problems"]] == ["prot", "endpoint_timeout"]
        del r.config["prot"], r.config["endpoint_timeout"]
        rewrite(r, workers=3)
        r.process.send_signal(signal.SIGHUP)
        refused = await r.logged("reload-refused", 2)
        assert refused["problems"] == [
            "workers: can't change by a reload; `router upgrade` puts it in force without a loss"
        ]
        await load.more()
        assert await load.end() == {200}
        assert r.workers() == before


async def test_an_upgrade_keeps_process_ports_and_requests(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (r, load):
        before = {worker.pid for worker in r.workers()}
        await load.more()
        rewrite(r, workers=2)
        history = await history_of(r, "a.test")
        assert [event["what"] for event in history] == ["registered"]
        r.process.send_signal(signal.SIGUSR2)
        await r.logged("upgraded")
        assert await history_of(r, "a.test") == history
        await until(lambda: len([worker for worker in r.workers() if not worker.leaving]) == 2)
        await load.more()
        assert await load.end() == {200}
        assert not before & {worker.pid for worker in r.workers() if not worker.leaving}
        assert r.process.returncode is None  # the same process


async def test_upgrades_leave_no_descriptors_behind(tmp_path: Path) -> None:
    async with router(tmp_path, 4222, nats=None) as r:
        await r.logged("router.started")
        for times in (1, 2):
            r.process.send_signal(signal.SIGUSR2)
            await r.logged("upgraded", times)
        held = [os.readlink(each) for each in Path(f"/proc/{r.process.pid}/fd").iterdir()]
        sockets = [each for each in held if each.startswith("socket:")]
        assert sorted(sockets) == sorted(set(sockets))  # one held twice would stay open, and take clients in


@pytest.mark.parametrize("order", [signal.SIGQUIT, signal.SIGTERM])
async def test_an_order_during_an_upgrade_is_carried_out_after_it(tmp_path: Path, order: signal.Signals) -> None:
    async with loaded(tmp_path) as (r, load):
        await load.more()
        r.process.send_signal(signal.SIGUSR2)
        await r.logged("control-leaves")
        r.process.send_signal(order)  # nobody listens just now
        assert await asyncio.wait_for(r.process.wait(), 20) == 0
        assert len(r.events("router.started")) == 2
        assert not r.workers()
        assert await load.end() <= {200, -1}


async def test_an_upgrade_that_could_not_start_is_refused(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (r, load):
        before = r.workers()
        rewrite(r, prot=1)
        r.process.send_signal(signal.SIGUSR2)
        refused = await r.logged("upgrade-refused")
        assert any("prot" in line for line in refused["reason"])
        await load.more()
        assert await load.end() == {200}
        assert r.workers() == before


async def test_a_drain_fails_health_checks_serves_on_and_ends_when_all_is_done(tmp_path: Path) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with running(tmp_path, drain_wait="1s", drain_timeout="30s") as (r, other), backend() as port:
        await other.say("register", port, "a.test")
        await other.say("register", server.sockets[0].getsockname()[1], "slow.test")
        await r.answers("a.test", 200)
        client, quick = await Client.to(r.port), await Client.to(r.port)
        await client.send(request("slow.test"))
        await asked.wait()
        r.process.send_signal(signal.SIGQUIT)
        await r.logged("gorouter-draining")
        assert await r.health() == (503, "it drains\n")
        assert (await r.get("a.test"))[0] == 200  # still served during `drain_wait`
        status, _, _ = await quick.get("a.test")
        assert status == 200
        async with asyncio.timeout(20):
            while True:
                try:
                    (await Client.to(r.port)).close()
                except ConnectionRefusedError:
                    break
                await asyncio.sleep(0.01)
        assert await quick.rest() == b""  # idle, closed
        assert r.process.returncode is None
        go.set()
        assert (await client.response())[2] == b"done"
        assert await asyncio.wait_for(r.process.wait(), 20) == 0
    server.close()


async def test_a_drain_that_takes_too_long_says_so(tmp_path: Path) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    async with running(tmp_path, drain_timeout="200ms") as (r, other):
        await other.say("register", server.sockets[0].getsockname()[1], "a.test")
        await until(lambda: bool(r.events("route-registered")))
        client = await Client.to(r.port)
        await client.send(request("a.test"))
        await asyncio.sleep(0)
        r.process.send_signal(signal.SIGUSR1)  # the Go router's dialect: USR1 drains
        assert await asyncio.wait_for(r.process.wait(), 20) == 3
        assert r.events("router.drain.timed-out")
    server.close()


async def test_systemd_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        loop = asyncio.get_running_loop()

        async def told(word: str) -> str:
            async with asyncio.timeout(20):
                while word not in (text := (await loop.sock_recv(listener, 4096)).decode()):
                    pass
                return text

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": ""}
        async with router(tmp_path, 4222, nats=None, environment=environment) as r:
            assert "STATUS=healthy: 0 routes, 0 endpoints, 1 workers" in await told("READY=1")
            await told("WATCHDOG=1")
            r.process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in await told("RELOADING=1")
            await told("READY=1")
            r.process.terminate()
            await told("STOPPING=1")


async def test_sockets_that_systemd_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        starter = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ |= {'LISTEN_FDS': '1', 'LISTEN_PID': "
            "str(os.getpid()), 'LISTEN_FDNAMES': 'http'}; os.execv(sys.executable, [sys.executable, '-m', "
            "'router.cli.main', 'run', '-c', sys.argv[2]])"
        )
        r = RouterProcess(tmp_path, 4222, nats=None)
        r.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", starter, str(listener.fileno()), str(tmp_path / "router.yml")),
            pass_fds=[listener.fileno()],
            stdout=(tmp_path / "output").open("wb"),
        )
        try:
            await r.logged("router.started")
            assert (await r.get("nobody.test", port=port))[0] == 404
        finally:
            await r.stop()


@pytest.mark.parametrize(("name", "event"), [("reload", "configuration-reloaded"), ("upgrade", "upgraded")])
async def test_orders_from_the_command_line(tmp_path: Path, name: str, event: str) -> None:
    async with router(tmp_path, 4222, nats=None) as r:
        await r.logged("router.started")
        code, said = await command(name, "-c", str(tmp_path / "router.yml"))
        assert (code, said) == (0, f"router {name}: told process {r.process.pid}; see its log\n")
        await r.logged(event)
        code, said = await command("drain", "--wait", "-c", str(tmp_path / "router.yml"))
        assert (code, said) == (0, f"router drain: told process {r.process.pid}, which has ended\n")
        code, said = await command("drain", "-c", str(tmp_path / "router.yml"))
        assert code == 1
        assert "no router runs with run_dir" in said


async def command(*arguments: str) -> tuple[int, str]:
    """Exit status and words of a command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(os.environ),
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()
