"""Least connection (contract §4.2): the endpoint with the fewest requests in flight over all workers.

Ties are broken at random, so that the routers of a fleet don't all choose the first. Unlike the Go router we honour
failure marks here too: a dead endpoint has nothing in flight and would draw every request (docs/decisions/0004).
"""

from __future__ import annotations

from random import randrange

from router.balance.strategy import Request
from router.table.endpoint import Endpoint
from router.table.pool import Pool


class LeastConnection:
    """The least busy one."""

    __slots__ = ()

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The available endpoint with the lowest count; failure marks are overlooked when nothing else is left."""
        return _least(pool.endpoints, heed_marks=True) or _least(pool.endpoints, heed_marks=False)


def _least(endpoints: list[Endpoint], *, heed_marks: bool) -> Endpoint | None:
    size = len(endpoints)
    if not size:
        return None
    limit = endpoints[0].loads.max_conns
    start = randrange(size)
    best: Endpoint | None = None
    lowest = -1
    for step in range(start - size, start):  # negative indices wrap: every endpoint once, from a random one on
        endpoint = endpoints[step]
        if heed_marks and endpoint.failed_at and endpoint.failed:
            continue
        load = endpoint.in_flight
        if (lowest < 0 or load < lowest) and not (limit and load >= limit):
            best, lowest = endpoint, load
            if load <= 0:
                break
    return best
