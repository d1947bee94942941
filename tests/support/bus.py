"""A router's end of the bus in this process, over a registry, and parties that speak to it over a real nats-server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import trustme
from nats.aio.client import Client

from router.control.bus.client import Bus, BusSettings
from router.control.bus.embedded import EmbeddedNats
from router.control.bus.identity import Identity
from router.control.registry import Registry
from router.control.table import RegistrySettings
from tests.support import certs
from tests.support.workers import EventLog

PATIENCE = 20.0


def event_log() -> Any:
    log: Any = EventLog()
    log.component = lambda name: log
    return log


def heartbeat(number: int, **keys: Any) -> bytes:
    return json.dumps({"host": "10.0.0.1", "port": number, "uris": [f"app-{number}.test"], **keys}).encode()


class Hearing:
    """A bus with a registry behind it."""

    def __init__(self, *ports: int, threshold: float = 120.0, **settings: Any) -> None:
        self.log = event_log()
        self.registry = Registry(RegistrySettings(stale_threshold=threshold), lambda ops: None, self.log)
        servers = tuple(("127.0.0.1", port) for port in ports)
        self.changed = asyncio.Event()
        self.bus = Bus(
            BusSettings(**{"servers": servers, **settings}),
            Identity(0, "127.0.0.1", 20, threshold),
            self.log,
            on_register=lambda told, heard: self._then(self.registry.register, told.spec, told.uris, heard),
            on_unregister=lambda told, heard: self._then(
                self.registry.unregister, told.spec.host, told.spec.port, told.uris, "", heard
            ),
            on_change=lambda connected: self.changed.set(),
        )

    def _then(self, act: Callable[..., None], *arguments: Any) -> None:
        act(*arguments)
        self.changed.set()

    async def until(self, true: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait until this is true, looking whenever something was heard."""
        async with asyncio.timeout(patience):
            while not true():
                self.changed.clear()
                # Not all of what is waited for makes itself heard.
                try:
                    await asyncio.wait_for(self.changed.wait(), 0.05)
                except TimeoutError:
                    pass

    async def connected(self) -> None:
        await self.until(lambda: self.bus.connected)

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.registry.routes()]


@asynccontextmanager
async def hearing(*ports: int, **settings: Any) -> AsyncIterator[Hearing]:
    """A `Hearing` that is connected."""
    each = Hearing(*ports, **settings)
    each.bus.start()
    try:
        await each.connected()
        yield each
    finally:
        await each.bus.stop()


async def refusal(*ports: int, **settings: Any) -> str:
    """Why a router with these settings is not let in."""
    each = Hearing(*ports, **settings)
    untried = each.bus.last_error
    each.bus.start()
    try:
        await each.until(lambda: each.bus.last_error != untried)
        assert not each.bus.connected
        return each.bus.last_error
    finally:
        await each.bus.stop()


def tls_options(folder: Path, leaf: trustme.LeafCert, *, mutual: bool) -> list[str]:
    """Options of a server with this certificate; `mutual`: it wants one of the client too, of our authority."""
    (folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    (folder / "cert.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (folder / "ca.pem").write_bytes(certs.authority().cert_pem.bytes())
    options = ["--tls", f"--tlscert={folder}/cert.pem", f"--tlskey={folder}/key.pem"]
    return [*options, "--tlsverify", f"--tlscacert={folder}/ca.pem"] if mutual else options


@asynccontextmanager
async def nats_server(*options: str, port: int = 0) -> AsyncIterator[EmbeddedNats]:
    server = EmbeddedNats(port, "127.0.0.1", *options)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@asynccontextmanager
async def party(port: int, **options: Any) -> AsyncIterator[Client]:
    """Somebody else on the bus."""
    client = await nats.connect(f"nats://127.0.0.1:{port}", **options)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def beating(client: Client, *numbers: int) -> AsyncIterator[None]:
    """This party registers these again and again."""

    async def beat() -> None:
        while True:
            for number in numbers:
                await client.publish("router.register", heartbeat(number))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def registers_on_demand(client: Client, *numbers: int) -> None:
    """This party registers whenever a router says that it is there, as all do."""

    async def started(message: Any) -> None:
        for number in numbers:
            await client.publish("router.register", heartbeat(number))

    await client.subscribe("router.start", cb=started)
    await client.flush()
