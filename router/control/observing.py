"""Control's eyes: what workers report and control knows, and who may look at it.

Here figures, dashboard, `/metrics` and the load feed are put together; each of them knows nothing of the others.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

from router.admin.ports import StatusError, listen, port_of
from router.admin.views import Views
from router.control.errors import StartError
from router.control.settings import histogram_bounds
from router.messages import SetHealth, SpanRecord
from router.observe import load_feed
from router.observe.otlp import Export, Exporter
from router.observe.varz import Figures

if TYPE_CHECKING:
    from aiohttp import web

    from router.admin.pages import Pages
    from router.control.app import Control
    from router.observe.metrics import Gauges, Renderer

SWITCH_INTERVAL = 0.001
"""Seconds after which a thread hands over the interpreter if another one waits."""
RENDERING_NICENESS = 10
"""Of the thread that makes the text of scrapes."""
LAST_SPANS = 2.0
"""Seconds in which an exporter that ends may send what waits."""


class Observing:
    """Made before control starts, so that nothing that happens is missed."""

    def __init__(self, control: Control) -> None:
        self._control = control
        config = control.config
        self.figures = Figures()
        self.figures.apps.max_named = config.prometheus.max_apps
        self.figures.histograms.configure(
            histogram_bounds(config), per_app=config.per_app_prometheus_http_metrics_reporting
        )
        control.log.ring = self.figures.events
        self.figures.directory.in_flight = lambda slot: control.in_flight.total(slot)
        self.views = Views(
            self.figures,
            _About(control),
            self.figures.directory.in_flight,
            lambda: control.config.backends.max_conns,
        )
        self._metrics_at: list[socket.socket] = []
        self._metrics_tls: ssl.SSLContext | None = None
        self._metrics_server: web.AppRunner | None = None
        self.metrics_port = 0
        """The port of `/metrics` on 127.0.0.1, 0 without one."""
        self._rendering = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "metrics", _give_way)
        self._exporter: Exporter | None = None
        self._exported = (0, 0)
        """By exporters of earlier settings: requests exported and lost."""

    @cached_property
    def pages(self) -> Pages:
        """What of it is served over HTTP."""
        from router.admin.pages import Pages  # with aiohttp, so not before the table is there

        return Pages(self.views, self.metrics)

    @cached_property
    def _renderer(self) -> Renderer:
        from router.observe.metrics import Renderer

        return Renderer()

    async def metrics(self) -> bytes:
        """The text of a scrape; made in another thread of low priority, one scrape at a time."""
        from router.observe.metrics import snapshot  # with prometheus-client, so not before it is asked for

        async with self._rendering:
            config = self._control.config
            taken = snapshot(
                self.figures,
                self._gauges(),
                max_endpoints=config.prometheus.max_endpoints,
                per_request=config.per_request_metrics_reporting,
            )
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._renderer.render, taken)

    def health_changed(self, ops: Iterable[SetHealth]) -> None:
        """Active checks find endpoints unfit, or well again."""
        directory = self.figures.directory
        for op in ops:
            spec = directory.spec(op.id)
            was = directory.unhealthy(spec) if spec is not None else ""
            directory.apply([op])
            if spec is not None and bool(was) != bool(is_now := directory.unhealthy(spec)):
                data = {"app": directory.app_of(spec), "backend": spec.address, "instance": spec.instance_index}
                if is_now:
                    self.figures.events.add(2, "router", "endpoint-unhealthy", {**data, "reason": is_now})
                else:
                    self.figures.events.add(1, "router", "endpoint-healthy", data)

    async def export_to(self, where: Export | None) -> None:
        """Export spans there from now on; what waits for another collector is sent there first, or lost."""
        before = self._exporter
        if before is not None and before.settings == where:
            return
        self._exporter = Exporter(where, self._control.log.component("otlp")) if where is not None else None
        if before is not None:
            await before.stop(LAST_SPANS)
            self._exported = (self._exported[0] + before.sent, self._exported[1] + before.lost)

    def export_spans(self, records: list[SpanRecord]) -> None:
        """Sampled requests of a worker's."""
        if self._exporter is not None:
            self._exporter.add(records)
        else:
            self._exported = (self._exported[0], self._exported[1] + len(records))

    def bind(self) -> None:
        """Listen for those who want `/metrics`, if the configuration wants it. Raises StartError."""
        config = self._control.config.prometheus
        if not config.enabled:
            return
        try:
            self._metrics_at = listen("127.0.0.1", config.port, "prometheus.port")
        except StatusError as error:
            raise StartError(str(error)) from error
        self.metrics_port = port_of(self._metrics_at)
        self._metrics_tls = self._tls()

    async def serve(self) -> None:
        """Answer those who want `/metrics`."""
        if not self._metrics_at:
            return
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/metrics", self.pages.serve_metrics)
        self._metrics_server = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._metrics_server.setup()
        for sock in self._metrics_at:
            await web.SockSite(self._metrics_server, sock, ssl_context=self._metrics_tls).start()

    async def stop(self) -> None:
        """Answer no more."""
        if self._metrics_server is not None:
            await self._metrics_server.cleanup()
        for sock in self._metrics_at:
            sock.close()

    def _tls(self) -> ssl.SSLContext | None:
        """Mutual TLS where a port and a certificate are given (contract §11.1)."""
        config = self._control.config.prometheus
        if not config.port or not config.cert_path:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(config.cert_path, config.key_path)
            if config.ca_path:
                context.load_verify_locations(config.ca_path)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"prometheus.cert_path, key_path, ca_path: {error.strerror or error}; name readable PEM files"
            ) from error
        return context

    def _gauges(self) -> Gauges:
        from router.observe.metrics import Gauges

        control, exporter = self._control, self._exporter
        sent, lost = self._exported
        registry, bus = control.registry, control.bus
        return Gauges(
            routes=len(registry),
            endpoints=registry.addresses,
            ms_since_update=registry.ms_since_update,
            workers=control.keeper.listening,
            bus_connected=bus is not None and bus.connected,
            healthy=control.health.healthy,
            buffered_messages=bus.pending if bus is not None else 0,
            dropped_messages=bus.dropped if bus is not None else 0,
            registrations=dict(registry.messages),
            unregistrations=dict(registry.unregistrations),
            pruned=registry.pruned,
            spans_exported=sent + (exporter.sent if exporter is not None else 0),
            spans_lost=lost + (exporter.lost if exporter is not None else 0),
        )

    def registered(self, count: int, updated_at: int) -> None:
        """So many routes have got an endpoint that was changed at this unix nanosecond (contract §11.5)."""
        age = max(0.0, (time.time_ns() - updated_at) / 1e6)  # clocks may differ
        for _ in range(count):
            self.figures.histograms.registration.observe(age)

    def publish_load(self) -> None:
        """Tell the bus what apps have to bear."""
        control = self._control
        if control.bus is None or not control.bus.connected:
            return
        about = {
            "id": control.identity.id,
            "index": control.config.index,
            "interval": control.config.publish_load_interval,
        }
        for message in load_feed.messages(self.figures.apps, control.in_flight.total, about):
            control.bus.post(load_feed.SUBJECT, message)


