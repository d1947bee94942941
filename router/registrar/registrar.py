"""The registering party (contract §15): keeps routes in the tables of all routers for as long as their backends live.

Each route has its own task: check, then register or unregister, then wait for the interval or for a router that starts.
NATS may come late or go: what can't be sent now is sent with the next interval. At the end the routes of the main file
are unregistered; those of dynamic files are left to the next registrar or to their time to live (contract §15.3).
"""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path as FilePath
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from router.control.bus.connection import Connection
from router.control.errors import reason
from router.observe.log import Limiter, Log
from router.registrar.address import AddressError, check_address, is_here, own_address
from router.registrar.config import NatsTls, RegistrarConfig, Route
from router.registrar.dynamic import DynamicFiles
from router.registrar.health import unhealthy

RECONNECT_WAIT = 2  # seconds (contract §15.3)
PING_INTERVAL = 20  # seconds
FILES_INTERVAL = 10.0  # seconds (contract §15.3)
LAST_WORDS = 2.0
"""Seconds that the last messages have."""


class AccessError(Exception):
    """What lets one in to NATS can't be used; the message names the key and the remedy."""


class Registrar:
    """All routes of one configuration. Raises AddressError and AccessError when they can't be announced."""

    def __init__(self, config: RegistrarConfig, log: Log) -> None:
        self._config = config
        self._log = log
        self._encrypted = config.nats_mtls_config.enabled
        if self._encrypted:
            _tls_context(config.nats_mtls_config)  # what is wrong with it is told at once
        tls = partial(_tls_context, config.nats_mtls_config) if self._encrypted else None
        self._client = Connection(lambda read_at, messages: None, tls=tls)
        self._seed = config.nats_nkey_seed.get_secret_value()
        if (self._seed or config.nats_credentials) and find_spec("nkeys") is None:
            key = "nats_nkey_seed" if self._seed else "nats_credentials"
            raise AccessError(f"{key}: the library for nkeys is missing; `pip install 'router[nkeys]'`")
        self._trying = Limiter(5.0)
        self._error = ""
        self._tasks: list[asyncio.Task[Any]] = []
        self._servers = [server.host.rpartition(":")[0].strip("[]") for server in config.message_bus_servers]
        self._instance = str(uuid.uuid4())
        self._files = DynamicFiles(config.dynamic_config_globs, log)
        self._dynamic: dict[bytes, _Registered] = {}
        """Routes of dynamic files, by what they are."""
        self._static = [_Registered(route, self._message(route)) for route in config.routes]

    @property
    def routes(self) -> list[_Registered]:
        """All that are registered just now."""
        return [*self._static, *self._dynamic.values()]

    def _message(self, route: Route) -> dict[str, Any]:
        config, servers = self._config, self._servers
        host = route.host or config.host
        if host is None:
            target = config.local_route or next((name for name in servers if not is_here(name)), servers[0])
            host = own_address(target)
        check_address(route.name, host, servers, config.allow_loopback)
        about = {
            "port": route.port,
            "tls_port": route.tls_port,
            "protocol": route.protocol,
            "route_service_url": route.route_service_url,
            "server_cert_domain_san": route.server_cert_domain_san,
            "availability_zone": config.availability_zone,
            "options": route.options.model_dump(mode="json", exclude_defaults=True),
        }
        return {
            "uris": route.uris,
            "host": host,
            "tags": route.tags,
            "private_instance_id": self._instance,
            **{key: value for key, value in about.items() if value},
        }

    # -------------------------------------------------------- life

    async def run(self, stop: asyncio.Event) -> None:
        """Register until `stop` is set, then unregister the static routes."""
        loop = asyncio.get_running_loop()
        connecting: asyncio.Task[Any] = loop.create_task(self._connect())
        stopping: asyncio.Task[Any] = loop.create_task(stop.wait())
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                connecting.result()
                self._tasks = [loop.create_task(self._keep(route)) for route in self._static]
                if self._config.dynamic_config_globs:
                    self._tasks.append(loop.create_task(self._follow_files()))
                await asyncio.wait({stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
                for task in self._tasks:
                    if task.done():
                        task.result()
        finally:
            self._tasks += [each.task for each in self._dynamic.values() if each.task is not None]
            for task in (connecting, stopping, *self._tasks):
                task.cancel()
            await asyncio.wait({connecting, stopping, *self._tasks})
            await self._leave()

    async def _connect(self) -> None:
        servers = self._config.message_bus_servers
        credentials = {server.host: (server.user, server.password.get_secret_value()) for server in servers}

        def of_current(which: int) -> str:
            # Each server has its own; the client asks when it has chosen one.
            chosen = self._client._current_server
            return credentials.get(chosen.uri.netloc if chosen is not None else "", ("", ""))[which]

        scheme = "tls" if self._encrypted else "nats"
        await self._client.connect(
            servers=[f"{scheme}://{server.host}" for server in servers],
            user=(lambda: of_current(0)) if any(server.user for server in servers) else None,
            password=(lambda: of_current(1)) if any(server.user for server in servers) else None,
            user_credentials=FilePath(self._config.nats_credentials) if self._config.nats_credentials else None,
            nkeys_seed_str=self._seed or None,
            name="router registrar",
            connect_timeout=2,
            reconnect_time_wait=RECONNECT_WAIT,
            max_reconnect_attempts=-1,
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=2,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
        )
        await self._client.subscribe("router.start", cb=self._router_started)
        self._log.info("nats-connection-successful", addr=self._address())

    async def _leave(self) -> None:
        with suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                if self._client.is_connected:
                    for route in self._static:
                        await self._client.publish("router.unregister", route.payload)
                    await self._client.flush()
                    self._log.info("unregistered", routes=[route.route.name for route in self._static])
        with suppress(NatsError, OSError, TimeoutError):
            await self._client.close()

    # -------------------------------------------------------- files that come and go

    async def _follow_files(self) -> None:
        while True:
            await self._take_up_files()
            await asyncio.sleep(FILES_INTERVAL)

    def read_files(self) -> dict[bytes, _Registered]:
        """Routes of dynamic files as they are now."""
        found: dict[bytes, _Registered] = {}
        for route in self._files.routes():
            try:
                found[route.model_dump_json().encode()] = _Registered(route, self._message(route))
            except AddressError as error:
                self._log.error("dynamic-route-not-used", name=route.name, error=str(error))
        return found

    async def _take_up_files(self) -> None:
        """Register what dynamic files say now, unregister what they say no more."""
        wanted = await asyncio.to_thread(self.read_files)
        for each in self._dynamic.values():
            if each.task is not None and each.task.done():
                each.task.result()
        for key in self._dynamic.keys() - wanted.keys():
            gone = self._dynamic.pop(key)
            if gone.task is not None:
                gone.task.cancel()
                await asyncio.wait({gone.task})
            self._log.info("route-removed", name=gone.route.name, uris=gone.route.uris, host=gone.host)
            await self._publish("router.unregister", gone.payload)
        for key in wanted.keys() - self._dynamic.keys():
            self._dynamic[key] = wanted[key]
            wanted[key].task = asyncio.get_running_loop().create_task(self._keep(wanted[key]))

    # -------------------------------------------------------- a route

    async def _keep(self, registered: _Registered) -> None:
        route = registered.route
        while True:
            registered.wake.clear()
            await self._announce(registered)
            with suppress(TimeoutError):
                await asyncio.wait_for(registered.wake.wait(), route.registration_interval)

    async def _announce(self, registered: _Registered) -> None:
        route, check = registered.route, registered.route.health_check
        why = "" if check is None else await unhealthy(check, check.timeout or route.registration_interval / 2)
        if why:
            if registered.healthy is not False:
                self._log.error("route-unhealthy", name=route.name, check=check and check.name, reason=why)
                registered.unregistered = 0
            registered.healthy = False
            if registered.unregistered >= self._config.unregistration_message_limit:
                return
            registered.unregistered += 1
        elif registered.healthy is not True:
            registered.healthy = True
            self._log.info("route-registered", name=route.name, uris=route.uris, host=registered.host)
        await self._publish("router.unregister" if why else "router.register", registered.payload)

    async def _publish(self, subject: str, payload: bytes) -> None:
        if self._client.is_connected:  # else nats-py would keep it, and send what is no longer true
            with suppress(NatsError, OSError):
                await self._client.publish(subject, payload)

    # -------------------------------------------------------- what nats-py tells

    async def _router_started(self, message: Msg) -> None:
        for route in self.routes:
            route.wake.set()

    async def _failed(self, error: Exception) -> None:
        self._error = reason(error)
        if not self._client.is_connected and self._trying.allow("trying") is not None:
            servers = [server.host for server in self._config.message_bus_servers]
            self._log.error("nats-connection-failed", servers=servers, error=self._error, remedy="it is tried again")

    async def _disconnected(self) -> None:
        self._log.error("nats-connection-disconnected", error=self._error)

    async def _reconnected(self) -> None:
        self._log.info("nats-connection-reconnected", addr=self._address())
        for route in self.routes:
            route.wake.set()

    def _address(self) -> str:
        url = self._client.connected_url
        return url.netloc.rpartition("@")[2] if url is not None else ""


class _Registered:
    """A route and its message; `healthy` is None before the first check."""

    def __init__(self, route: Route, message: dict[str, Any]) -> None:
        self.route = route
        self.host = message["host"]
        self.payload = json.dumps(message).encode()
        self.healthy: bool | None = None
        self.unregistered = 0
        """Times in a row since it became unhealthy."""
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


def _tls_context(tls: NatsTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_path or None)
        if tls.cert_path:
            context.load_cert_chain(tls.cert_path, tls.key_path)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (tls.ca_path, tls.cert_path, tls.key_path)))
        raise AccessError(f"nats_mtls_config: {files} can't be used: {error.strerror or error}") from error
    return context
