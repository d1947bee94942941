"""The status port of a control that runs: which part each answer comes from (contract §11.1 to §11.4).

How it is asked, and who may, is the affair of `admin.status`; figures and pages are put together in `observing`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from router.admin.inspect_api import InspectApi
from router.admin.routes_api import RoutesApi
from router.admin.status import StatusServer
from router.config.keys import public_view
from router.control.doctor import Patient, examine, is_loopback
from router.control.settings import status_credentials, status_tls
from router.control.state import StatusAccess, address_for
from router.control.unknown import explain_missing
from router.observe.varz import Process
from router.proxy.tls import load_pair

if TYPE_CHECKING:
    from router.control.app import Control
    from router.messages import Certificate

PAUSE_EVERY = 500
"""Endpoints looked at between two turns of the event loop."""


class Status:
    """Made when the parts of control are there; `server` is to be stopped at the end, whether it started or not."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._tls: ssl.SSLContext | None = None
        self._process: Process
        self.credentials = status_credentials(control.config)
        """User and password of `/routes`, `/varz` and the pages."""
        pages = control.observing.pages
        inspect = InspectApi(
            explain=lambda client, secure, head: control.keeper.explain(client, secure, head),
            history=lambda host: [event._asdict() for event in control.registry.history.of(host)],
            doctor=self._doctor,
            hints=lambda host: explain_missing(control.registry, host),
        )
        self.server = StatusServer(
            health=lambda: control.health.reason,
            varz=lambda: {**self.varz(), "config": public_view(control.config)},
            routes=lambda: control.registry.routes(),
            credentials=self.credentials,
            api=[*RoutesApi(control.static_routes).routes, *inspect.routes, *pages.routes],
            pages=pages.paths,
            deprecated=control.config.status.enable_deprecated_varz_healthz_endpoints,
        )

    async def start(self) -> StatusAccess:
        """Listen; gives how commands on this machine get in. Raises StatusError and StartError."""
        control, server = self._control, self.server
        config = control.config.status
        deprecated = config.enable_deprecated_varz_healthz_endpoints
        port = config.port if config.enable_nontls_health_checks else None
        certificate = status_tls(control.config)
        tls = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            load_pair(self._tls, certificate)
            tls = (config.tls.port, self._tls)
        await server.start(config.host if deprecated else "0.0.0.0", port, config.routes.port, tls)
        address = f"{control.identity.ip}:{server.port or server.tls_port}"
        self._process = Process(control.config.index, address, self.credentials)
        reached_at = address_for(config.host if deprecated else "")
        health = f"http://{reached_at}:{server.port}" if server.port else f"https://{reached_at}:{server.tls_port}"
        return StatusAccess(f"http://127.0.0.1:{server.routes_port}", *self.credentials, health)

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
