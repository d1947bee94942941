"""Routes that people wrote: those of the configuration, and those that came by the API. Both go to the registry.

Routes of the API are kept in `routes.json` of the `run_dir`, written before they are answered for, so a restart keeps
them. A name stands for one route; names of the configuration can't be used by the API.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from router.admin.store import API, FILE, Named, StoreError, body_of
from router.config.route_body import RouteError, read_route
from router.config.static import StaticEndpoint, StaticRoute
from router.control.bus.route_options import read_options
from router.control.state import write_whole
from router.messages import EndpointSpec
from router.observe.log import Log

STORE = "routes.json"

Apply = Callable[[Iterable[tuple[str, EndpointSpec]]], None]


class StaticRoutes:
    """All of them. `apply` gets the whole set at every change."""

    def __init__(self, configured: Iterable[StaticRoute], directory: Path, apply: Apply, log: Log) -> None:
        self._path = directory / STORE
        self._apply = apply
        self._log = log
        self._routes: dict[str, Named] = {}
        for route in configured:
            self._add(_free_name(route.name or route.uris[0], self._routes), FILE, route)
        for name, body in self._load().items():
            if name in self._routes:
                self._log.warn("api-route-shadowed", name=name, remedy=f"rename the route in the configuration: {name}")
                continue
            try:
                self._add(name, API, read_route(body))
            except RouteError as error:
                self._log.error("api-route-not-restored", name=name, error=str(error))

    def start(self) -> None:
        """Put them in force."""
        self._apply(self._specs())

    def reconfigure(self, configured: Iterable[StaticRoute]) -> None:
        """The configuration names these routes now; those of the API stay."""
        of_api = [named for named in self._routes.values() if named.source == API]
        self._routes.clear()
        for route in configured:
            self._add(_free_name(route.name or route.uris[0], self._routes), FILE, route)
        for named in of_api:
            self._routes.setdefault(named.name, named)
        self.start()

    # -------------------------------------------------------- for the API

    def all(self) -> list[Named]:
        """In order of their names."""
        return sorted(self._routes.values())

    def get(self, name: str) -> Named | None:
        """The route of this name."""
        return self._routes.get(name)

    def put(self, name: str, route: StaticRoute) -> Named:
        """Add or replace a route. Raises StoreError when it can't be kept."""
        before = dict(self._routes)
        named = self._add(name, API, route)
        self._keep(before)
        return named

    def delete(self, name: str) -> None:
        """Remove a route. Raises StoreError when that can't be kept."""
        before = dict(self._routes)
        del self._routes[name]
        self._keep(before)

    def _keep(self, before: dict[str, Named]) -> None:
        kept = {named.name: body_of(named.route) for named in self._routes.values() if named.source == API}
        try:
            write_whole(self._path, json.dumps(kept).encode())
        except OSError as error:
            self._routes = before
            raise StoreError(f"{self._path} can't be written: {error.strerror}") from error
        self.start()

    def _load(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._log.error("api-routes-not-restored", file=str(self._path), error=str(error))
            return {}
        return kept if isinstance(kept, dict) else {}

    def _add(self, name: str, source: str, route: StaticRoute) -> Named:
        text = json.dumps(body_of(route), sort_keys=True)
        named = Named(name, source, route, hashlib.sha256(text.encode()).hexdigest()[:16])
        self._routes[name] = named
        return named

    def _specs(self) -> Iterator[tuple[str, EndpointSpec]]:
        for source in (FILE, API):
            for named in self._routes.values():
                if named.source == source:
                    for uri in named.route.uris:
                        for endpoint in named.route.endpoints:
                            yield uri, _spec(endpoint, named.route, source)


def _spec(endpoint: StaticEndpoint, route: StaticRoute, source: str) -> EndpointSpec:
    options, weight = read_options(route.options.model_dump() | {"weight": endpoint.weight}, endpoint.tags)
    return EndpointSpec(
        host=endpoint.host,
        port=endpoint.tls_port or endpoint.port,
        tls=endpoint.tls_port != 0,
        protocol=endpoint.protocol,
        app=endpoint.app,
        instance_id=endpoint.private_instance_id,
        instance_index=endpoint.private_instance_index,
        tags=tuple(endpoint.tags.items()) or None,
        server_cert_domain_san=endpoint.server_cert_domain_san,
        availability_zone=endpoint.availability_zone,
        route_service_url=route.route_service_url,
        options=options,
        weight=weight,
        stale_after=0,
        source=source,
    )


def _free_name(name: str, taken: dict[str, Named]) -> str:
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
