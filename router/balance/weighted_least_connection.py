"""Weighted least connection: the fewest requests in flight for its weight; of idle endpoints one drawn by weight.

So weights hold at low load too, when nothing is in flight anywhere, and a canary of weight 5 next to 95 gets 5 %. Of a
big pool a pick looks at some neighbours only (`window`). Counts are settled between workers as in least connection.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from random import random

from router.balance.last_resort import last_resort
from router.balance.shares import Shares
from router.balance.strategy import Request
from router.balance.window import Window, cheapest, cheapest_available, windows
from router.table.endpoint import Endpoint
from router.table.pool import Pool

_LOOKS = 16
"""As in least connection."""


class WeightedLeastConnection:
    """The least busy for its weight."""

    __slots__ = ("_bounds", "_shares", "_version", "_windows")

    def __init__(self) -> None:
        self._bounds: list[float] = []
        self._shares = Shares()
        self._version = -1
        self._windows: list[Window] = []

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The available endpoint with the lowest relative count."""
        shares = self._shares
        endpoints = shares.of(pool)
        if not endpoints:
            return None
        if self._version != pool.version:
            self._arrange(pool, endpoints)
        endpoint = endpoints[shares.draw()]
        if not endpoint.in_flight and endpoint.available:
            request.scratch = None, 0.0
            return endpoint
        found = self._windows
        window = found[0] if len(found) == 1 else found[bisect(self._bounds, random() * self._bounds[-1])]
        costs = window.costs(0)
        index = self._least(window, costs)
        endpoint = window.endpoints[index]
        if not endpoint.available:
            request.scratch = None
            return cheapest_available(window, costs) or last_resort(pool)
        request.scratch = window, costs[index]
        return endpoint

    def settle(self, pool: Pool, endpoint: Endpoint, request: Request) -> Endpoint:
        """The endpoint was counted: keep it, unless others came to it meanwhile and there is a better one."""
        counts = endpoint.loads.counts
        if request.scratch is None or len(counts.lanes) == 1:
            return endpoint
        window, cost = request.scratch
        for _ in range(_LOOKS):
            if (endpoint.in_flight - 1) / (endpoint.weight or 1) <= cost:
                break
            if window is None:
                window = next((w for w in self._windows if endpoint in w.endpoints), None)
                if window is None:
                    break
            costs = window.costs(0)
            index = self._least(window, costs)
            cost, better = costs[index], window.endpoints[index]
            if better is not endpoint and random() < 0.5 and better.available:
                counts.own[endpoint.slot] -= 1
                counts.own[better.slot] += 1
                endpoint = better
        return endpoint

    def _least(self, window: Window, costs: list[float]) -> int:
        """The index of the lowest; of idle ones one by weight."""
        if 0.0 not in costs:
            return cheapest(costs)
        idle = [index for index, cost in enumerate(costs) if not cost]
        bounds = list(accumulate(window.endpoints[index].weight or 1 for index in idle))
        return idle[bisect(bounds, random() * bounds[-1])]

    def _arrange(self, pool: Pool, endpoints: list[Endpoint]) -> None:
        self._version = pool.version
        self._windows = windows(endpoints, [1.0 / (endpoint.weight or 1) for endpoint in endpoints])
        sums = [sum(endpoint.weight or 1 for endpoint in window.endpoints) for window in self._windows]
        self._bounds = [float(bound) for bound in accumulate(sums)]
