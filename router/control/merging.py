"""Tables of several routers made one: what this router tells of its own, and what it makes of another's word.

The later of two accounts of one endpoint of one route wins, whoever gives it; a stamp says when it was registered or
taken away. Two rules make "later" hold where clocks are not exact to the millisecond: a removal counts as `MARGIN`
seconds later than it was, and what this router heard after something is always stamped after it (docs/consistency.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from router.control.entries import Entry, Pool, about
from router.control.registry import MARGIN, Registry
from router.messages import EndpointSpec, RouteOptions, TableOp, pack
from router.table.digest import bucket_of, entry_digest

Shared = tuple[str, str, RouteOptions, list[tuple[bytes, float]]]
"""A route for another router: key, context path, options, packed endpoints with the monotonic second of their stamp."""


def export(registry: Registry, buckets: Collection[int] | None = None) -> Iterator[Shared]:
    """The table for another router: all of it, or that of some buckets (`table.digest`).

    May be used bit by bit while the table changes, as `routes`.
    """
    for key in list(registry.pools):
        if buckets is not None and bucket_of(key) not in buckets:
            continue
        pool = registry.pools.get(key)
        if pool is not None:
            endpoints = [(e.endpoint.put.packed, e.refreshed) for e in pool.entries.values() if not e.endpoint.source]
            if endpoints:
                yield key, pool.context_path, pool.options, endpoints


def export_gone(registry: Registry, buckets: Collection[int] | None = None) -> Iterator[tuple[str, str, float]]:
    """What was taken away: route key, address, stamp."""
    for (key, address), stamp in registry.tombstones.items():
        if buckets is None or bucket_of(key) in buckets:
            yield key, address, stamp


def merge(
    registry: Registry,
    key: str,
    path: str,
    options: RouteOptions,
    endpoints: Iterable[tuple[EndpointSpec, float]],
    offset: float,
    ops: list[TableOp],
) -> int:
    """What another router knows of a route: the number of changes that it made here.

    Stamps are by this clock when `offset` is added. The caller passes `ops` on to the registry's sink.
    """
    now, accepts, clamped = registry.now, registry.accepts, registry.clamped
    gone = bool(registry.tombstones) or bool(registry.unfit)
    news: list[tuple[EndpointSpec, str, float]] = []
    for told, stamp in endpoints:
        spec, heard = clamped(told), stamp + offset
        # What is too old is refused; what never ages only if this router would have heard of it since.
        if now - heard > spec.stale_after and (not spec.tls or heard > registry.listening_since):
            continue
        address = spec.address
        if accepts(spec.isolation_segment) and not (gone and registry.taken_away(key, address, heard)):
            news.append((spec, address, heard))
    pool = registry.pools.get(key)
    if pool is not None:
        return sum(_merge_into(registry, pool, spec, heard, ops) for spec, _, heard in news)
    if news:
        ops += registry.put_route(key, path, options, news, "another router knew it")
        if gone:
            for _, address, _ in news:
                registry.tombstones.lift((key, address))
    return len(news)


def _merge_into(registry: Registry, pool: Pool, spec: EndpointSpec, heard: float, ops: list[TableOp]) -> bool:
    """Merge one endpoint into a pool that is there; True if that changed something."""
    packed = pack(spec)
    entry = pool.entries.get(spec.address)
    if entry is not None:
        known = entry.endpoint
        if known.put.packed == packed:
            entry.refreshed = max(entry.refreshed, heard)
            return False
        if known.source:
            return False
        if (heard, entry_digest(pool.key, packed)) < (entry.refreshed, entry_digest(pool.key, known.put.packed)):
            return False
    registry.tombstones.lift((pool.key, spec.address))
    registry.put(pool, entry, spec, packed, heard, ops)
    return True


def merge_gone(registry: Registry, key: str, address: str, stamp: float, ops: list[TableOp]) -> int:
    """Another router knows that this was taken away: the number of changes that it made here. `ops` as in `merge`."""
    now = registry.now
    if now - stamp > registry.settings.stale_threshold + MARGIN:
        return 0
    pool = registry.pools.get(key)
    entry = pool.entries.get(address) if pool is not None else None
    if entry is not None and (entry.refreshed > stamp or entry.endpoint.source):
        return 0
    registry.tombstones.bury((key, address), stamp)
    if pool is None or entry is None:
        return 0
    _take_out(registry, pool, entry, "its last instance unregistered, as another router heard", now, ops)
    return 1


def forget_unknown(
    registry: Registry, buckets: Collection[int], known: Collection[tuple[str, str]], since: float
) -> int:
    """Endpoints that do not age, in these buckets, which a router listening from `since` on does not know.

    If it was listening when they last registered here, they have been taken away since, too long ago for a
    tombstone. Gives the number of changes.
    """
    now = registry.now
    oldest = now - registry.settings.stale_threshold
    lost = [
        (pool, entry)
        for key in list(registry.pools)
        if bucket_of(key) in buckets
        for pool in [registry.pools[key]]
        for entry in pool.entries.values()
        if entry.endpoint.tls
        and not entry.endpoint.source
        and since < entry.refreshed < oldest
        and (key, entry.endpoint.address) not in known
    ]
    ops: list[TableOp] = []
    for pool, entry in lost:
        _take_out(registry, pool, entry, "its last instance unregistered while this router did not listen", now, ops)
    if ops:
        registry.sink(ops)
    return len(lost)


def _take_out(registry: Registry, pool: Pool, entry: Entry, why: str, now: float, ops: list[TableOp]) -> None:
    registry.log.info("endpoint-unregistered", **about(pool.key, entry.endpoint.spec))
    registry.remove(entry, now, ops)
    if registry.drop_if_empty(pool, why, now, ops):
        registry.log.info("route-unregistered", uri=pool.key)
