"""The pool of one route: its endpoints in order of registration, and the strategy that picks among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.messages import EndpointSpec
from router.table.endpoint import Endpoint


class Pool:
    """All endpoints of one route key (contract §1). `strategy` is set by whoever applies the table."""

    __slots__ = ("_by_instance", "algorithm", "context_path", "endpoints", "key", "strategy")

    def __init__(self, key: str, context_path: str, algorithm: str, strategy: Any) -> None:
        self.key = key
        self.context_path = context_path
        self.algorithm = algorithm
        self.strategy = strategy
        self.endpoints: list[Endpoint] = []
        self._by_instance: dict[str, Endpoint] | None = None

    def put(self, endpoint: Endpoint, replaces: int) -> None:
        """Append, or stand in the place of the endpoint with id `replaces`."""
        self._by_instance = None
        if replaces:
            for i, old in enumerate(self.endpoints):
                if old.id == replaces:
                    endpoint.succeed(old)
                    self.endpoints[i] = endpoint
                    return
        self.endpoints.append(endpoint)

    def drop(self, id: int) -> None:
        """Remove the endpoint with this id; the order of the rest stays (contract §4.1)."""
        self._by_instance = None
        for i, endpoint in enumerate(self.endpoints):
            if endpoint.id == id:
                del self.endpoints[i]
                return

    def instance(self, name: str) -> Endpoint | None:
        """The endpoint with this instance id, the last if several, or else with this address."""
        if self._by_instance is None:
            self._by_instance = {endpoint.address: endpoint for endpoint in self.endpoints}
            self._by_instance |= {e.spec.instance_id: e for e in self.endpoints if e.spec.instance_id}
        return self._by_instance.get(name)

    def only(self, wanted: Callable[[EndpointSpec], bool], make_strategy: Callable[[str], Any]) -> Pool:
        """A pool of those endpoints that are `wanted`, for one request."""
        part = Pool(self.key, self.context_path, self.algorithm, make_strategy(self.algorithm))
        part.endpoints = [endpoint for endpoint in self.endpoints if wanted(endpoint.spec)]
        return part
