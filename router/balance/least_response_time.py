"""Least response time: the endpoint with the lowest average latency times requests in flight.

Of a big pool a pick looks at some neighbours only (`window`). Who is neighbour to whom changes with every tick of the
clock, when estimates fade too.
"""

from __future__ import annotations

from random import random

from router.balance.last_resort import last_resort
from router.balance.latencies import Latencies
from router.balance.shares import Shares
from router.balance.strategy import Request
from router.balance.window import Window, cheapest, cheapest_available, windows
from router.table.endpoint import Endpoint
from router.table.pool import Pool


class LeastResponseTime:
    """The quickest."""

    __slots__ = ("_latencies", "_places", "_shares", "_version", "_when", "_windows")

    def __init__(self) -> None:
        self._latencies = Latencies(peak=False)
        self._places: dict[int, tuple[Window, int]] = {}
        self._shares = Shares()
        self._version = -1
        self._when = -1.0
        self._windows: list[Window] = []

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The available endpoint with the lowest cost."""
        if not pool.endpoints:
            return None
        if self._version != pool.version or self._when != pool.endpoints[0].loads.now:
            self._arrange(pool)
        found = self._windows
        window = found[0] if len(found) == 1 else found[int(random() * len(found))]
        costs = window.costs(1)
        endpoint = window.endpoints[cheapest(costs)]
        if endpoint.available:
            return endpoint
        return cheapest_available(window, costs) or last_resort(pool)

    def done(self, endpoint: Endpoint, request: Request, seconds: float, ok: bool) -> None:
        """Learn from an attempt."""
        self._latencies.heard(endpoint, seconds, ok)
        place = self._places.get(endpoint.id)
        if place is not None:
            window, index = place
            window.factors[index] = self._factor(endpoint)

    def _factor(self, endpoint: Endpoint) -> float:
        return self._latencies.estimate(endpoint) / (endpoint.weight or 1)

    def _arrange(self, pool: Pool) -> None:
        self._version = pool.version
        self._when = pool.endpoints[0].loads.now
        self._latencies.forget_others(pool.endpoints)
        endpoints = self._shares.of(pool)
        self._windows = windows(endpoints, [self._factor(endpoint) for endpoint in endpoints])
        self._places = {e.id: (window, n) for window in self._windows for n, e in enumerate(window.endpoints)}
