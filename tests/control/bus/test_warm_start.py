"""Whole routers on one bus: the second knows what the first knows, a restarted one what it knew, with true ages."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.cli.ask import Target, ask
from router.config.model import RouterConfig
from router.control import snapshot
from router.control.app import Control
from router.control.bus.embedded import EmbeddedNats
from router.control.registry import Registry
from router.control.snapshot import Snapshot
from router.control.table import RegistrySettings
from router.messages import EndpointSpec
from tests.support.bus import event_log, heartbeat, nats_server, party

PATIENCE = 10.0


@pytest.fixture
async def bus() -> AsyncIterator[EmbeddedNats]:
    async with nats_server() as server:
        yield server


def control(bus: EmbeddedNats, folder: Path, index: int = 0, **settings: Any) -> Control:
    """A router that would wait long for its table to fill."""
    config = RouterConfig.model_validate(
        {
            "port": 0,
            "inet": "127.0.0.1",
            "index": index,
            "workers": 0,
            "run_dir": str(folder),
            "status": {"port": 0, "routes": {"port": 0}},
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": bus.port}]},
            "start_response_delay_interval": 30.0,
            "fleet": {"enabled": False},
            **settings,
        }
    )
    return Control(config, event_log())


async def on_the_bus(router: Control) -> None:
    """Return when it hears what is said there: without a delay at its start it serves before."""
    assert router.on_bus is not None
    await router.healthy()
    await router.on_bus.gained(PATIENCE)


async def until(true: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_second_router_serves_what_the_first_one_knows(bus: EmbeddedNats, tmp_path: Path) -> None:
    first = control(bus, tmp_path, start_response_delay_interval=0.0)
    async with first, party(bus.port) as app, asyncio.timeout(PATIENCE):
        await on_the_bus(first)
        for number in range(1, 4):
            await app.publish("router.register", heartbeat(number))
        await app.publish("router.register", heartbeat(4))
        await until(lambda: len(first.registry) == 4)
        await app.publish("router.unregister", heartbeat(4))
        await until(lambda: len(first.registry) == 3)
        async with control(bus, tmp_path, 1) as second:
            assert list(second.registry.routes()) == list(first.registry.routes())
            await second.healthy()


async def test_nobody_has_a_table_to_give_and_it_fills_by_itself(bus: EmbeddedNats, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        control(bus, tmp_path, start_response_delay_interval=0.05) as first,
        control(bus, tmp_path, 1, warm_start={"enabled": False}, start_response_delay_interval=0.05) as off,
    ):
        await first.healthy()
        await off.healthy()
        assert len(first.registry) == len(off.registry) == 0


async def test_a_router_that_comes_back_knows_what_it_knew(bus: EmbeddedNats, tmp_path: Path) -> None:
    async with party(bus.port) as app, asyncio.timeout(PATIENCE):
        async with control(bus, tmp_path, start_response_delay_interval=0.0) as router:
            await on_the_bus(router)
            await app.publish("router.register", heartbeat(1))
            await until(lambda: len(router.registry) == 1)
            was = list(router.registry.routes())
        async with control(bus, tmp_path) as router:
            assert list(router.registry.routes()) == was
            await router.healthy()


@asynccontextmanager
async def two_routers(bus: EmbeddedNats, folder: Path) -> AsyncIterator[tuple[Control, Control]]:
    """Two that compare their tables ten times a second."""
    fleet = {"fleet": {"enabled": True, "interval": 0.1}, "start_response_delay_interval": 0.0}
    async with control(bus, folder, **fleet) as one, control(bus, folder, 1, **fleet) as other:
        yield one, other


async def test_a_fleet_repairs_what_one_router_missed(bus: EmbeddedNats, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), two_routers(bus, tmp_path) as (one, other):
        one.registry.register(EndpointSpec("10.0.0.1", 1), ["missed.test"])
        await until(lambda: "missed.test" in other.registry.hosts)
        other.registry.unregister("10.0.0.1", 1, ["missed.test"])
        await until(lambda: "missed.test" not in one.registry.hosts)


async def test_a_clock_that_is_wrong_is_seen_by_the_others(bus: EmbeddedNats, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), two_routers(bus, tmp_path) as (one, other):
        assert other.fleet is not None
        other.fleet._time = lambda: time.time() + 100
        user, password = one.status.credentials
        target = Target(None, f"http://{user}:{password}@127.0.0.1:{one.routes_port}")
        await until(lambda: one.fleet is not None and one.fleet.clocks())
        found = (await asyncio.to_thread(ask, target, "/api/doctor"))["findings"]
        (clock,) = [finding["what"] for finding in found if finding["check"] == "clock"]
        assert clock.startswith(f"the clock of router {other.identity.id} (")
        assert clock.endswith(" s ahead of this one's")


async def test_after_a_reload_to_another_bus_nothing_of_the_old_goes_on(bus: EmbeddedNats, tmp_path: Path) -> None:
    fleet = {"fleet": {"enabled": True, "interval": 0.1}, "start_response_delay_interval": 0.0}
    async with (
        asyncio.timeout(PATIENCE),
        nats_server() as new_bus,
        party(new_bus.port) as app,
        control(bus, tmp_path, **fleet) as router,
    ):
        await on_the_bus(router)
        tasks = len(asyncio.all_tasks())
        nats = control(new_bus, tmp_path).config.nats
        await router.reload(router.config.model_copy(update={"nats": nats}))
        await until(lambda: router.bus is not None and router.bus.connected)
        await app.publish("router.register", heartbeat(1))
        await until(lambda: len(router.registry) == 1)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)


# ---------------------------------------------------------------- the file


def registry(now: list[float]) -> Registry:
    return Registry(RegistrySettings(stale_threshold=120.0), lambda ops: None, event_log(), clock=lambda: now[0])


async def test_ages_are_true_over_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unix = [1_000_000.0]
    monkeypatch.setattr(snapshot.time, "time", lambda: unix[0])
    before, after = [500.0], [3.0]
    source = registry(before)
    source.register(EndpointSpec("10.0.0.1", 1, stale_after=0), ["old.test"])
    before[0] += 50
    source.register(EndpointSpec("10.0.0.1", 2, stale_after=0), ["new.test"])
    await Snapshot(tmp_path, source, "id", event_log()).write()
    unix[0] += 60  # the old one is 110 s old when the next router reads of it
    copy = registry(after)
    assert await Snapshot(tmp_path, copy, "id", event_log()).load(120.0)
    assert sorted(copy.hosts) == ["new.test", "old.test"]
    after[0] += 12
    copy.prune()
    assert sorted(copy.hosts) == ["new.test"]
    unix[0] += 61
    assert not await Snapshot(tmp_path, registry(after), "id", event_log()).load(120.0)


@pytest.mark.parametrize("damage", [b"", b"{", b"{}\n", b'{"layout":"x","unix":1,"clock":1}\n'])
async def test_a_file_that_is_no_snapshot_is_none(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / snapshot.NAME).write_bytes(damage)
    assert not await Snapshot(tmp_path, registry([0.0]), "id", event_log()).load(120.0)


async def test_a_snapshot_that_is_cut_off_gives_what_is_whole(tmp_path: Path) -> None:
    source = registry([0.0])
    source.register(EndpointSpec("10.0.0.1", 1, stale_after=0), ["a.test"])
    await Snapshot(tmp_path, source, "id", event_log()).write()
    file = tmp_path / snapshot.NAME
    file.write_bytes(file.read_bytes()[:-3])
    log = event_log()
    assert not await Snapshot(tmp_path, registry([0.0]), "id", log).load(120.0)
    assert log.of("snapshot-not-readable")


async def test_a_disk_that_takes_its_time_holds_up_nothing_else(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "table.new")  # opening it waits for a reader, as on a disk that is busy
    writing = asyncio.create_task(Snapshot(tmp_path, registry([0.0]), "me", event_log()).write())
    await asyncio.sleep(0)
    assert not writing.done()
    reader = os.open(tmp_path / "table.new", os.O_RDONLY | os.O_NONBLOCK)
    try:
        await asyncio.wait_for(writing, PATIENCE)
    finally:
        os.close(reader)
