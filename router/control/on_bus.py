"""A control's place on its bus: what it hears there, what it tells, and what it shares with other routers.

All of it comes and goes together: when another bus is configured, another `OnBus` is made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from router.control.bus.client import Bus, BusSettings
from router.control.bus.component import ActiveApps, Component
from router.control.bus.registrations import Registration
from router.control.periodic import Periodic
from router.control.registry import Repeat
from router.control.sharing import Sharing

if TYPE_CHECKING:
    from router.control.app import Control

BUS_SOON = 0.3
"""Seconds in which a bus that is there is found; a table may come from it."""


class OnBus:
    """Made when the rest of control is there; nothing happens before `start`."""

    def __init__(self, control: Control, settings: BusSettings) -> None:
        config = control.config
        self._control = control
        self._up = asyncio.Event()
        self._periodic = Periodic(control.log)
        self.bus = Bus(
            settings,
            control.identity,
            control.log,
            on_register=self._register,
            on_unregister=self._unregister,
            on_repeat=control.registry.refresh,
            on_change=self._changed,
        )
        status = config.status
        self._component: Component | None = None
        if status.enable_nontls_health_checks and status.enable_deprecated_varz_healthz_endpoints:
            self._component = Component(self.bus, control.log, control.status.varz)
        self._active_apps = ActiveApps(self.bus.post) if config.publish_active_apps_interval > 0 else None
        self._sharing = Sharing(
            config,
            control.identity,
            self.bus,
            control.registry,
            control.run_dir.path,
            control.port or control.ssl_port,
            control.log,
            control.health,
        )
        self.fleet = self._sharing.fleet
        """What is known of other routers on the bus."""

    def start(self) -> None:
        """Look for the bus, for as long as it takes."""
        config, every = self._control.config, self._periodic.every
        if self._active_apps is not None:
            every(config.publish_active_apps_interval, self._active_apps.publish)
        if config.warm_start.enabled:
            every(config.warm_start.snapshot_interval, self._sharing.save)
        if self.fleet is not None:
            every(config.fleet.interval, self.fleet.announce)
        self.bus.start()

    async def stop(self) -> None:
        """Leave the bus; a last snapshot is written."""
        await self._periodic.stop()
        await self.bus.stop()
        await self._sharing.stop()

    async def gained(self, seconds: float) -> None:
        """Return when the bus has been found, or has not within so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._up.wait(), seconds)

    async def let_table_fill(self, unhurried: Callable[[], None]) -> bool:
        """Return when there is a table worth serving; True = all of it was there at once.

        `unhurried` is called when it is clear that it won't be: then this process has time for other things.

        A table of our own past or of another router is; else everybody registers over the bus. Without the bus nothing
        is gained by waiting longer.
        """
        if await self._sharing.load():
            return True
        delay = self._control.config.start_response_delay_interval
        bus_later = asyncio.get_running_loop().call_later(BUS_SOON, unhurried)
        try:
            async with asyncio.timeout(delay):
                await self._up.wait()
        except TimeoutError:
            self._control.log.warn(
                "serving-without-nats",
                servers=self.bus.servers,
                error=self.bus.last_error,
                remedy="it is tried for ever; see `nats.hosts` if that is not where it is",
            )
            return False
        finally:
            bus_later.cancel()
        if not await self._sharing.fetched():
            unhurried()
            await asyncio.sleep(delay)
        return False

    def saw_requests(self, apps: Iterable[str]) -> None:
        """Of these apps."""
        if self._active_apps is not None:
            self._active_apps.add(apps)

    def _changed(self, connected: bool) -> None:
        control = self._control
        if not connected:
            control.health.bus_lost()
            return
        self._up.set()
        control.health.bus_connected()
        control.registry.listening_since = time.monotonic()
        if self._component is not None:
            self._component.announce()
        self._sharing.bus_gained()

    def _register(self, told: Registration, heard: float) -> Repeat | None:
        registry = self._control.registry
        before = registry.added
        repeat = registry.register(told.spec, told.uris, heard)
        if told.updated_at:
            self._control.observing.registered(registry.added - before, told.updated_at)
        return repeat

    def _unregister(self, told: Registration, heard: float) -> None:
        self._control.registry.unregister(told.spec.host, told.spec.port, told.uris, told.spec.isolation_segment, heard)
