"""A router as users run it: `router run -c FILE`, its log, a NATS server and parties that register on it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import nats

from router.control.bus.embedded import EmbeddedNats
from router.control.state import State
from tests.support.processes import free_port
from tests.support.wire import Client

TIMEOUT = 20.0


class RouterProcess:
    """Control of one router; `stop` ends it and whatever it left behind."""

    def __init__(self, directory: Path, nats_port: int, **config: Any) -> None:
        self.directory = directory
        self.port, self.status_port = free_port(), free_port()
        self.config = {
            "port": self.port,
            "inet": "127.0.0.1",
            "workers": 1,
            "run_dir": str(directory / "run"),
            "status": {"port": self.status_port, "user": "u", "pass": "p", "routes": {"port": free_port()}},
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]},
            "start_response_delay_interval": "0s",
            **config,
        }
        self._path = directory / "router.yml"
        self._path.write_text(json.dumps(self.config))
        self._output = directory / "output"
        self.environment: dict[str, str] = {}
        """What the process gets besides the environment of the tests."""
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        with self._output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "router.cli.main", "run", "-c", str(self._path)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    async def stop(self) -> None:
        """End it in order; kill workers that an earlier control left."""
        orphans = self.workers()
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), TIMEOUT)
            except TimeoutError:
                self.process.kill()
        await self.process.wait()
        for worker in orphans:
            if worker.alive:
                os.kill(worker.pid, signal.SIGKILL)

    def workers(self) -> list[Any]:
        """What control says about its workers."""
        try:
            state = (self.directory / "run" / f"{self.port}-0" / "state.json").read_bytes()
        except FileNotFoundError:
            return []
        return msgspec.json.decode(state, type=State).workers

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of every such event in the log so far, of control and workers."""
        lines = self._output.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [record["data"] for record in records if record["message"] == name]

    async def logged(self, name: str, count: int = 1) -> dict[str, Any]:
        """The data of the event that makes `count` of its kind."""
        await until(lambda: len(self.events(name)) >= count, lambda: self._output.read_text())
        return self.events(name)[count - 1]

    async def get(self, host: str, path: str = "/", *lines: str, port: int = 0) -> tuple[int, bytes, bytes]:
        """One request on a connection of its own."""
        client = await Client.to(port or self.port)
        try:
            return await client.get(host, path, "Connection: close", *lines)
        finally:
            client.close()

    async def health(self) -> tuple[int, str]:
        status, _, body = await self.get("localhost", "/health", port=self.status_port)
        return status, body.decode()

    async def answers(self, host: str, status: int) -> None:
        """Return when requests for this host are answered so."""

        async def asked() -> bool:
            return (await self.get(host))[0] == status

        await until(asked)


async def until(true: Callable[[], bool | Awaitable[bool]], about: Callable[[], str] = str) -> None:
    """Ask until the answer is yes; `about` tells what to show when it never is."""
    try:
        async with asyncio.timeout(TIMEOUT):
            while True:
                answer = true()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"it did not come to pass\n{about()}") from None


class Party:
    """Somebody on the bus who registers backends on the loopback interface."""

    def __init__(self, client: Any) -> None:
        self.client = client

    async def say(self, subject: str, port: int, *uris: str, **keys: Any) -> None:
        await self.client.publish(
            f"router.{subject}", json.dumps({"host": "127.0.0.1", "port": port, "uris": uris, **keys}).encode()
        )
        await self.client.flush()


@asynccontextmanager
async def nats_server(port: int = 0) -> AsyncIterator[EmbeddedNats]:
    server = EmbeddedNats(port)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def party(server: EmbeddedNats) -> AsyncIterator[Party]:
    client = await nats.connect(server.url)
    try:
        yield Party(client)
    finally:
        await client.close()


@asynccontextmanager
async def router(
    directory: Path, nats_port: int, environment: dict[str, str] | None = None, **config: Any
) -> AsyncIterator[RouterProcess]:
    """A router process from its start to the end of the block; nothing is waited for."""
    made = RouterProcess(directory, nats_port, **config)
    made.environment = environment or {}
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def running(directory: Path, **config: Any) -> AsyncIterator[tuple[RouterProcess, Party]]:
    """A healthy router on a bus of its own, and a party there."""
    async with nats_server() as server, router(directory, server.port, **config) as made, party(server) as other:
        await made.logged("router.started")
        await made.logged("Successfully-connected-to-nats")
        yield made, other
