"""The status port of a control that runs: which part each answer comes from (contract §11.1 to §11.4).

How it is asked, and who may, is the affair of `admin.status`; figures and pages are put together in `observing`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from router.admin.ports import Ports, port_of
from router.config.keys import public_view
from router.control.doctor import Patient, examine, is_loopback
from router.control.settings import status_credentials, status_tls
from router.control.state import StatusAccess, address_for
from router.control.unknown import explain_missing
from router.observe.varz import Process
from router.proxy.tls import load_pair

if TYPE_CHECKING:
    from router.admin.status import StatusServer
    from router.control.app import Control
    from router.messages import Certificate

PAUSE_EVERY = 500
"""Endpoints looked at between two turns of the event loop."""


class Status:
    """Made when the parts of control are there; to be stopped at the end, whether it started or not."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._tls: ssl.SSLContext | None = None
        self._process: Process
        self._server: StatusServer | None = None
        self.ports: Ports
        """Known from `bind` on."""
        self.credentials = status_credentials(control.config)
        """User and password of `/routes`, `/varz` and the pages."""

    def bind(self) -> None:
        """Listen, for those who may have to wait until `start`. Raises StatusError and StartError."""
        control = self._control
        config = control.config.status
        certificate = status_tls(control.config)
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            load_pair(self._tls, certificate)
        self.ports = Ports(
            config.host if config.enable_deprecated_varz_healthz_endpoints else "0.0.0.0",
            config.port if config.enable_nontls_health_checks else None,
            config.routes.port,
            config.tls.port if certificate is not None else None,
        )
        port = port_of(self.ports.status) or port_of(self.ports.tls)
        self._process = Process(control.config.index, f"{control.identity.ip}:{port}", self.credentials)

    async def start(self) -> StatusAccess:
        """Answer; gives how commands on this machine get in."""
        # With aiohttp: a third of a second, for which a whole table would have to wait.
        from router.admin.inspect_api import InspectApi
        from router.admin.routes_api import RoutesApi
        from router.admin.status import StatusServer

        control, ports, config = self._control, self.ports, self._control.config.status
        deprecated = config.enable_deprecated_varz_healthz_endpoints
        pages = control.observing.pages
        inspect = InspectApi(
            explain=lambda client, secure, head: control.keeper.explain(client, secure, head),
            history=lambda host: [event._asdict() for event in control.registry.history.of(host)],
            doctor=self._doctor,
            hints=lambda host: explain_missing(control.registry, host),
        )
        self._server = StatusServer(
            health=lambda: control.health.reason,
            varz=lambda: {**self.varz(), "config": public_view(control.config)},
            routes=lambda: control.registry.routes(),
            credentials=self.credentials,
            api=[*RoutesApi(control.static_routes).routes, *inspect.routes, *pages.routes],
            pages=pages.paths,
            deprecated=deprecated,
        )
        await self._server.start(ports, self._tls)
        reached_at = address_for(config.host if deprecated else "")
        health = f"http://{reached_at}:{port_of(ports.status)}"
        if not ports.status:
            health = f"https://{reached_at}:{port_of(ports.tls)}"
        return StatusAccess(f"http://127.0.0.1:{port_of(ports.routes)}", *self.credentials, health)

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            await self._server.stop()
        if hasattr(self, "ports"):
            self.ports.close()

    def renew(self, certificate: Certificate) -> None:
        """Show this one from now on."""
        if self._tls is not None:
            load_pair(self._tls, certificate)

    def varz(self) -> dict[str, Any]:
        """`/varz` without the configuration, as the component messages have it."""
        control = self._control
        return {
            **self._process.as_varz(),
            **control.figures.as_varz(control.config.status.expose_all_apps),
            "urls": len(control.registry),
            "droplets": control.registry.addresses,
            "ms_since_last_registry_update": control.registry.ms_since_update,
        }

    def line(self) -> str:
        """For `systemctl status`."""
        control = self._control
        routes, endpoints = len(control.registry), control.registry.addresses
        health, workers = control.health.reason or "healthy", control.keeper.listening
        return f"{health}: {routes} routes, {endpoints} endpoints, {workers} workers"

    async def _doctor(self) -> list[dict[str, Any]]:
        control = self._control
        table = []
        for number, entry in enumerate(control.registry.registrations(), 1):
            table.append(entry)
            if number % PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        bus = control.config.nats
        here = bus is None or all(is_loopback(server.hostname) for server in bus.hosts)
        clocks = control.fleet.clocks() if control.fleet is not None else {}
        patient = Patient(control.config, table, control.registry.history.of(""), here, clocks)
        return [finding._asdict() for finding in await asyncio.to_thread(examine, patient)]
