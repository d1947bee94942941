"""Control's table: pools, endpoints and their entries, and what must hold together when one of them comes or goes.

Here live the parts that every source of routes shares (`control.registry`, `control.merging`). Whoever changes
something passes a list that takes the table operations for workers, in the order in which they are to be applied.
Three things tell workers what is what: the key of a pool; the `id` of an endpoint, which equal registrations share and
which is never used again; and the `slot` of an address in the block of in-flight counts (`control.slots`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from router.control.entries import DEAD, Endpoint, Entry, Pool, about, what_changed
from router.control.history import History
from router.control.slots import Slots
from router.control.staleness import Wheel
from router.messages import (
    NO_OPTIONS,
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    NewRoute,
    PutEndpoint,
    PutPool,
    PutRoute,
    RouteOptions,
    TableOp,
    pack,
)
from router.observe.log import Log
from router.table.digest import TableDigest
from router.table.uri import host_of


class RegistrySettings(msgspec.Struct, frozen=True):
    """What the registry needs of the configuration. Times are seconds."""

    balancing_algorithm: str = "round-robin"
    algorithms: frozenset[str] = frozenset(("round-robin", "least-connection"))
    """Names that a registration may ask for."""
    stale_threshold: float = 120.0
    sharding_mode: str = "all"
    isolation_segments: frozenset[str] = frozenset()
    keep_empty_pools: bool = False
    """`empty_pool_response_code_503`: an empty pool stays for `empty_pool_timeout`, if that is not 0."""
    empty_pool_timeout: float = 0.0
    http2: bool = True
    """`enable_http2`: without it an endpoint's `http2` means `http1` (contract §2.3)."""
    suspend_pruning: bool = False
    """`suspend_pruning_if_nats_unavailable`."""


NewEndpoints = tuple[str, RouteOptions, list[tuple[EndpointSpec, str, float]]]
"""Of a new route: context path, options, endpoints with their addresses and stamps."""
_TOGETHER = 100
"""Most endpoints of a `NewRoute`: workers apply it without a pause."""


