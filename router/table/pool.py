"""The pool of one route: its endpoints in order of registration, and the strategy that picks among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.messages import NO_OPTIONS, EndpointSpec, RouteOptions
from router.table.endpoint import Endpoint


class Pool:
    """All endpoints of one route key (contract §1). `strategy` is set by whoever applies the table."""

    __slots__ = (
        "_by_instance",
        "algorithm",
        "context_path",
        "done",
        "endpoints",
        "key",
        "local",
        "options",
        "route_services",
        "settle",
        "strategy",
        "version",
        "ward",
        "weighted",
    )

    def __init__(
        self, key: str, context_path: str, algorithm: str, strategy: Any, options: RouteOptions = NO_OPTIONS
    ) -> None:
        self.key = key
        self.context_path = context_path
        self.algorithm = algorithm
        self.options = options
        self.endpoints: list[Endpoint] = []
        self.route_services = 0
        """Endpoints that were registered with the URL of a route service: no request may go around that."""
        self.ward: Any = None
        """Its place with the judge of health, while something is amiss (`balance.health`)."""
        self.local: Pool | None = None
        """Its endpoints in the router's own zone, made on first use (`balance.locality`)."""
        self._by_instance: dict[str, Endpoint] | None = None
        self.version = 0
        """Goes up with every change of `endpoints`; what a strategy derives from them holds while it stays."""
        self.weighted = False
        """Some endpoint has a weight other than 1."""
        self.use(strategy)

    def use(self, strategy: Any) -> None:
        """Let this strategy pick, and hear of what came of it if it cares to."""
        self.strategy = strategy
        self.local = None
        self.done: Callable[..., None] | None = getattr(strategy, "done", None)
        self.settle: Callable[..., Endpoint] | None = getattr(strategy, "settle", None)

    def put(self, endpoint: Endpoint, replaces: int) -> None:
        """Append, or stand in the place of the endpoint with id `replaces`."""
        self.version += 1
        self._by_instance = self.local = None
        if endpoint.weight != 1:
            self.weighted = True
        self.route_services += endpoint.via_service
        if replaces:
            for i, old in enumerate(self.endpoints):
                if old.id == replaces:
                    endpoint.succeed(old)
                    self.endpoints[i] = endpoint
                    self.route_services -= old.via_service
                    return
        self.endpoints.append(endpoint)

    def drop(self, id: int) -> None:
        """Remove the endpoint with this id; the order of the rest stays (contract §4.1)."""
        self._by_instance = self.local = None
        for i, endpoint in enumerate(self.endpoints):
            if endpoint.id == id:
                del self.endpoints[i]
                self.version += 1
                self.weighted = self.weighted and any(e.weight != 1 for e in self.endpoints)
                self.route_services -= endpoint.via_service
                return

    def instance(self, name: str) -> Endpoint | None:
        """The endpoint with this instance id, the last if several, or else with this address."""
        if self._by_instance is None:
            self._by_instance = {endpoint.address: endpoint for endpoint in self.endpoints}
            self._by_instance |= {e.spec.instance_id: e for e in self.endpoints if e.spec.instance_id}
        return self._by_instance.get(name)

    @property
    def route_service_url(self) -> str:
        """The URL of the newest registration that has one; empty when none has.

        While registrations differ, as when a service is bound or its instances change over, one that names a service
        counts more than one that does not: no request may go around it.
        """
        for endpoint in reversed(self.endpoints):
            if endpoint.via_service:
                return endpoint.spec.route_service_url
        return ""

    def only(self, wanted: Callable[[EndpointSpec], bool], make_strategy: Callable[[str, RouteOptions], Any]) -> Pool:
        """A pool of those endpoints that are `wanted`, for one request."""
        strategy = make_strategy(self.algorithm, self.options)
        part = Pool(self.key, self.context_path, self.algorithm, strategy, self.options)
        part.endpoints = [endpoint for endpoint in self.endpoints if wanted(endpoint.spec)]
        part.weighted = self.weighted
        part.route_services = self.route_services
        return part
