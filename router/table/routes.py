"""The routing table of a worker: host → path → pool (contract §3.3).

One dict look-up finds the host; only hosts that have routes with a path walk on, one look-up a path segment. So a
look-up costs the same with one route and with a million. Keys are the lower-cased bytes of the request, undecoded:
what a backend will see is what was routed by.

A table is built and changed by table operations only (`apply`), from the feed; it does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from router.messages import (
    NO_OPTIONS,
    DropEndpoint,
    DropPool,
    DropRoute,
    NewRoute,
    PutEndpoint,
    PutPool,
    PutRoute,
    RouteOptions,
    SetHealth,
    TableOp,
)
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool

StrategyMaker = Callable[[str, RouteOptions], Any]


class Node:
    """A host or a path segment below one: the pool that is registered there, and what lies deeper."""

    __slots__ = ("children", "pool")

    def __init__(self) -> None:
        self.pool: Pool | None = None
        self.children: dict[bytes, Node] | None = None


class RouteTable:
    """Routes, pools and endpoints. `make_strategy(name, options)` gives a new pool its strategy object."""

    def __init__(self, loads: Loads, make_strategy: StrategyMaker) -> None:
        self.hosts: dict[bytes, Node] = {}
        self.pools: dict[str, Pool] = {}
        self.endpoints: dict[int, Endpoint] = {}
        self.loads = loads
        self._make_strategy = make_strategy
        self.on_health: Callable[[Pool, Endpoint, str], None] = lambda pool, endpoint, reason: None
        """Hears what active checks say of an endpoint of a pool."""
        self._appliers: dict[type, Callable[[Any], None]] = {
            PutEndpoint: self._put_endpoint,
            DropEndpoint: self._drop_endpoint,
            PutPool: self._put_pool,
            DropPool: self._drop_pool,
            PutRoute: self._put_route,
            NewRoute: self._new_route,
            DropRoute: self._drop_route,
            SetHealth: self._set_health,
        }

    # ------------------------------------------------------------ look-up

    def lookup(self, host: bytes, path: bytes) -> Pool | None:
        """The pool for a lower-cased host without port and a raw path (may carry a query); None = unknown route.

        The pool may be empty (contract §3.4). A host with a trailing dot that is not registered so means the same
        host without it (RFC 3986 §3.2.2).
        """
        node = self.hosts.get(host)
        if node is not None:
            pool = node.pool if node.children is None else _walk(node, path)
            if pool is not None:
                return pool
        dot = host.find(b".")
        while dot >= 0:
            # Near wildcards win over wide ones; `*` alone is no route.
            node = self.hosts.get(b"*" + host[dot:])
            if node is not None:
                pool = _walk(node, path)
                if pool is not None:
                    return pool
            dot = host.find(b".", dot + 1)
        if host.endswith(b"."):
            return self.lookup(host[:-1], path)
        return None

    # ------------------------------------------------------------ changes

    def apply(self, ops: Iterable[TableOp]) -> None:
        """Apply table operations in order. Operations on what is not there are without effect."""
        appliers = self._appliers
        for op in ops:
            appliers[type(op)](op)

    def _put_endpoint(self, op: PutEndpoint) -> None:
        self.endpoints[op.id] = Endpoint(op, self.loads)

    def _drop_endpoint(self, op: DropEndpoint) -> None:
        endpoint = self.endpoints.pop(op.id, None)
        if endpoint is not None and endpoint.connections is not None:
            endpoint.connections.close()

    def _put_pool(self, op: PutPool) -> None:
        pool = self.pools.get(op.key)
        options = op.options or NO_OPTIONS
        if pool is None:
            strategy = self._make_strategy(op.algorithm, options)
            pool = self.pools[op.key] = Pool(op.key, op.context_path, op.algorithm, strategy, options)
            self._node(op.key).pool = pool
        elif pool.algorithm != op.algorithm or pool.options != options:
            pool.algorithm = op.algorithm
            pool.options = options
            pool.use(self._make_strategy(op.algorithm, options))

    def _drop_pool(self, op: DropPool) -> None:
        if self.pools.pop(op.key, None) is not None:
            self._cut(op.key)

    def _put_route(self, op: PutRoute) -> None:
        pool = self.pools.get(op.key)
        endpoint = self.endpoints.get(op.id)
        if pool is not None and endpoint is not None:
            pool.put(endpoint, op.replaces)

    def _new_route(self, op: NewRoute) -> None:
        self._put_pool(op.pool)
        pool, loads, endpoints = self.pools[op.pool.key], self.loads, self.endpoints
        for put in op.endpoints:
            endpoint = endpoints[put.id] = Endpoint(put, loads)
            pool.put(endpoint, 0)

    def _drop_route(self, op: DropRoute) -> None:
        pool = self.pools.get(op.key)
        if pool is not None:
            pool.drop(op.id)

    def _set_health(self, op: SetHealth) -> None:
        pool = self.pools.get(op.key)
        endpoint = self.endpoints.get(op.id)
        if pool is not None and endpoint is not None:
            self.on_health(pool, endpoint, op.reason)

    def _node(self, key: str) -> Node:
        """The node of a route key, made with all that leads to it."""
        host, *segments = key.encode("utf-8", "surrogateescape").split(b"/")
        node = self.hosts.get(host)
        if node is None:
            node = self.hosts[host] = Node()
        for segment in segments:
            if node.children is None:
                node.children = {}
            child = node.children.get(segment)
            if child is None:
                child = node.children[segment] = Node()
            node = child
        return node

    def _cut(self, key: str) -> None:
        """Take a route key out of the tree, with every node that led only to it."""
        host, *segments = key.encode("utf-8", "surrogateescape").split(b"/")
        trail = [self.hosts[host]]
        for segment in segments:
            trail.append((trail[-1].children or {})[segment])
        trail[-1].pool = None
        for parent, segment in zip(reversed(trail[:-1]), reversed(segments), strict=True):
            node = trail.pop()
            if node.pool is not None or node.children is not None:
                return
            assert parent.children is not None
            del parent.children[segment]
            if not parent.children:
                parent.children = None
        if trail[0].pool is None and trail[0].children is None:
            del self.hosts[host]

    # ------------------------------------------------------------ the whole of it

    def inherit(self, old: RouteTable) -> None:
        """Take over idle connections and failure marks from the table that this one replaces."""
        by_slot: dict[int, list[Endpoint]] = {}  # one slot an address, also over control's restart
        for endpoint in old.endpoints.values():
            if endpoint.connections is not None or endpoint.failed_at:
                by_slot.setdefault(endpoint.slot, []).append(endpoint)
        for endpoint in self.endpoints.values():
            endpoint.warm_since = 0.0  # a whole table is no endpoint that has just come
            for predecessor in by_slot.get(endpoint.slot, ()):
                if predecessor.address == endpoint.address:
                    endpoint.succeed(predecessor)
        for endpoint in old.endpoints.values():
            if endpoint.connections is not None:
                endpoint.connections.close()

    def dump(self) -> Iterator[tuple[PutPool, list[tuple[int, bytes]]]]:
        """Every pool, and (slot, packed endpoint) in order."""
        for pool in self.pools.values():
            options = None if pool.options is NO_OPTIONS else pool.options
            put = PutPool(pool.key, pool.context_path, pool.algorithm, options)
            yield put, [(endpoint.slot, endpoint.packed) for endpoint in pool.endpoints]


def _walk(node: Node, path: bytes) -> Pool | None:
    """The pool with the longest path below `node` that leads to `path`, at segment borders, without case.

    A pool with endpoints wins over a longer empty one; an empty pool counts only where the walk ends (contract §3.3).
    """
    query = path.find(b"?")
    if query >= 0:
        path = path[:query]
    if path.endswith(b"/"):
        path = path[:-1]
    best = node.pool if node.pool is not None and node.pool.endpoints else None
    for segment in path.lower().split(b"/")[1:]:
        child = node.children.get(segment) if node.children is not None else None
        if child is None:
            break
        node = child
        if node.pool is not None and node.pool.endpoints:
            best = node.pool
    return best if best is not None else node.pool
