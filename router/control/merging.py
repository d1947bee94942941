"""Tables of several routers made one: what this router tells of its own, and what it makes of another's word.

The later of two accounts of one endpoint of one route wins, whoever gives it; a stamp says when it was registered or
taken away. Two rules make "later" hold where clocks are not exact to the millisecond: a removal counts as `MARGIN`
seconds later than it was, and what this router heard after something is always stamped after it (docs/consistency.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from router.control.entries import Entry, Pool, about
from router.control.registry import MARGIN, Registry
from router.control.table import NewEndpoints
from router.messages import NO_OPTIONS, EndpointSpec, RouteOptions, TableOp, pack
from router.table.digest import bucket_of, entry_digest


class Route(msgspec.Struct, array_like=True, gc=False):
    """What another router tells of a route: some of its endpoints, each with the second in which it last registered."""

    key: str
    context_path: str
    options: RouteOptions | None
    endpoints: list[tuple[EndpointSpec, float]]


Shared = tuple[str, str, RouteOptions | None, list[tuple[bytes, float]]]
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
                yield key, pool.context_path, pool.asked, endpoints


def export_gone(registry: Registry, buckets: Collection[int] | None = None) -> Iterator[tuple[str, str, float]]:
    """What was taken away: route key, address, stamp."""
    for (key, address), stamp in registry.tombstones.items():
        if buckets is None or bucket_of(key) in buckets:
            yield key, address, stamp


def merge(registry: Registry, routes: Iterable[Route], offset: float, ops: list[TableOp]) -> int:
    """What another router knows of some routes: the number of changes that it made here.

    Stamps are by this clock when `offset` is added. The caller passes `ops` on to the registry's sink. Tables come by
    the hundred thousand: what does not depend on the route is looked up once, and what is seldom so is no call.
    """
    now, since, longest = registry.now, registry.listening_since, int(registry.settings.stale_threshold)
    pools, segments = registry.pools, registry.segments
    gone = bool(registry.tombstones) or bool(registry.unfit)
    changes = 0
    new: dict[str, NewEndpoints] = {}
    for route in routes:
        key = route.key
        heard_of: list[tuple[EndpointSpec, str, float]] = []
        for spec, stamp in route.endpoints:
            if not 0 < spec.stale_after <= longest or spec.protocol == "http2":
                spec = registry.clamped(spec)
            heard = stamp + offset
            # What is too old is refused; what never ages only if this router would have heard of it since. Static
            # endpoints are every router's own affair, and one that is none must not pass for it: it would never age.
            if spec.source or (now - heard > spec.stale_after and (not spec.tls or heard > since)):
                continue
            address = f"{spec.host}:{spec.port}"
            accepted = segments is None or spec.isolation_segment in segments
            if accepted and not (gone and registry.taken_away(key, address, heard)):
                heard_of.append((spec, address, heard))
        pool = pools.get(key)
        if pool is not None:
            for spec, _, heard in heard_of:
                changes += _merge_into(registry, pool, spec, heard, ops)
        elif heard_of:
            changes += len(heard_of)
            if key in new:
                new[key][2].extend(heard_of)
            else:
                new[key] = route.context_path, route.options or NO_OPTIONS, heard_of
            if gone:
                for _, address, _ in heard_of:
                    registry.tombstones.lift((key, address))
    if new:
        registry.put_routes(new, "another router knew it", ops)
    return changes


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
