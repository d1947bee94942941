"""Endpoints drawn at random, each as often as its weight says. Derived from a pool once for every change of it.

Endpoints of weight 0 are left out while others have one.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate
from random import random

from router.table.endpoint import Endpoint
from router.table.pool import Pool


class Shares:
    """The endpoints of one pool that have a share of its traffic, and their shares."""

    __slots__ = ("bounds", "endpoints", "version")

    def __init__(self) -> None:
        self.version = -1
        self.endpoints: list[Endpoint] = []
        self.bounds: list[int] | None = None
        """Sums of the weights up to each endpoint; None while all are equal."""

    def of(self, pool: Pool) -> list[Endpoint]:
        """Those with a share, in the order of the pool. To be asked before `draw`."""
        if self.version != pool.version:
            self.version = pool.version
            self.endpoints = list(pool.endpoints)
            self.bounds = None
            if pool.weighted:
                self.endpoints = [endpoint for endpoint in pool.endpoints if endpoint.weight] or self.endpoints
                weights = [endpoint.weight for endpoint in self.endpoints]
                if min(weights, default=0) != max(weights, default=0):
                    self.bounds = list(accumulate(weights))
        return self.endpoints

    def draw(self) -> int:
        """The index of an endpoint; there must be one."""
        bounds = self.bounds
        if bounds is None:
            return int(random() * len(self.endpoints))
        return bisect(bounds, random() * bounds[-1])
