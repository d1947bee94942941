"""What this router's table has in common with others, and with its own past: warm start, snapshot, fleet.

When the bus is there a new router asks for a table; one that was away compares its table with the others', or asks
again where there is no fleet. Before that, a snapshot that is not too old is as good as a table heard from the bus.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from router.config.model import RouterConfig
from router.control.bulk import whole_table
from router.control.bus.client import Bus
from router.control.bus.fleet import Fleet, FleetOnBus
from router.control.bus.identity import Identity
from router.control.bus.warm_start import WarmStart
from router.control.lifecycle import Health
from router.control.registry import Registry
from router.control.settings import fleet_about
from router.control.snapshot import Snapshot
from router.observe.log import Log


class Sharing:
    """Made before the bus starts. The table of a router that is not healthy is not worth giving away."""

    def __init__(
        self,
        config: RouterConfig,
        identity: Identity,
        bus: Bus,
        registry: Registry,
        run_dir: Path,
        port: int,
        log: Log,
        health: Health,
    ) -> None:
        self._threshold = config.droplet_stale_threshold
        self._filling = asyncio.Lock()
        """Held while a table comes in: one at a time."""
        self._fetching: asyncio.Task[bool] | None = None
        self._saving: asyncio.Task[None] | None = None
        self.fleet: Fleet | None = None
        self._warm: WarmStart | None = None
        self._snapshot: Snapshot | None = None
        if config.warm_start.enabled:
            self._warm = WarmStart(bus, registry, identity.id, log, lambda: health.healthy)
            if config.warm_start.snapshot_interval > 0:
                self._snapshot = Snapshot(run_dir, registry, identity.id, log)
        if config.fleet.enabled:
            about = fleet_about(config, identity.id, f"{identity.ip}:{port}")
            self.fleet = Fleet(registry, about, bus.post, log, config.fleet.interval, lambda: health.phase.value)
            FleetOnBus(bus, self.fleet, identity.id)

    async def load(self) -> bool:
        """Take up the snapshot; False when there is none that is good."""
        if self._snapshot is None:
            return False
        async with self._filling:
            with whole_table():
                return await self._snapshot.load(self._threshold)

    def bus_gained(self) -> None:
        """The bus is there, for the first time or again."""
        if self._warm is not None and (self._fetching is None or (self.fleet is None and self._fetching.done())):
            self._fetching = asyncio.get_running_loop().create_task(self._fetch(self._warm))
        if self.fleet is not None and not self._filling.locked():  # what is half there is worth no comparison
            self.fleet.announce()

    async def _fetch(self, warm: WarmStart) -> bool:
        async with self._filling:
            with whole_table():
                return await warm.fetch()

    async def fetched(self) -> bool:
        """After `bus_gained`: whether another router gave its table."""
        return self._fetching is not None and await asyncio.shield(self._fetching)

    def save(self) -> None:
        """Begin to write a snapshot, unless one is being written."""
        if self._snapshot is not None and (self._saving is None or self._saving.done()):
            self._saving = asyncio.get_running_loop().create_task(self._snapshot.write())

    async def stop(self) -> None:
        """Write the last snapshot."""
        tasks: set[asyncio.Task[bool] | asyncio.Task[None]] = set()
        tasks.update(task for task in (self._fetching, self._saving) if task is not None)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._snapshot is not None:
            await self._snapshot.write_last()
