"""Rendezvous hashing (highest random weight): every endpoint has a score for a key, the highest wins.

The purest consistency: removing an endpoint moves its own keys only, adding one takes only what it gets, in exact
proportion to weights. A score for every endpoint is work, so keys share `BUCKETS` orders of endpoints, made when first
asked for and kept while the pool stays as it is. For pools of up to a hundred or so; beyond, use `consistent-hash`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from heapq import nlargest
from math import log
from typing import Any, Self

from router.balance.counted import Stretch
from router.balance.hash_source import hashed
from router.balance.hashing import Hashing, by_name
from router.balance.last_resort import last_resort
from router.balance.strategy import Request, Strategy
from router.messages import RouteOptions
from router.table.endpoint import Endpoint
from router.table.pool import Pool

BUCKETS = 16381
"""A prime."""
_BEST = 8
"""Endpoints that are kept of an order."""
_WORD = (1 << 64) - 1
_SPREAD, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
"""Odd numbers with well mixed bits."""


class Rendezvous(Hashing):
    """By `hash_key` of the route, else of the router; loads bounded by `hash_balance`."""

    __slots__ = ("_orders", "_seeds")

    def __init__(self, options: RouteOptions, make_default: Callable[[], Strategy]) -> None:
        super().__init__(options, make_default)
        self._orders: dict[int, list[Endpoint]] = {}
        self._seeds: list[tuple[int, int, Endpoint]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = super().__deepcopy__(memo)
        other._orders = dict(self._orders)
        return other

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The best endpoint for the request's key; the next best when that will not do, or has failed the request."""
        key = self._source(request)
        if not key:
            return self._pick_by_default(pool, request)
        if self._version != pool.version:
            self._prepare(pool)
        if not pool.endpoints:
            return None
        bucket = hashed(key) % BUCKETS
        order = self._orders.get(bucket)
        endpoint: Endpoint
        if order is None:
            order = self._orders[bucket] = self._order(bucket, _BEST)
        place: int = -1 if request.scratch is None else request.scratch
        for index in (*range(place + 1, len(order)), *range(min(place + 1, len(order)))):
            endpoint = order[index]
            if self._will_do(pool, endpoint):
                request.scratch = index
                return endpoint
        for endpoint in self._order(bucket, len(self._seeds))[_BEST:]:
            if self._will_do(pool, endpoint):
                return endpoint
        for endpoint in order:
            if endpoint.available:
                return endpoint
        return last_resort(pool)

    def _will_do(self, pool: Pool, endpoint: Endpoint) -> bool:
        return endpoint.available and not (
            self._balance and (load := endpoint.in_flight) and self._too_busy(pool, load)
        )

    def _prepare(self, pool: Pool) -> None:
        self._version = pool.version
        self._stretch = Stretch(pool.endpoints) if pool.endpoints else None
        self._orders.clear()
        heavy = any(endpoint.weight for endpoint in pool.endpoints)
        self._seeds = [
            (_seed(name), endpoint.weight if heavy else 1, endpoint)
            for name, endpoint in sorted(by_name(pool.endpoints).items())
        ]

    def _order(self, bucket: int, size: int) -> list[Endpoint]:
        """The best endpoints for a bucket, the best first."""
        spread = (bucket + 1) * _SPREAD & _WORD
        scored = [
            (weight / -log((((seed ^ spread) * _MIX & _WORD) + 1) / (_WORD + 2)), number)
            for number, (seed, weight, _) in enumerate(self._seeds)
        ]
        return [self._seeds[number][2] for _, number in nlargest(size, scored)]


def _seed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
