"""Control, put together: the order in which it starts and stops (contract §2.9).

    run_dir locked → workers of an earlier control gathered → ports bound → workers → bus → table fills
    → workers listen → status server → healthy

Ports are bound first, so that a mistake there is told at once; nobody listens on them before a worker has a table. A
table taken over from living workers is in force already, so nothing is waited for. Stopping is the same backwards.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from router import in_flight
from router.admin.ports import StatusError, port_of
from router.config.model import RouterConfig
from router.control.adoption import Adoption
from router.control.bus.client import Bus
from router.control.bus.fleet import Fleet
from router.control.bus.identity import Identity, local_ip
from router.control.certificates import LOOK_INTERVAL, Certificates, Tls
from router.control.errors import StartError
from router.control.feed import Feed
from router.control.health_checks import HealthChecks
from router.control.history_file import HistoryFile
from router.control.keeper import Keeper
from router.control.lifecycle import Health, Phase
from router.control.observing import Observing
from router.control.office import ControlOffice
from router.control.on_bus import BUS_SOON, OnBus
from router.control.periodic import Periodic
from router.control.registry import Registry
from router.control.settings import (
    bus_settings,
    check_strategy,
    export,
    fixed_differences,
    number_of_workers,
    registry_settings,
    worker_settings,
)
from router.control.sockets import Listeners, resolve
from router.control.state import PidFile, RunDir
from router.control.static_routes import StaticRoutes
from router.control.status import Status
from router.control.systemd import Notifier, activated_sockets
from router.in_flight import InFlight
from router.messages import HealthState, ReopenLog, SetHealth, TableOp, WorkerSettings
from router.observe.log import Log
from router.observe.varz import TICK

if TYPE_CHECKING:
    from router.control.local import LocalKeeper

STOP_GRACE = 1.0
"""Seconds that requests in flight have when the router stops."""
STATUS_INTERVAL = 10.0
"""Seconds between two status lines for systemd."""
TICKET_SECRET_LIFE = 43200.0
"""Seconds after which workers seal session tickets anew."""
LOADING = 5.0
"""Seconds for which the status server makes way for a table that is coming in."""
MOST_UNDIRECTED = 150
"""Changes, or pieces of a table, that the directory of apps may be behind: what waits takes memory."""
BEGIN_TIMEOUT = 10.0
"""Seconds after which it is reported that no worker accepts connections, again and again."""


class Control:
    """A router. `async with Control(config) as control:` has it serve from there to the end of the block.

    Raises StartError when it can't start. Port 0 in the configuration means any free one: `port`, `ssl_port`,
    `status_port`, `status_tls_port` and `routes_port` tell which.
    """

    def __init__(self, config: RouterConfig, log: Log | None = None) -> None:
        self.config = config
        self.log = log or Log(level=config.logging.level, timestamp=config.logging.format.timestamp)
        self.workers = number_of_workers(config)
        """Worker processes; 0 = the one worker is in this process."""
        self.port = self.ssl_port = 0
        self.health = Health(self._health_changed, bus=config.nats is not None)
        self.observing = Observing(self)
        self.figures = self.observing.figures
        self.on_bus: OnBus | None = None
        self.run_dir: RunDir
        self.in_flight: InFlight
        self.feed: Feed
        self.registry: Registry
        self.static_routes: StaticRoutes
        self.status: Status
        self.keeper: Keeper | LocalKeeper
        ip = local_ip(config.local_route)
        self.identity = Identity(config.index, ip, config.start_response_delay_interval, config.droplet_stale_threshold)
        check_strategy(config)
        self._ticket_secret = secrets.token_bytes(32)
        self.worker_settings = self._sealed(worker_settings(config, ip))
        self._spans_to = export(config, self.identity.id, ip)
        self.notifier = Notifier()
        self._healthy = asyncio.Event()
        self._unhurried = asyncio.Event()
        """Workers listen, or will have to wait for their table."""
        self._undirected: deque[list[TableOp]] = deque()
        """Changes of the table that the directory of apps has not heard of (`_settle`)."""
        self._opening: asyncio.Task[None]
        self._settling: asyncio.Task[None]
        self._periodic = Periodic(self.log)
        self._to_stop = AsyncExitStack()

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Control:
        await self.start()
        try:
            await self.serving()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Come up: when this returns the status server answers; the rest follows in its time (`serving`)."""
        try:
            await self._start()
        except BaseException as error:
            await self._to_stop.aclose()
            if isinstance(error, StatusError):
                raise StartError(str(error)) from error
            raise

    async def serving(self) -> None:
        """Return when workers accept connections; the router may still lack the bus."""
        await asyncio.shield(self._opening)

    async def healthy(self) -> None:
        """Return when workers accept connections and the table has been heard from the bus or taken over."""
        await self._healthy.wait()

    async def drain(self) -> bool:
        """End without a lost request: fail health checks, serve on for `drain_wait`, then finish what goes on.

        False: some of it had to be cut after `drain_timeout`. To be followed by `stop`.
        """
        wait, limit = self.config.drain_wait, self.config.effective_drain_timeout
        self.log.info("gorouter-draining", wait_seconds=wait, timeout_seconds=limit)
        self.notifier.stopping("draining", wait + limit)
        self.health.stopping("it drains")
        await asyncio.sleep(wait)
        began = time.monotonic()
        by_itself = await self.keeper.stop(limit)
        if not by_itself:
            self.log.error("router.drain.timed-out", timeout_seconds=limit)
        self.log.info("router.drained", took=round(time.monotonic() - began, 3))
        return by_itself

    async def reload(self, config: RouterConfig) -> None:
        """Put another configuration in force. Raises StartError, and then nothing has changed.

        Workers are replaced one by one, on their sockets; what the old ones have begun they finish.
        """
        fixed = fixed_differences(self.config, config)
        if fixed:
            keys = ", ".join(fixed)
            raise StartError(f"{keys}: can't change by a reload; `router upgrade` puts it in force without a loss")
        self.notifier.reloading()
        certificates = Certificates(config, self.log, self._certificates_renewed)
        settings = self._sealed(worker_settings(config, self.identity.ip))
        check_strategy(config)
        spans = export(config, self.identity.id, self.identity.ip)
        same_bus = (self.config.nats, self.config.nats_client_ping_interval) == (
            config.nats,
            config.nats_client_ping_interval,
        )
        self.config, self.certificates = config, certificates
        self.registry.reconfigure(registry_settings(config))
        self.static_routes.reconfigure(config.routes)
        self.health_checks.reconfigure(config.backends.health_checks, self.registry.snapshot())
        if not same_bus and self.on_bus is not None:
            await self.on_bus.stop()
            self._start_bus()
        if settings != self.worker_settings:
            self.worker_settings = settings
            if not await self.keeper.replace_all(config.effective_drain_timeout):
                self.log.error("workers-not-replaced", remedy="see what the workers wrote; the others serve as before")
        await self.observing.export_to(spans)
        self.reopen_logs()
        self.certificates.warn_of_expiry()
        self.log.info("configuration-reloaded")
        self.notifier.ready(self.status.line())

    async def leave(self) -> None:
        """Make way for another control in this process: workers serve on and offer themselves to it."""
        self.log.info("control-leaves", workers=self.keeper.listening)
        if self.bus is not None:
            await self.bus.stop()
        await self.history_file.save_last()

    async def stop(self) -> None:
        """Stop: fast, in order, with `STOP_GRACE` seconds for requests in flight."""
        began = time.monotonic()
        self.log.info("router.stopping")
        self.notifier.stopping("stopping", STOP_GRACE)
        if self.health.phase is not Phase.DEGRADED:
            self.health.stopping()
        await self._to_stop.aclose()
        self.log.info("router.stopped", took=round(time.monotonic() - began, 3))

    # ------------------------------------------------------------ coming up

    async def _start(self) -> None:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        config, later = self.config, self._to_stop.callback

        self.run_dir = RunDir(config.effective_run_dir)
        later(self.run_dir.release)
        if config.pid_file:
            later(PidFile(config.pid_file).remove)

        self.certificates = Certificates(config, self.log, self._certificates_renewed)
        self.certificates.warn_of_expiry()
        await self.observing.export_to(self._spans_to)
        self._to_stop.push_async_callback(self.observing.export_to, None)
        adoption = Adoption(loop, self.log, self.run_dir)
        later(adoption.close)
        ports = {"http": (config.port, "port"), "https": (config.ssl_port, "ssl_port")}
        kinds = self.worker_settings.listeners
        given = activated_sockets()
        addresses = [resolve(config.inet, ports[kind][0]) for kind in kinds]
        await adoption.gather(self.workers, addresses)
        listeners = [
            Listeners(address, ports[kind][1]) for kind, address in zip(kinds, adoption.addresses, strict=True)
        ]
        for number, each in enumerate(listeners):
            later(each.close)
            for offer in adoption.offers:
                each.adopt(offer.attach.slot, offer.listeners[number])
            if kinds[number] in given:
                each.share(max(self.workers, 1), given[kinds[number]])
            else:
                each.bind(max(self.workers, 1), shared=adoption.found)
        bound = dict(zip(kinds, (each.address.port for each in listeners), strict=True))
        self.port, self.ssl_port = bound.get("http", 0), bound.get("https", 0)

        block = in_flight.create() if adoption.block is None else adoption.block
        later(os.close, block)
        self.in_flight = InFlight(block, workers=max(self.workers, 1))
        self.feed = Feed(loop, lambda: self.registry.snapshot(), lambda: self.health_checks.standing())
        self.health_checks = HealthChecks(config.backends.health_checks, self._health_checked, self.log)
        self._to_stop.push_async_callback(self.health_checks.stop)
        self.registry = Registry(
            registry_settings(config),
            self._table_changed,
            self.log.component("registry"),
            capacity=self.in_flight.capacity,
            slot_idle=self.in_flight.slot_idle,
        )
        self.history_file = HistoryFile(self.run_dir.path, self.registry.history, self.log)
        self.history_file.load()
        self._to_stop.push_async_callback(self.history_file.save_last)
        self.static_routes = StaticRoutes(
            config.routes, self.run_dir.path, self.registry.set_static, self.log.component("registry")
        )
        self.status = Status(self)
        self._to_stop.push_async_callback(self.status.stop)
        self.status.bind()
        self._to_stop.push_async_callback(self.observing.stop)
        self.observing.bind()
        taken_over = await self._start_workers(loop, listeners, adoption)
        self._to_stop.push_async_callback(self._leave_bus)
        self._start_bus()
        self._to_stop.push_async_callback(self._periodic.stop)
        every = self._periodic.every
        every(TICK, self.figures.tick)
        every(config.publish_load_interval, self.observing.publish_load)
        every(LOOK_INTERVAL, lambda: self.certificates.check())
        if self.worker_settings.front_tls is not None:
            every(TICKET_SECRET_LIFE, self._change_ticket_secret)
        every(self.notifier.watchdog_interval, self.notifier.alive)
        every(STATUS_INTERVAL, lambda: self.notifier.status(self.status.line()))
        every(config.prune_stale_droplets_interval, self._prune)
        every(config.warm_start.snapshot_interval, self.history_file.save)
        self._opening = loop.create_task(self._open(taken_over, began))
        self._settling = loop.create_task(self._settle())
        self._to_stop.push_async_callback(self._stop_opening)
        await self._while_loading()
        self.run_dir.save_status(await self.status.start())
        await self.observing.serve()

    async def _while_loading(self) -> None:
        """Return when neither the table nor the bus needs all of this process any more."""
        unhurried = asyncio.ensure_future(self._unhurried.wait())
        await asyncio.wait({self._opening, unhurried}, timeout=LOADING, return_when=asyncio.FIRST_COMPLETED)
        unhurried.cancel()
        if self.on_bus is not None:
            await self.on_bus.gained(BUS_SOON)

    async def _start_workers(
        self, loop: asyncio.AbstractEventLoop, listeners: list[Listeners], adoption: Adoption
    ) -> bool:
        """Have workers, made or taken over; True when a table came with them."""
        office = ControlOffice(self)
        taken_over = False
        self._to_stop.callback(self.run_dir.forget)
        if self.workers:
            keeper = Keeper(
                loop, self.log, office, self.feed, self.in_flight, listeners, self.workers, adoption.leaving
            )
            self.keeper = keeper
            for offer in adoption.take():
                await keeper.adopt(offer.attach.slot, offer.attach.lane, offer.pid, offer.connection, offer.received)
            parts = await keeper.table_of_adopted()
            if parts is not None:
                taken_over = True
                with self.registry.history.resumed():
                    for part in parts:
                        self.registry.load(part.pools)
                self.log.info("table-taken-over", routes=len(self.registry))
                self.health.table_taken_over()
            self.static_routes.start()
            keeper.introduce_adopted()
        else:
            from router.control.local import LocalKeeper  # with all of a worker

            self.static_routes.start()
            self.keeper = LocalKeeper(loop, self.log, office, self.feed, self.in_flight, listeners)
        self._to_stop.push_async_callback(self.keeper.stop, STOP_GRACE)
        self.keeper.start()
        return taken_over

    def _start_bus(self) -> None:
        settings = bus_settings(self.config)
        if settings is not None:
            self.on_bus = OnBus(self, settings)
            self.on_bus.start()

    async def _leave_bus(self) -> None:
        if self.on_bus is not None:
            await self.on_bus.stop()

    async def _open(self, taken_over: bool, began: float) -> None:
        """Let the table fill, then have workers accept connections."""
        if not taken_over and self.on_bus is not None and await self.on_bus.let_table_fill(self._unhurried.set):
            self.health.table_taken_over()
        while not (listening := await self.keeper.begin(BEGIN_TIMEOUT)):
            self.log.error("no-worker-listens", port=self.port, remedy="see what the workers wrote")
        self._unhurried.set()
        self.health.serving()
        self.notifier.ready(self.status.line())
        self.log.info(
            "router.started",
            port=self.port,
            ssl_port=self.ssl_port,
            status_port=self.status_port,
            status_tls_port=self.status_tls_port,
            routes_port=self.routes_port,
            workers=listening,
            took=round(time.monotonic() - began, 3),
        )

    async def _stop_opening(self) -> None:
        self._opening.cancel()
        self._settling.cancel()
        await asyncio.wait([self._opening, self._settling])

    # ------------------------------------------------------------ what parts tell one another

    @property
    def status_port(self) -> int:
        return port_of(self.status.ports.status)

    @property
    def status_tls_port(self) -> int:
        return port_of(self.status.ports.tls)

    @property
    def routes_port(self) -> int:
        return port_of(self.status.ports.routes)

    @property
    def bus(self) -> Bus | None:
        return self.on_bus.bus if self.on_bus is not None else None

    @property
    def fleet(self) -> Fleet | None:
        """What is known of other routers on the bus."""
        return self.on_bus.fleet if self.on_bus is not None else None

    def _table_changed(self, ops: list[TableOp]) -> None:
        self.feed.publish(ops)
        self.health_checks.apply(ops)
        if self._unhurried.is_set() and not self._undirected:
            self.figures.directory.apply(ops)
            return
        self._undirected.append(ops)
        if len(self._undirected) > MOST_UNDIRECTED:
            self._direct_next()

    def _direct_next(self) -> None:
        """Tell the directory of apps of the oldest change that it has not heard of."""
        self.figures.directory.apply(self._undirected.popleft())

    async def _settle(self) -> None:
        """When workers don't wait for it any more, do bit by bit what a table that came in has left over."""
        await self._unhurried.wait()
        while self._undirected:
            self._direct_next()
            await asyncio.sleep(0)
        for _ in self.registry.settling():
            await asyncio.sleep(0)

    def _health_checked(self, ops: Sequence[SetHealth]) -> None:
        while self._undirected:
            self._direct_next()
        self.observing.health_changed(ops)
        self.feed.publish(list(ops))

    def reopen_logs(self) -> None:
        """The access log's file was moved away: workers go on with a new one."""
        self.feed.broadcast(ReopenLog())

    def _health_changed(self, state: HealthState) -> None:
        changed = state.healthy != self._healthy.is_set()
        if state.healthy:
            self._healthy.set()
        else:
            self._healthy.clear()
        if changed and self.fleet is not None:
            self.fleet.announce()  # fronts go by it
        if hasattr(self, "feed"):
            self.feed.broadcast(state)

    def _certificates_renewed(self, tls: Tls) -> None:
        self.worker_settings = self._sealed(
            msgspec.structs.replace(
                self.worker_settings, front_tls=tls.front, backend_tls=tls.back, route_services=tls.services
            )
        )
        if tls.status is not None:
            self.status.renew(tls.status)
        self.keeper.renew_settings()

    def _sealed(self, settings: WorkerSettings) -> WorkerSettings:
        """With the secret that all workers seal session tickets with."""
        if settings.front_tls is None:
            return settings
        front = msgspec.structs.replace(settings.front_tls, ticket_secret=self._ticket_secret)
        return msgspec.structs.replace(settings, front_tls=front)

    def _change_ticket_secret(self) -> None:
        """Who finds it out can open no older tickets, nor what was said in the sessions of TLS 1.2 that they resume."""
        self._ticket_secret = secrets.token_bytes(32)
        self.worker_settings = self._sealed(self.worker_settings)
        self.keeper.renew_settings()

    def _prune(self) -> None:
        self.registry.prune(self.bus is None or self.bus.connected)
