"""Some endpoints of a pool that are compared with one another by what they cost: counts times a factor of each.

A pool of up to `WHOLE` endpoints is one window; a bigger one is cut into windows of about `WINDOW` neighbours, of which
a pick looks at one. So the cost of a pick does not grow with the pool, and of eight the best is nearly the best of all.
"""

from __future__ import annotations

from itertools import pairwise
from random import random, randrange

from router.table.endpoint import Endpoint

WHOLE = 16
WINDOW = 8


class Window:
    """At least one endpoint, and a factor for each."""

    __slots__ = ("_first", "_size", "endpoints", "factors")

    def __init__(self, endpoints: list[Endpoint], factors: list[float]) -> None:
        self.endpoints = endpoints
        self.factors = factors
        first = endpoints[0].slot
        in_a_row = all(endpoint.slot == slot for slot, endpoint in enumerate(endpoints, first))
        self._first = first
        self._size = len(endpoints) if in_a_row else 0

    def costs(self, more: int) -> list[float]:
        """Requests in flight and so many more, over all workers, times the factor: by index."""
        if self._size:
            counts = self.endpoints[0].loads.counts.totals(self._first, self._size)
        else:
            counts = [endpoint.in_flight for endpoint in self.endpoints]
        return [factor * (count + more) for factor, count in zip(self.factors, counts, strict=True)]


def windows(endpoints: list[Endpoint], factors: list[float]) -> list[Window]:
    """All endpoints, from a random one on, in windows of nearly one size."""
    size = len(endpoints)
    if size <= WHOLE:
        return [Window(endpoints, factors)] if endpoints else []
    begin = randrange(size)
    endpoints, factors = endpoints[begin:] + endpoints[:begin], factors[begin:] + factors[:begin]
    count = -(-size // WINDOW)
    bounds = [size * number // count for number in range(count + 1)]
    return [Window(endpoints[a:b], factors[a:b]) for a, b in pairwise(bounds)]


def cheapest(costs: list[float]) -> int:
    """The index of the least cost, a random one of several."""
    cost = min(costs)
    count = costs.count(cost)
    if count == 1:
        return costs.index(cost)
    size = len(costs)
    if count * 4 >= size:
        while True:
            index = int(random() * size)
            if costs[index] == cost:
                return index
    ties = [index for index, other in enumerate(costs) if other == cost]
    return ties[int(random() * len(ties))]


def cheapest_available(window: Window, costs: list[float]) -> Endpoint | None:
    """The available endpoint of least cost."""
    able = [row for row in zip(costs, window.endpoints, strict=True) if row[1].available]
    return min(able, key=lambda row: (row[0], random()))[1] if able else None
