"""Route tables without workers: counts that a test sets, and a table as plain values that can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import byteorder
from typing import Any

from router.messages import EndpointSpec, PutEndpoint, PutPool, PutRoute, RouteOptions, TableOp
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool
from router.table.routes import RouteTable

SLOTS = 256


class Lanes:
    """In-flight counts of some workers, all zero at first."""

    def __init__(self, workers: int = 1) -> None:
        self.lanes = [[0] * SLOTS for _ in range(workers)]
        self.own = self.lanes[0]

    def totals(self, first: int, size: int) -> list[int]:
        return [sum(lane[slot] for lane in self.lanes) for slot in range(first, first + size)]

    def levels(self, first: int, size: int, foreign: int) -> bytearray | None:
        ours = foreign.to_bytes(size * 4, byteorder)
        counts = [sum(ours[n * 4 : n * 4 + 4]) + count for n, count in enumerate(self.totals(first, size))]
        return bytearray(counts) if max(counts) < 256 else None


class Named:
    """A strategy that only has a name."""

    def __init__(self, name: str, options: RouteOptions) -> None:
        self.name = name
        self.options = options


def endpoint_of(id: int, slot: int, spec: EndpointSpec, loads: Loads) -> Endpoint:
    """As control would introduce it."""
    return Endpoint(PutEndpoint.of(id, slot, spec), loads)


def table(ops: Iterable[TableOp] = (), lanes: Lanes | None = None) -> RouteTable:
    made = RouteTable(Loads(lanes or Lanes()), Named)
    made.apply(ops)
    return made


def routes(*keys: str, start: int = 1) -> list[TableOp]:
    """One endpoint a key, its id and port from `start` on."""
    ops: list[TableOp] = []
    for id, key in enumerate(keys, start):
        ops += PutEndpoint.of(id, id, EndpointSpec("10.0.0.1", id)), PutPool(key, "/", "rr"), PutRoute(key, id)
    return ops


def found(in_table: RouteTable, host: str, path: str = "/") -> str | None:
    """The key of the pool that a request would get."""
    pool = in_table.lookup(host.encode(), path.encode())
    return None if pool is None else pool.key


def contents(of: RouteTable) -> dict[str, Any]:
    """What a table holds, down to ids and slots, and what every node of its tree leads to."""

    def tree(nodes: dict[bytes, Any] | None) -> dict[bytes, Any]:
        return {name: (node.pool and node.pool.key, tree(node.children)) for name, node in (nodes or {}).items()}

    return {
        "endpoints": {id: (e.slot, e.spec) for id, e in of.endpoints.items()},
        "pools": {
            key: (pool.context_path, pool.algorithm, pool.options, pool.strategy.name, [e.id for e in pool.endpoints])
            for key, pool in of.pools.items()
        },
        "tree": tree(of.hosts),
    }


def pool_of(size: int, workers: int = 1, weights: Sequence[int] = ()) -> tuple[Pool, list[Endpoint], Lanes]:
    """A pool of `size` endpoints in slots 0 to `size` - 1, and their counts. Instances are called `i0`, `i1`, …"""
    lanes = Lanes(workers)
    loads = Loads(lanes)
    loads.now = 1000.0
    pool = Pool("a.com", "/", "any", None)
    for n in range(size):
        weight = weights[n] if weights else 1
        spec = EndpointSpec("10.0.0.1", 1000 + n, instance_id=f"i{n}", weight=weight)
        pool.put(endpoint_of(n + 1, n, spec, loads), 0)
    return pool, pool.endpoints, lanes


class Asking:
    """A request as strategies see it."""

    def __init__(self, target: bytes = b"/", **headers: bytes) -> None:
        self.attempt = 1
        self.scratch: Any = None
        self.client = b"192.0.2.1"
        self.target = target
        self._headers = {name.replace("_", "-").encode(): value for name, value in headers.items()}

    def header(self, name: bytes) -> bytes | None:
        return self._headers.get(name)
