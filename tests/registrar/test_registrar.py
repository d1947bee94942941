"""`router registrar` as it runs: a process, a real NATS server, a subscriber in the place of a router."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import yaml

from router.control.bus.embedded import EmbeddedNats
from router.registrar.config import HealthCheck
from router.registrar.health import unhealthy
from tests.support.processes import free_port
from tests.support.router import router
from tests.support.workers import TIMEOUT, backend, get


class Listener:
    """What is said on the bus, in order."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.bus: Any = None

    async def next(self, subject: str = "") -> dict[str, Any]:
        """The next message, or the next on this subject."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                name, message = await self.heard.get()
                if not subject or name == subject:
                    return message


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Listener]:
    listener = Listener()
    listener.bus = await nats.connect(url)

    async def heard(message: Any) -> None:
        listener.heard.put_nowait((message.subject.removeprefix("router."), json.loads(message.data)))

    for subject in ("router.register", "router.unregister"):
        await listener.bus.subscribe(subject, cb=heard)
    await listener.bus.flush()
    yield listener
    await listener.bus.close()


@asynccontextmanager
async def server(*options: str) -> AsyncIterator[EmbeddedNats]:
    nats_server = EmbeddedNats(0, "127.0.0.1", *options)
    await nats_server.start()
    try:
        yield nats_server
    finally:
        nats_server.kill()


@asynccontextmanager
async def registrar(directory: Path, config: dict[str, Any]) -> AsyncIterator[asyncio.subprocess.Process]:
    file = directory / "registrar.yml"
    file.write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "router.cli.main", "registrar", "-c", str(file)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def config_of(nats_server: EmbeddedNats, interval: str = "1h", **route: Any) -> dict[str, Any]:
    return {
        "message_bus_servers": [{"host": f"127.0.0.1:{nats_server.port}"}],
        "availability_zone": "z1",
        "routes": [
            {"name": "a", "port": 8080, "uris": ["a.test/p"], "registration_interval": interval, **route},
        ],
    }


async def test_it_registers_at_once_when_a_router_starts_and_unregisters_at_the_end(tmp_path: Path) -> None:
    async with server() as bus, listening(bus.url) as router_side:
        route = {"tls_port": 8443, "tags": {"component": "x"}, "options": {"loadbalancing": "least-connection"}}
        async with registrar(tmp_path, config_of(bus, **route)) as process:
            first = await router_side.next()
            instance = first.pop("private_instance_id")
            assert len(instance) == 36
            assert first == {
                "uris": ["a.test/p"],
                "host": "127.0.0.1",
                "port": 8080,
                "tls_port": 8443,
                "tags": {"component": "x"},
                "availability_zone": "z1",
                "options": {"loadbalancing": "least-connection"},
            }
            await router_side.bus.publish("router.start", b"{}")
            assert (await router_side.next("register"))["private_instance_id"] == instance
            process.send_signal(signal.SIGTERM)
            assert (await router_side.next("unregister"))["uris"] == ["a.test/p"]
            assert await process.wait() == 0


async def test_an_unhealthy_backend_is_unregistered_a_few_times_only(tmp_path: Path) -> None:
    well = tmp_path / "well"
    well.touch()
    async with server() as bus, listening(bus.url) as router_side:
        config = config_of(bus, "20ms", health_check={"name": "file", "script_path": f"test -f {well}"})
        config["routes"].append({"name": "b", "port": 1, "uris": ["b.test"], "registration_interval": "20ms"})
        config["unregistration_message_limit"] = 2
        async with registrar(tmp_path, config):
            while (await router_side.next("register"))["uris"] != ["a.test/p"]:
                pass
            well.unlink()
            for _ in range(2):
                assert (await router_side.next("unregister"))["uris"] == ["a.test/p"]
            for _ in range(3):  # of b, which goes on
                assert (await router_side.next())["uris"] == ["b.test"]
            well.touch()
            while (await router_side.next())["uris"] != ["a.test/p"]:
                pass


async def test_a_cluster_with_passwords_of_which_one_server_is_dead(tmp_path: Path) -> None:
    async with server("--user", "me", "--pass", "s/e#c@r:e t") as bus:
        listener = Listener()
        listener.bus = await nats.connect(bus.url, user="me", password="s/e#c@r:e t")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def heard(message: Any) -> None:
            if not future.done():
                future.set_result(json.loads(message.data))

        await listener.bus.subscribe("router.register", cb=heard)
        await listener.bus.flush()
        config = config_of(bus)
        config["message_bus_servers"] = [
            {"host": f"127.0.0.1:{free_port()}", "user": "other", "password": "x"},
            {"host": f"127.0.0.1:{bus.port}", "user": "me", "password": "s/e#c@r:e t"},
        ]
        async with registrar(tmp_path, config):
            assert (await asyncio.wait_for(future, TIMEOUT))["uris"] == ["a.test/p"]
        await listener.bus.close()


async def test_a_router_serves_what_it_registers(tmp_path: Path) -> None:
    async with server() as bus, backend() as port:
        servers = {"hosts": [{"hostname": "127.0.0.1", "port": bus.port}]}
        async with router(tmp_path, nats=servers) as control:
            await asyncio.wait_for(control.healthy(), TIMEOUT)
            async with registrar(tmp_path, config_of(bus, port=port)) as process, listening(bus.url) as side:
                await side.bus.publish("router.start", b"{}")  # it may have registered before we listened
                await side.next("register")
                async with asyncio.timeout(TIMEOUT):
                    while not len(control.registry):
                        await asyncio.sleep(0.01)
                assert await get(control.port, "a.test", "/p/x") == (200, b"hello")
                process.send_signal(signal.SIGINT)
                await process.wait()
                async with asyncio.timeout(TIMEOUT):
                    while len(control.registry):
                        await asyncio.sleep(0.01)


async def test_what_a_script_can_do() -> None:
    def script(text: str) -> HealthCheck:
        return HealthCheck(script_path=text)

    assert await unhealthy(script("exit 0"), 5) == ""
    assert await unhealthy(script("echo no disk; exit 3"), 5) == "exit status 3: no disk"
    assert await unhealthy(script("kill -9 $$"), 5) == "signal 9"
    assert await unhealthy(script("sleep 60 & sleep 60"), 0.05) == "it took longer than 0.05 s"


async def test_what_a_probe_can_find() -> None:
    async with backend() as port:
        assert await unhealthy(HealthCheck(url=f"http://127.0.0.1:{port}/"), 5) == ""
    found = await unhealthy(HealthCheck(url=f"http://127.0.0.1:{port}/"), 5)
    assert found.startswith(f"http://127.0.0.1:{port}/ can't be asked: ")

    async def teapot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(teapot, "127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        assert await unhealthy(HealthCheck(url=url), 5) == f"{url} answers with status 503"
