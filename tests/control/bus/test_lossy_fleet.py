"""Three whole routers on a real NATS server; each misses one message in twenty, whatever it is about."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from router.config.model import RouterConfig
from router.control import on_bus
from router.control.app import Control
from router.control.bus.client import Bus, Listener
from router.control.bus.fleet import ANNOUNCE
from tests.support.bus import event_log, nats_server, party

LOSS = 0.05
ROUTERS = 3
INSTANCES = 600
HOSTS = 200
SETTLED = 10.0
"""Seconds after the last change in which tables must be equal."""
ROUNDS = 5
"""Announcements of every router after which nothing may have come back."""


class LossyBus(Bus):
    """A router's end of the bus that drops what comes, just before it is handled."""

    def __init__(self, *arguments: Any, **handlers: Any) -> None:
        super().__init__(*arguments, **handlers)
        self.chance = random.Random(int(self._identity.id.partition("-")[0]))
        self.heard: set[str] = set()
        """Addresses whose unregistration was not dropped."""
        self.came = 0
        self.lost = 0
        self.announced = 0
        """Announcements of routers, this one's too, that were not dropped."""

    def listen(self, subject: str, listener: Listener, queue: str = "") -> None:
        async def perhaps(message: Msg) -> None:
            if not self._drops():
                self.announced += subject == ANNOUNCE
                await listener(message)

        super().listen(subject, perhaps, queue)

    def _handle(self, read_at: float, sid: int, payload: bytes) -> None:
        self.came += 1
        if self._drops():
            return
        super()._handle(read_at, sid, payload)
        if self._direct[sid][0] == "router.unregister":
            self.heard.add(address(json.loads(payload)["port"]))

    def _drops(self) -> bool:
        dropped = self.chance.random() < LOSS
        self.lost += dropped
        return dropped


def address(port: int) -> str:
    return f"10.0.0.1:{port}"


def message(port: int) -> bytes:
    return json.dumps({"host": "10.0.0.1", "port": port, "uris": [f"app-{port % HOSTS}.test"]}).encode()


def addresses(control: Control) -> set[str]:
    return {spec.address for _, specs in control.registry.routes() for spec in specs}


async def until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.01)


async def test_three_lossy_routers_agree_and_nothing_unregistered_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_bus, "Bus", LossyBus)
    async with nats_server() as server, party(server.port) as speaker, AsyncExitStack() as stack:
        routers = []
        for index in range(ROUTERS):
            config = RouterConfig.model_validate(
                {
                    "port": 0,
                    "inet": "127.0.0.1",
                    "index": index,
                    "workers": 0,
                    "run_dir": str(tmp_path / str(index)),
                    "status": {"port": 0, "routes": {"port": 0}},
                    "nats": {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]},
                    "start_response_delay_interval": 0.0,
                    "fleet": {"interval": 0.2},
                    "warm_start": {"enabled": False},  # a fetch that comes late leaves the fleet nothing to repair
                }
            )
            routers.append(await stack.enter_async_context(Control(config, event_log())))
        buses = [control.bus for control in routers if isinstance(control.bus, LossyBus)]
        for control in routers:
            await asyncio.wait_for(control.healthy(), SETTLED)

        # Instances come and stay; every third of them goes.
        said = 0
        for port in range(1, INSTANCES + 1):
            await speaker.publish("router.register", message(port))
            said += 1
        async with asyncio.timeout(SETTLED):
            await until(lambda: all(bus.came == said for bus in buses))
        for port in range(1, INSTANCES + 1):
            await speaker.publish("router.register" if port % 3 else "router.unregister", message(port))
            said += 1
        async with asyncio.timeout(SETTLED):
            await until(lambda: all(bus.came == said for bus in buses))

        # What not one of them has heard of nobody can know.
        gone = set.union(*(bus.heard for bus in buses))
        expected = {address(port) for port in range(1, INSTANCES + 1)} - gone
        async with asyncio.timeout(SETTLED):
            await until(lambda: all(addresses(control) == expected for control in routers))
            await until(lambda: len({control.registry.digest.pack() for control in routers}) == 1)

        enough = {bus: bus.announced + ROUNDS * ROUTERS for bus in buses}
        async with asyncio.timeout(SETTLED):
            await until(lambda: all(bus.announced >= number for bus, number in enough.items()))
        assert [addresses(control) for control in routers] == [expected] * ROUTERS
        assert len(gone) > INSTANCES / 3 * 0.99
        assert all(bus.lost > said * LOSS / 2 for bus in buses)
        assert all(control.fleet is not None and control.fleet.repaired for control in routers)
