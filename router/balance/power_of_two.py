"""Power of two choices: of two endpoints drawn at random, the less busy one.

Nearly as even as least connection, at a cost that does not grow with the pool; and unlike it, many routers that don't
know of one another don't all run to the same endpoint. Endpoints are drawn by weight, and busy relative to it.
"""

from __future__ import annotations

from router.balance.last_resort import last_resort
from router.balance.shares import Shares
from router.balance.strategy import Request
from router.table.endpoint import Endpoint
from router.table.pool import Pool


class PowerOfTwo:
    """The better of two."""

    __slots__ = ("_shares",)

    def __init__(self) -> None:
        self._shares = Shares()

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """Of two random endpoints the available one with fewer requests in flight."""
        shares = self._shares
        endpoints = shares.of(pool)
        if not endpoints:
            return None
        one = endpoints[shares.draw()]
        if len(endpoints) > 1:
            other = endpoints[shares.draw()]
            if other is one:
                other = endpoints[shares.draw()]
            if self.cost(other) < self.cost(one):
                one, other = other, one
            if one.available:
                return one
            if other.available:
                return other
        elif one.available:
            return one
        return last_resort(pool)

    def cost(self, endpoint: Endpoint) -> float:
        """What one more request would meet there."""
        return endpoint.in_flight / (endpoint.weight or 1)