class Table:
    """Routes, pools and endpoints."""

    def __init__(
        self,
        settings: RegistrySettings,
        log: Log,
        capacity: int,
        slot_idle: Callable[[int], bool],
        clock: Callable[[], float],
        history: History,
    ) -> None:
        """`capacity` is the number of slots of the in-flight block; `slot_idle` tells whether one may be given anew."""
        self.settings = settings
        self.log = log
        self.history = history
        self.clock = clock
        self.pools: dict[str, Pool] = {}
        self.digest = TableDigest()
        self.empty: dict[str, str] = {}
        """Keys of pools that wait for `empty_pool_timeout`, and why they are empty."""
        self.static: set[tuple[str, str]] = set()
        """(Route key, address) of static entries."""
        self.wheel: Wheel[Entry] = Wheel()
        self._hosts: dict[str, int] = {}  # host → its pools, but for those of
        self._uncounted: deque[list[str]] = deque()
        self._endpoints: dict[str, Endpoint] = {}  # by address
        self._next_id = 1
        self._slots = Slots(capacity, slot_idle)

    # -------------------------------------------------------- what is there

    def __len__(self) -> int:
        """Number of pools, empty ones included."""
        return len(self.pools)

    @property
    def addresses(self) -> int:
        """Number of distinct `host:port`."""
        return len(self._endpoints)

    @property
    def hosts(self) -> Collection[str]:
        """Hosts that have a route, wildcards included."""
        return self._counted().keys()

    def routes_of(self, host: str) -> int:
        """Number of a host's pools."""
        return self._counted().get(host, 0)

    @property
    def now(self) -> float:
        """This table's clock: monotonic seconds, as its stamps are."""
        return self.clock()

    def snapshot(self) -> Iterator[TableOp]:
        """The whole table as operations on an empty one, to be used before anything changes."""
        told: set[int] = set()
        for pool in self.pools.values():
            new: list[PutEndpoint] = []
            ops: list[TableOp] = [NewRoute(pool.put, new)]
            for entry in pool.entries.values():
                put = entry.endpoint.put
                _tell_of(pool.key, put, put.id not in told, new, ops)
                told.add(put.id)
            yield from ops

    def routes(self) -> Iterator[tuple[str, list[EndpointSpec]]]:
        """Keys in order, endpoints in pool order, for `/routes`.

        May be used bit by bit while the table changes: each pool is as it is when it comes, one that goes is left out.
        """
        for key in sorted(self.pools):
            pool = self.pools.get(key)
            if pool is not None:
                yield key, [entry.endpoint.spec for entry in pool.entries.values()]

    def registrations(self) -> Iterator[tuple[str, EndpointSpec, float]]:
        """Route key, endpoint, seconds since it was last registered; bit by bit, as `routes`."""
        now = self.clock()
        for key in list(self.pools):
            pool = self.pools.get(key)
            if pool is not None:
                for entry in list(pool.entries.values()):
                    yield key, entry.endpoint.spec, now - entry.refreshed

    # -------------------------------------------------------- what coming takes

    def new_pool(self, key: str, path: str, ops: list[TableOp]) -> Pool:
        """The pool of a route that is new; `path` is its context path."""
        pool = self._make_pool(key, path)
        ops.append(pool.put)
        self.log.info("route-registered", uri=key)
        return pool

    def _make_pool(self, key: str, path: str) -> Pool:
        pool = self.pools[key] = Pool(key, path, self.settings.balancing_algorithm, {})
        self._count_hosts((key,))
        return pool

    def put(
        self, pool: Pool, entry: Entry | None, spec: EndpointSpec, packed: bytes, now: float, ops: list[TableOp]
    ) -> Entry:
        """Add an endpoint (`packed` is `spec` packed) to a pool, or put it in the place of `entry`: its entry now."""
        endpoint = self._use(spec, spec.address, packed, ops)
        address = endpoint.address
        if entry is not None:
            # What stood for the old one (the wheel, a repeat) finds it dead, and knows.
            now, entry.refreshed = max(now, entry.refreshed), DEAD
        made = pool.entries[address] = Entry(endpoint, pool, now)
        if endpoint.ages:
            self.wheel.add(made)
        if spec.source:
            self.static.add((pool.key, address))
        elif self.static:
            self.static.discard((pool.key, address))
        pool.changed = now
        self._mark(pool.key, endpoint)
        if entry is None:
            self.empty.pop(pool.key, None)
            ops.append(PutRoute(pool.key, endpoint.put.id))
            self.log.tell("endpoint-registered", about, pool.key, spec)
            self.history.happened("registered", pool.key, (address,), packed)
        else:
            old = entry.endpoint
            self._mark(pool.key, old)
            ops.append(PutRoute(pool.key, endpoint.put.id, old.put.id))
            self.history.happened("changed", pool.key, (address,), what_changed(old.spec, spec))
            self._release(old, ops)
            self.log.debug("endpoint-registered", **about(pool.key, spec))
        if spec.options is not None:
            self._complain(pool, spec.options)
            self.heed(pool, spec.options, ops)
        return made

    def put_routes(self, routes: dict[str, NewEndpoints], why: str, ops: list[TableOp]) -> None:
        """Routes that are new, by key, with their endpoints: what `new_pool` and `put` do.

        For tables that come by the hundred thousand: flat, a line of history an endpoint, and none in the log. What
        workers don't wait for is left for `settling`, or for whoever looks at it first.
        """
        pools, known, take = self.pools, self._endpoints, self._slots.take
        algorithm = self.settings.balancing_algorithm
        made: list[Entry] = []
        for key, (path, options, endpoints) in routes.items():
            entries: dict[str, Entry] = {}
            pool = pools[key] = Pool(key, path, algorithm, entries)
            if options is not NO_OPTIONS:
                self.heed(pool, options, [])
            new: list[PutEndpoint] = []
            told: list[TableOp] = [NewRoute(PutPool(key, path, pool.algorithm, pool.asked), new)]
            for spec, address, heard in endpoints:
                if address in entries:
                    continue
                packed = pack(spec)
                if address in known:
                    introduced: list[TableOp] = []
                    endpoint = self._use(spec, address, packed, introduced)
                    _tell_of(key, endpoint.put, bool(introduced), new, told)
                else:
                    put = PutEndpoint.of(self._next_id, take(), spec, packed)
                    self._next_id += 1
                    endpoint = known[address] = Endpoint.of(put, spec, address, None)
                    endpoint.uses = 1
                    if len(new) < _TOGETHER and len(told) == 1:
                        new.append(put)
                    else:
                        _tell_of(key, put, True, new, told)
                entry = entries[endpoint.address] = Entry(endpoint, pool, heard)
                made.append(entry)
                if heard > pool.changed:
                    pool.changed = heard
            ops += told
        self._uncounted.append(list(routes))
        number = len(made)
        self.digest.toggle_later(((entry.pool.key, entry.endpoint.put.packed) for entry in made), number)
        self.wheel.add_later(entry for entry in made if entry.endpoint.ages and not entry.dead)
        named = ((entry.pool.key, entry.endpoint.address) for entry in made)
        self.history.happened_later("registered", named, number, why)

    def settling(self) -> Iterator[None]:
        """Do bit by bit what `put_routes` has left for later; the table may change between any two bits."""
        while self._uncounted:
            self._count_hosts(self._uncounted.popleft())
            yield
        for part in (self.wheel, self.digest, self.history):
            while part.settle():
                yield

    def _count_hosts(self, keys: Iterable[str]) -> None:
        hosts, came = self._hosts, self.history.came
        for key in keys:
            host = key.partition("/")[0]
            hosts[host] = hosts.get(host, 0) + 1
            came(host)

    def _counted(self) -> dict[str, int]:
        """Host → its pools."""
        while self._uncounted:
            self._count_hosts(self._uncounted.popleft())
        return self._hosts

    def _mark(self, key: str, endpoint: Endpoint) -> None:
        """Count an endpoint of a route in or out; static ones are this router's own affair."""
        if not endpoint.source:
            self.digest.toggle(key, endpoint.put.packed)

    def heed(self, pool: Pool, options: RouteOptions, ops: list[TableOp]) -> None:
        """What a registration asks for holds for the whole pool, the last one wins (contract §4.5)."""
        if options.load_balancing and options.load_balancing not in self.settings.algorithms:
            options = msgspec.structs.replace(options, load_balancing="")
        options = options.over(pool.options)
        if options != pool.options:
            pool.options = options
            pool.algorithm = options.load_balancing or pool.algorithm
            ops.append(pool.put)

    def _complain(self, pool: Pool, options: RouteOptions) -> None:
        """Say what of a new registration's options is not heeded."""
        if options.asked and options.load_balancing not in self.settings.algorithms:
            why = {"error": options.problem} if options.problem else {}
            self.log.error(
                "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo",
                uri=pool.key,
                endpointLBAlgorithm=options.asked,
                poolLBAlgorithm=pool.algorithm,
                **why,
            )
        elif options.problem:
            self.log.error("invalid-route-options", uri=pool.key, error=options.problem)

    def _use(
        self, spec: EndpointSpec, address: str, packed: bytes, ops: list[TableOp], slot: int | None = None
    ) -> Endpoint:
        """The endpoint of a registration, once more in use; `slot` is for an address that has none yet."""
        newest = endpoint = self._endpoints.get(address)
        while endpoint is not None and endpoint.put.packed != packed:
            endpoint = endpoint.other
        if endpoint is None:
            if newest is not None:
                slot, address = newest.put.slot, newest.address
            elif slot is None:
                slot = self._slots.take()
            put = PutEndpoint.of(self._next_id, slot, spec, packed)
            endpoint = self._endpoints[address] = Endpoint.of(put, spec, address, newest)
            self._next_id += 1
            ops.append(put)
        endpoint.uses += 1
        return endpoint

    def reserve(self, spec: EndpointSpec, packed: bytes, slot: int, ops: list[TableOp]) -> None:
        """Let an endpoint of a new address have this slot, if nobody has it; to be followed by `put`."""
        if spec.address not in self._endpoints and self._slots.reserve(slot):
            self._use(spec, spec.address, packed, ops, slot).uses -= 1

    def _release(self, endpoint: Endpoint, ops: list[TableOp]) -> None:
        endpoint.uses -= 1
        if endpoint.uses:
            return
        before = self._endpoints[endpoint.address]
        if before is not endpoint:
            while before.other is not endpoint:
                assert before.other is not None
                before = before.other
            before.other = endpoint.other
        elif endpoint.other is not None:
            self._endpoints[endpoint.address] = endpoint.other
        else:
            del self._endpoints[endpoint.address]
            self._slots.give_back(endpoint.put.slot)
        endpoint.other = None  # whoever still holds this one holds no chain of those that went after it
        ops.append(DropEndpoint(endpoint.put.id))

    # -------------------------------------------------------- what going takes

    def remove(self, entry: Entry, now: float, ops: list[TableOp]) -> None:
        """Take an endpoint out of its pool."""
        pool, endpoint = entry.pool, entry.endpoint
        del pool.entries[endpoint.address]
        self.static.discard((pool.key, endpoint.address))
        entry.refreshed = DEAD
        pool.changed = now
        self._mark(pool.key, endpoint)
        ops.append(DropRoute(pool.key, endpoint.put.id))
        self._release(endpoint, ops)

    def drop_if_empty(self, pool: Pool, why: str, now: float, ops: list[TableOp]) -> bool:
        """A pool without endpoints goes at once, or when it has been so for `empty_pool_timeout`. True = it is gone."""
        if pool.entries:
            return False
        kept = self.settings.empty_pool_timeout if self.settings.keep_empty_pools else 0.0
        if kept > 0 and now - pool.changed <= kept:
            self.empty.setdefault(pool.key, why)
            return False
        del self.pools[pool.key]
        why = self.empty.pop(pool.key, why)
        host, hosts = host_of(pool.key), self._counted()
        hosts[host] -= 1
        if not hosts[host]:
            del hosts[host]
            self.history.went(host, why)
        ops.append(DropPool(pool.key))
        return True


def _tell_of(key: str, put: PutEndpoint, is_new: bool, new: list[PutEndpoint], ops: list[TableOp]) -> None:
    """Add an endpoint of a new route to `new`, which the `NewRoute` at the head of `ops` has; or say it behind it."""
    if is_new and len(ops) == 1 and len(new) < _TOGETHER:
        new.append(put)
        return
    if is_new:
        ops.append(put)
    ops.append(PutRoute(key, put.id))
