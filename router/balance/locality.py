"""Zone preference (contract §4.3): the first attempt goes to an endpoint of the router's own availability zone.

It works beside the strategies: they are given a pool that holds the local endpoints only, with a strategy object of
its own. When none of these may be picked, because all are out of use or at their limit, the whole pool is asked, and
failure marks stay what they are. Retries always see the whole pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.messages import RouteOptions
from router.table.pool import Pool


class Locality:
    """The router's zone; "" is one like any other."""

    __slots__ = ("_make_strategy", "zone")

    def __init__(self, zone: str, make_strategy: Callable[[str, RouteOptions], Any]) -> None:
        self.zone = zone
        self._make_strategy = make_strategy

    def narrowed(self, pool: Pool) -> Pool:
        """The local part of `pool`; `pool` itself where nothing in it is local and available, or all is local."""
        local = pool.local
        if local is None:
            zone = self.zone
            local = pool.only(lambda spec: spec.availability_zone == zone, self._make_strategy)
            if len(local.endpoints) == len(pool.endpoints):
                local = pool
            pool.local = local
        if local is pool:
            return pool
        for endpoint in local.endpoints:
            if endpoint.available:
                return local
        return pool
