"""Least connection (contract §4.2): the endpoint with the fewest requests in flight over all workers.

- Ties are broken at random, so that the routers of a fleet don't all choose the first.
- Unlike the Go router we honour failure marks here too: a dead endpoint has nothing in flight and would draw every
  request (docs/decisions/0004).
- Of a pool of more than `PART` endpoints a part is drawn, and the least busy one of it.
- Workers read the counts without a lock, so two may find the same minimum at the same moment. Each counts first, then
  looks again (`settle`): whoever finds that others came to the same endpoint meanwhile, and that there is a better one
  now, moves its count, or waits for the other to move, by the toss of a coin.
- Where endpoints have weights, requests in flight are relative to them (`weighted_least_connection`).
"""

from __future__ import annotations

from random import random

from router.balance.counted import FOREIGN, Stretch, lowest, one_at
from router.balance.last_resort import last_resort
from router.balance.strategy import Request
from router.balance.weighted_least_connection import WeightedLeastConnection
from router.table.endpoint import Endpoint
from router.table.pool import Pool

PART = 32
"""Most endpoints that are compared with one another."""
_TRIES = 4
"""Endpoints with the least load that may turn out unavailable before all are looked at one by one."""
_LOOKS = 16
"""How often a count is looked at again when several workers came to one endpoint."""


class LeastConnection:
    """The least busy one."""

    __slots__ = ("_parts", "_version", "_weighted")

    def __init__(self) -> None:
        self._parts: list[Stretch] = []
        self._version = -1
        self._weighted: WeightedLeastConnection | None = None

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The available endpoint with the lowest count; one in doubt when nothing else is left."""
        if pool.weighted:
            if self._weighted is None:
                self._weighted = WeightedLeastConnection()
            return self._weighted.pick(pool, request)
        endpoints = pool.endpoints
        if not endpoints:
            return None
        if self._version != pool.version:
            self._version = pool.version
            self._parts = _parts(endpoints)
        parts = self._parts
        part = parts[0] if len(parts) == 1 else parts[int(random() * len(parts))]
        endpoint = part.members[int(random() * len(part.members))]
        if not endpoint.in_flight and endpoint.available:  # none can be less busy
            request.scratch = part, 0
            return endpoint
        levels = part.read()
        for _ in range(_TRIES):
            level = lowest(levels)
            index = one_at(levels, level)
            endpoint = part.endpoints[index]
            if endpoint.available:
                request.scratch = part, level
                return endpoint
            levels[index] = FOREIGN
        request.scratch = None
        able = [(other.in_flight, random(), other) for other in part.members if other.available]
        return min(able)[2] if able else last_resort(pool)

    def settle(self, pool: Pool, endpoint: Endpoint, request: Request) -> Endpoint:
        """The endpoint was counted: keep it, unless others came to it meanwhile and there is a better one."""
        counts = endpoint.loads.counts
        if request.scratch is None or len(counts.lanes) == 1:
            return endpoint
        part, level = request.scratch
        if not isinstance(part, Stretch):
            return self._weighted.settle(pool, endpoint, request) if self._weighted is not None else endpoint
        for _ in range(_LOOKS):
            if endpoint.in_flight - 1 <= level:
                break
            levels = part.read()
            level = lowest(levels)
            better = part.endpoints[one_at(levels, level)]
            if better is not endpoint and random() < 0.5 and better.available:
                counts.own[endpoint.slot] -= 1
                counts.own[better.slot] += 1
                endpoint = better
        return endpoint


def _parts(endpoints: list[Endpoint]) -> list[Stretch]:
    """All endpoints in parts of nearly one size."""
    size = len(endpoints)
    count = -(-size // PART)
    return [Stretch(endpoints[size * n // count : size * (n + 1) // count]) for n in range(count)]
