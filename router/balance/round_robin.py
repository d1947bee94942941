"""Round robin (contract §4.1).

The pool has a position, random at first: a request takes it and moves it on by one; the retries of that request step
on from where it began and leave the pool's position alone. Endpoints that are not available are passed over. When a
whole round finds none, and not because all are overloaded, the failure marks are forgotten: better a doubtful
endpoint than none.

Where endpoints have weights, their turns come by weight (`weighted_round_robin`).
"""

from __future__ import annotations

from random import randrange

from router.balance.strategy import Request
from router.balance.weighted_round_robin import WeightedRoundRobin
from router.table.endpoint import Endpoint
from router.table.pool import Pool


class RoundRobin:
    """In turn, in the order of registration."""

    __slots__ = ("_weighted", "position")

    def __init__(self) -> None:
        self.position = -1
        self._weighted: WeightedRoundRobin | None = None

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The next available endpoint."""
        if pool.weighted:
            if self._weighted is None:
                self._weighted = WeightedRoundRobin()
            return self._weighted.pick(pool, request)
        endpoints = pool.endpoints
        size = len(endpoints)
        if not size:
            return None
        if request.scratch is None:
            start = self.position
            if start < 0:
                start = randrange(size)
            elif start >= size:
                start = 0
            self.position = start + 1
        else:
            start = (request.scratch + 1) % size
        endpoint = endpoints[start]
        if endpoint.available:
            request.scratch = start
            return endpoint
        return self._next_available(endpoints, start, request)

    def _next_available(self, endpoints: list[Endpoint], start: int, request: Request) -> Endpoint | None:
        size = len(endpoints)
        for round in (1, 2):
            for step in range(size):
                index = (start + step) % size
                if endpoints[index].available:
                    request.scratch = index
                    return endpoints[index]
            if round == 1:
                if all(endpoint.overloaded for endpoint in endpoints):
                    return None
                for endpoint in endpoints:
                    endpoint.failed_at = 0.0
        return None