def _give_way() -> None:
    """Nobody waits for this thread as clients wait for workers, with which it may share a core.

    So it may be kept from running while it holds the interpreter: the less of its time, the sooner others get that.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), RENDERING_NICENESS)
    except OSError:
        pass  # where threads have no priority of their own, or it may not be changed


class _About:
    """What control knows, for the views."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._started = time.monotonic()

    def router(self) -> dict[str, Any]:
        control = self._control
        return {
            "index": control.config.index,
            "ip": control.identity.ip,
            "port": control.port,
            "healthy": control.health.healthy,
            "reason": control.health.reason,
            "uptime": int(time.monotonic() - self._started),
        }

    def table(self) -> dict[str, Any]:
        registry = self._control.registry
        return {
            "routes": len(registry),
            "endpoints": registry.addresses,
            "ms_since_update": registry.ms_since_update,
        }

    def bus(self) -> dict[str, Any]:
        bus = self._control.bus
        if bus is None:
            return {"configured": False, "connected": False, "servers": "", "since": 0.0, "error": ""}
        return {
            "configured": True,
            "connected": bus.connected,
            "servers": bus.servers,
            "since": bus.since,
            "error": "" if bus.connected else bus.last_error,
        }

    def workers(self) -> list[dict[str, Any]]:
        keeper = self._control.keeper
        states = [{"slot": each.slot, "pid": each.pid} for each in keeper.states()]
        return states or [{"slot": 0, "pid": 0}]

    def fleet(self) -> list[dict[str, Any]]:
        fleet = self._control.fleet
        return [
            {
                "id": peer.announcement.id,
                "host": peer.announcement.host,
                "routes": peer.announcement.routes,
                "endpoints": peer.announcement.endpoints,
                "state": "differs" if peer.differing else "same table",
            }
            for peer in (fleet.peers.values() if fleet is not None else ())
        ]
