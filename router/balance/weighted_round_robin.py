"""Smooth weighted round robin: earliest deadline first.

Every endpoint is due again and again, one weight-th of a round apart; the next request goes to the one that is due
first. So an endpoint of weight 5 gets its five of seven spread out and not in a row, and a pick is one operation on a
heap. Time is whole numbers, so any run of as many requests as the weights sum up to is shared out exactly. It begins at
a random moment of the round, so that the routers of a fleet don't begin with the same endpoint. A retry takes the next
one due.
"""

from __future__ import annotations

from heapq import heapify, heapreplace
from math import lcm
from random import randrange

from router.balance.last_resort import last_resort
from router.balance.shares import Shares
from router.balance.strategy import Request
from router.table.endpoint import Endpoint
from router.table.pool import Pool

_FINE = 1 << 10
"""Moments in the shortest interval, at least: endpoints of one weight begin at different ones."""
_GOLDEN = 0.6180339887498949
"""Multiples of it modulo 1 lie as far apart as can be, however many there are."""


class WeightedRoundRobin:
    """In turn, the heavier ones more often."""

    __slots__ = ("_due", "_shares", "_version")

    def __init__(self) -> None:
        self._shares = Shares()
        self._version = -1
        self._due: list[tuple[int, int, int]] = []
        """Heap of (when it is due, index, interval)."""

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The available endpoint that is due first."""
        endpoints = self._shares.of(pool)
        if self._version != pool.version:
            self._begin(pool, endpoints)
        due = self._due
        for _ in range(len(endpoints)):
            when, index, interval = due[0]
            heapreplace(due, (when + interval, index, interval))
            endpoint = endpoints[index]
            if endpoint.available:
                return endpoint
        return last_resort(pool)

    def _begin(self, pool: Pool, endpoints: list[Endpoint]) -> None:
        """What is due from a random moment of the round on."""
        self._version = pool.version
        weights = [endpoint.weight or 1 for endpoint in endpoints]
        round = lcm(*weights) * _FINE
        moment = randrange(round)
        self._due = []
        for index, weight in enumerate(weights):
            interval = round // weight
            first = int(interval * (index * _GOLDEN % 1.0))
            missed = max(0, -((first - moment) // interval))
            self._due.append((first + missed * interval, index, interval))
        heapify(self._due)
