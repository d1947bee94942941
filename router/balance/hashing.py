"""What strategies have in common that send the same key to the same endpoint, whichever router is asked.

- A request leads to an entry of a table; the entries behind it, in order, are where it goes when an endpoint may not be
  picked, is too busy for the balance factor, or has failed this request (contract §4.8).
- Endpoints go by their instance ids, and by their addresses only if they have none or share it.
- A request that has no such key goes by the router's default algorithm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from typing import Any, Self

from router.balance.counted import Stretch
from router.balance.hash_source import hashed, source
from router.balance.last_resort import last_resort
from router.balance.maglev import Names, fill
from router.balance.round_robin import RoundRobin
from router.balance.strategy import Request, Strategy
from router.messages import RouteOptions
from router.table.endpoint import Endpoint
from router.table.pool import Pool

_SMALL = 64
"""Endpoints up to which the average is always exact."""


class Hashing:
    """Picks by a key of the request from a Maglev table."""

    __slots__ = (
        "_balance",
        "_default",
        "_endpoints",
        "_filling",
        "_fresh",
        "_make_default",
        "_names",
        "_source",
        "_stretch",
        "_table",
        "_total",
        "_version",
        "_wanted",
    )

    def __init__(self, options: RouteOptions, make_default: Callable[[], Strategy]) -> None:
        self._balance = options.hash_balance
        self._default: Strategy | None = None
        self._make_default = make_default
        self._source = source(options.hash_key)
        self._version = -1
        self._table: list[int] = []
        """Entry → index of `_endpoints`."""
        self._names: Names = ()
        """What `_table` was made of."""
        self._endpoints: list[Endpoint | None] = []
        """By index of `_names`; None for one that is gone."""
        self._wanted: Names = ()
        self._filling: Iterator[list[int] | None] | None = None
        """The next table, for `_wanted`."""
        self._stretch: Stretch | None = None
        self._total = 0
        """Requests in flight in the pool, when last looked at, and those picked since."""
        self._fresh = 0
        """How many looks may be done without."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Tables are replaced, never changed, so a copy shares them; one that is being filled it does without."""
        other = copy(self)
        other._default = deepcopy(self._default, memo)
        if self._filling is not None:
            other._filling = None if self._table else fill(self._wanted)
        return other

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """The endpoint for the request's key, or the next one in the table that will do."""
        key = self._source(request)
        if not key:
            return self._pick_by_default(pool, request)
        if not pool.endpoints:
            return None
        if self._version != pool.version or self._filling is not None:
            self._prepare(pool)
        table = self._table
        if request.scratch is not None:
            return self._next(pool, request, request.scratch % len(table), retry=True)
        entry = hashed(key) % len(table)
        endpoint = self._endpoints[table[entry]]
        if (
            endpoint is not None
            and endpoint.available
            and not (self._balance and (load := endpoint.in_flight) and self._too_busy(pool, load))
        ):
            request.scratch = entry
            return endpoint
        return self._next(pool, request, entry, retry=False)

    def _next(self, pool: Pool, request: Request, entry: int, *, retry: bool) -> Endpoint | None:
        """Walk on from an entry to an endpoint that is available and not too busy; if there is none, not too busy."""
        table, endpoints = self._table, self._endpoints
        size = len(table)
        seen = {table[entry]}
        first_available: int | None = None
        for step in range(entry + 1, entry + 1 + min(size, 16 * len(endpoints))):
            index = table[step % size]
            if index in seen:
                continue
            seen.add(index)
            endpoint = endpoints[index]
            if endpoint is not None and endpoint.available:
                if not self._balance or not self._too_busy(pool, endpoint.in_flight):
                    request.scratch = step % size
                    return endpoint
                if first_available is None:
                    first_available = step % size
        here = endpoints[table[entry]]
        if here is not None and here.available and (not retry or first_available is None):
            first_available = entry
        if first_available is None:
            return last_resort(pool)
        request.scratch = first_available
        return endpoints[table[first_available]]

    def _too_busy(self, pool: Pool, load: int) -> bool:
        """An endpoint with `load` requests in flight has too many for one more."""
        assert self._stretch is not None
        size = len(pool.endpoints)
        if self._fresh <= 0:
            self._total = self._stretch.total()
            self._fresh = (
                size >> 3 if size > _SMALL else 0
            )  # the average of a big pool is not worth a look at all of it for every request
        else:
            self._fresh -= 1
            self._total += 1
        return self.over(load, self._total, size)

    def over(self, here: int, everywhere: int, endpoints: int) -> bool:
        """Consistent hashing with bounded loads (Mirrokni et al., 2016): no more than the factor allows, this one too.

        `here` and `everywhere` are requests in flight before it.
        """
        return here + 1 > -(-self._balance * (everywhere + 1) // endpoints)

    def _prepare(self, pool: Pool) -> None:
        """A table for the pool as it is now. One that is in use stays in use until the next one is filled."""
        if self._version != pool.version:
            self._version = pool.version
            self._stretch = Stretch(pool.endpoints)
            self._fresh = 0
            named = by_name(pool.endpoints)
            heavy = any(endpoint.weight for endpoint in pool.endpoints)
            wanted = tuple(sorted((name, e.weight if heavy else 1) for name, e in named.items()))
            self._endpoints = [named.get(name) for name, _ in self._names]
            if wanted != self._wanted:
                self._wanted = wanted
                self._filling = fill(wanted)
        for table in self._filling or ():
            if table is not None:
                self._table, self._names, self._filling = table, self._wanted, None
                named = by_name(pool.endpoints)
                self._endpoints = [named.get(name) for name, _ in self._names]
                return
            if self._table:
                return

    def _pick_by_default(self, pool: Pool, request: Request) -> Endpoint | None:
        if self._default is None:
            self._default = self._make_default()
            if isinstance(self._default, Hashing):  # whose key may be missing too
                self._default = RoundRobin()
        return self._default.pick(pool, request)


def by_name(endpoints: list[Endpoint]) -> dict[str, Endpoint]:
    """Endpoints by what all routers call them."""
    several = Counter(endpoint.spec.instance_id for endpoint in endpoints)
    several[""] = 2
    return {
        e.spec.instance_id if several[e.spec.instance_id] == 1 else f"{e.spec.instance_id} {e.address}": e
        for e in endpoints
    }
