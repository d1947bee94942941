"""Random choice, by weight. No state, no order: what many independent routers can't get wrong together."""

from __future__ import annotations

from router.balance.last_resort import last_resort
from router.balance.shares import Shares
from router.balance.strategy import Request
from router.table.endpoint import Endpoint
from router.table.pool import Pool

_DRAWS = 3


class Random:
    """One at random, as often as its weight says."""

    __slots__ = ("_shares",)

    def __init__(self) -> None:
        self._shares = Shares()

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """A random available endpoint."""
        shares = self._shares
        endpoints = shares.of(pool)
        if not endpoints:
            return None
        for _ in range(_DRAWS):
            endpoint = endpoints[shares.draw()]
            if endpoint.available:
                return endpoint
        return last_resort(pool)
