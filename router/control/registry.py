"""The one authoritative table: which endpoints serve which routes, and since when (contract §2.3 to §2.7).

Pure: no I/O, the clock comes in as a callable. Every change goes to `sink` as table operations, in the order in which
workers are to apply them; a heartbeat that changes nothing goes nowhere and costs two look-ups and a time stamp.

Static routes (`set_static`) stand beside those from the bus: they never go stale, and nothing that comes over the bus
changes or removes them.

What other routers know comes in by `control.merging`, what holds for every change lies in `control.table`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from sys import intern

import msgspec

from router.control.entries import DEAD, Endpoint, Entry, about, component
from router.control.history import History
from router.control.table import RegistrySettings, Table
from router.control.tombstones import Tombstones
from router.messages import EndpointSpec, PutPool, TableOp, pack, unpack
from router.observe.log import Log
from router.table.uri import context_path, route_key

Sink = Callable[[list[TableOp]], None]
Repeat = Entry | tuple[Entry, ...]
"""A registration as it stands in the table, for when it is repeated: an entry that is changed is another one."""
MARGIN = 1.0
"""Seconds by which a removal is stamped late: in doubt an endpoint is gone, until it is registered again."""
_AFTER = 1e-6
"""Seconds between two things of which one is known to be the later."""


class Registry(Table):
    """Routes, pools and endpoints of this router, as those who register, unregister and configure them say."""

    def __init__(
        self,
        settings: RegistrySettings,
        sink: Sink,
        log: Log,
        *,
        capacity: int = 1 << 21,
        slot_idle: Callable[[int], bool] = lambda slot: True,
        clock: Callable[[], float] = time.monotonic,
        history: History | None = None,
    ) -> None:
        """`capacity` and `slot_idle` as in `Table`; `sink` gets the operations of every change."""
        super().__init__(settings, log, capacity, slot_idle, clock, history or History())
        self.segments = _accepted_segments(settings)
        """Isolation segments that it serves, "" for none; None = every one (contract §3.6)."""
        self.sink = sink
        self.tombstones = Tombstones(settings.stale_threshold + MARGIN)
        self.unfit = Tombstones(settings.stale_threshold + MARGIN)
        """What this router took away by its own judgement."""
        self._suspended = False
        self._updated: float | None = None
        self.listening_since = clock()
        """From when on nothing was missed but what the bus lost; monotonic seconds."""
        self.pruned = 0
        """Endpoints removed for age, since the start."""
        self._additions: dict[str, int] = {}  # by component, as the next
        self._updates: dict[str, int] = {}
        self.unregistrations: dict[str, int] = {}
        """Component → URIs unregistered."""
        self.added = 0
        """Endpoints that came to a route by a registration, since the start."""

    def reconfigure(self, settings: RegistrySettings) -> None:
        """Other settings, from now on; what is in the table stays as it is until it is registered again."""
        self.settings = settings
        self.segments = _accepted_segments(settings)

    @property
    def ms_since_update(self) -> int:
        """Milliseconds since the last accepted registration, -1 before the first."""
        return -1 if self._updated is None else int((self.clock() - self._updated) * 1000)

    @property
    def messages(self) -> dict[tuple[str, str], int]:
        """(component, `added` or `updated`) → URIs registered (contract §11.5).

        A heartbeat is an update. `unmodified` is for stale modification tags, which nothing on the bus carries (§2.4).
        """
        added = {(name, "added"): count for name, count in self._additions.items()}
        return added | {(name, "updated"): count for name, count in self._updates.items()}

    def accepts(self, segment: str) -> bool:
        """Endpoints of this isolation segment are served by this router ("" = of none, contract §3.6)."""
        return self.segments is None or segment in self.segments

    # -------------------------------------------------------- coming

    def register(self, spec: EndpointSpec, uris: Collection[str], heard: float | None = None) -> Repeat | None:
        """An endpoint says that it serves `uris` (contract §2.4). `heard` is when by this clock; None = now.

        Gives what `refresh` takes when the same is said again; None if that needs another look.
        """
        if not self.accepts(spec.isolation_segment):
            return None
        spec = self.clamped(spec)
        packed = pack(spec)
        now = self._updated = self.clock() if heard is None else heard
        address = spec.address
        ops: list[TableOp] = []
        entries: list[Entry] = []
        for uri in uris:
            key = route_key(uri)
            pool = self.pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            if pool is not None and entry is not None and entry.endpoint.put.packed == packed:
                self._heartbeat(entry, now)
                if spec.options is not None:
                    self.heed(pool, spec.options, ops)
            elif entry is not None and entry.endpoint.source:
                continue
            else:
                actions, name = self._additions if entry is None else self._updates, component(spec)
                actions[name] = actions.get(name, 0) + 1
                self.added += entry is None
                if pool is None:
                    pool = self.new_pool(key, context_path(uri), ops)
                entry = self.put(pool, entry, spec, packed, self._revived(key, address, now), ops)
            entries.append(entry)
        if ops:
            self.sink(ops)
        if spec.options is not None or len(entries) < len(uris):
            return None
        return entries[0] if len(entries) == 1 else tuple(entries)

    def refresh(self, repeat: Repeat, heard: float) -> bool:
        """The registration that gave this is repeated; False if the table has changed: then it must be read again."""
        entries = (repeat,) if isinstance(repeat, Entry) else repeat
        for entry in entries:
            if entry.refreshed == DEAD:
                return False
        for entry in entries:
            self._heartbeat(entry, heard)
        self._updated = heard
        return True

    def _heartbeat(self, entry: Entry, heard: float) -> None:
        """What stands in the table is registered again."""
        if heard > entry.refreshed:
            entry.refreshed = heard
        name = entry.endpoint.component
        self._updates[name] = self._updates.get(name, 0) + 1

    def set_static(self, routes: Iterable[tuple[str, EndpointSpec]]) -> None:
        """These (URI, endpoint) are the static routes from now on; of two with one address the first counts.

        `spec.source` tells where they come from. Those that were and are not among them go.
        """
        now = self.clock()
        ops: list[TableOp] = []
        wanted: set[tuple[str, str]] = set()
        for uri, spec in routes:
            name = key, address = route_key(uri), spec.address
            if name in wanted:
                continue
            wanted.add(name)
            pool = self.pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            packed = pack(spec)
            if entry is not None and entry.endpoint.put.packed == packed:
                continue
            if pool is None:
                pool = self.new_pool(key, context_path(uri), ops)
            self.put(pool, entry, spec, packed, now, ops)
        for key, address in self.static - wanted:
            pool = self.pools[key]
            self.log.info("endpoint-unregistered", **about(key, pool.entries[address].endpoint.spec))
            self.history.happened("unregistered", key, (address,), "removed from the static routes")
            self.remove(pool.entries[address], now, ops)
            if self.drop_if_empty(pool, "it was removed from the static routes", now, ops):
                self.log.info("route-unregistered", uri=key)
        if ops:
            self.sink(ops)

    def _revived(self, key: str, address: str, now: float) -> float:
        """The stamp of a registration heard `now`: after that of a removal that this router knows of."""
        self.unfit.lift((key, address))
        gone = self.tombstones.lift((key, address))
        return now if gone is None else max(now, gone + _AFTER)

    def taken_away(self, key: str, address: str, stamp: float) -> bool:
        """What was last heard of at `stamp` has been taken away since."""
        name = key, address
        return self.tombstones.covers(name, stamp) or self.unfit.covers(name, stamp)

    def load(self, pools: Iterable[tuple[PutPool, list[tuple[int, bytes]]]]) -> None:
        """Take up a table from a worker (`TablePart.pools`), known entries untouched.

        Everything lives on as if it were fresh as of now; what comes in counts for least against other routers' word.
        """
        now = self.clock()
        self.wheel.refresh_all(now)
        ops: list[TableOp] = []
        for put, endpoints in pools:
            pool = self.pools.get(put.key)
            if pool is None:
                pool = self.new_pool(put.key, put.context_path, ops)
                if put.options is not None:
                    self.heed(pool, put.options, ops)
            for slot, packed in endpoints:
                spec = unpack(packed)
                if spec.address not in pool.entries:
                    self.reserve(spec, packed, slot, ops)
                    self.put(pool, None, spec, packed, now - spec.stale_after, ops)
        if ops:
            self.sink(ops)

    def clamped(self, spec: EndpointSpec) -> EndpointSpec:
        """Time to live: 0 and more than the router's mean the router's own; no HTTP/2 if it is off (contract §2.3)."""
        if spec.protocol == "http2" and not self.settings.http2:
            spec = msgspec.structs.replace(spec, protocol="http1")
        threshold = int(self.settings.stale_threshold)
        if spec.stale_after == 0 or spec.stale_after > threshold:
            return msgspec.structs.replace(spec, stale_after=threshold)
        return spec

    # -------------------------------------------------------- going

    def unregister(
        self, host: str, port: int, uris: Iterable[str], segment: str = "", heard: float | None = None
    ) -> None:
        """The endpoint at this address no longer serves `uris`; nothing but the address is compared (contract §2.5).

        `heard` is when by this clock; None = now.
        """
        if not self.accepts(segment):
            return
        now = self.clock() if heard is None else heard
        wanted = EndpointSpec(host, port, isolation_segment=segment)
        address = wanted.address
        ops: list[TableOp] = []
        for uri in uris:
            key = route_key(uri)
            pool = self.pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            # Also of what is not here: another router may have it.
            gone = now + MARGIN if entry is None else max(now + MARGIN, entry.refreshed + _AFTER)
            self.tombstones.bury((key, address), gone)
            if pool is None:
                continue
            if entry is not None and entry.endpoint.source:
                continue
            if entry is not None:
                name = component(entry.endpoint.spec)
                self.unregistrations[name] = self.unregistrations.get(name, 0) + 1
                self.log.info("endpoint-unregistered", **about(pool.key, entry.endpoint.spec))
                self.history.happened("unregistered", pool.key, (address,), "it said so")
                self.remove(entry, now, ops)
            else:
                self.log.info("endpoint-not-unregistered", **about(pool.key, wanted))
            if self.drop_if_empty(pool, "its last instance unregistered", now, ops):
                self.log.info("route-unregistered", uri=pool.key)
        if ops:
            self.sink(ops)

    def remove_unfit(self, key: str, id: int, reason: str) -> None:
        """A TLS endpoint that failed leaves its pool at once, until it is registered again (contract §7.4)."""
        pool = self.pools.get(key)
        entry = next((e for e in pool.entries.values() if e.endpoint.put.id == id), None) if pool is not None else None
        if entry is None or not entry.endpoint.tls or entry.endpoint.source:
            return
        self.log.error("prune-failed-endpoint", **about(key, entry.endpoint.spec), error=reason)
        self.history.happened("ejected", key, (entry.endpoint.address,), reason)
        now = self.clock()
        ops: list[TableOp] = []
        self.unfit.bury((key, entry.endpoint.address), max(now, entry.refreshed))
        self.remove(entry, now, ops)
        if pool is not None and not pool.entries:
            self.empty.setdefault(key, f"its last instance failed: {reason}")
        self.sink(ops)

    def prune(self, bus_connected: bool = True) -> None:
        """Remove what has not been registered for longer than its time to live (contract §2.7)."""
        if self.settings.suspend_pruning:
            if not bus_connected:
                self._suspended = True
                self.log.info("prune-suspended")
                return
            if self._suspended:
                self._suspended = False
                self._refresh_all()
        now = self.clock()
        self.tombstones.expire(now)
        self.unfit.expire(now)
        ops: list[TableOp] = []
        pruned: dict[str, list[Endpoint]] = {}
        for entry in self.wheel.expired(now):
            gone = entry.endpoint
            pruned.setdefault(entry.pool.key, []).append(gone)
            # Of these sentences tens of thousands are remembered, and few are different.
            why = intern(f"not registered for {now - entry.refreshed:.0f} s, its time to live is {gone.stale_after} s")
            last = intern(f"its last instance had not registered for {gone.stale_after} s")
            self.history.happened("pruned", entry.pool.key, (gone.address,), why)
            self.remove(entry, now, ops)
            self.drop_if_empty(entry.pool, last, now, ops)
        for key in list(self.empty):
            self.drop_if_empty(self.pools[key], self.empty[key], now, ops)
        for key, endpoints in pruned.items():
            self.pruned += len(endpoints)
            self.log.info(
                "pruned-route",
                uri=key,
                endpoints=[endpoint.address for endpoint in endpoints],
                isolation_segment=endpoints[0].spec.isolation_segment or "-",
            )
        if ops:
            self.sink(ops)

    def _refresh_all(self) -> None:
        self.log.debug("prune-unsuspended-refresh-routes-start")
        now = self.clock()
        self.wheel.refresh_all(now)
        for key in self.empty:
            self.pools[key].changed = now
        self.log.debug("prune-unsuspended-refresh-routes-complete")


def _accepted_segments(settings: RegistrySettings) -> frozenset[str] | None:
    """Isolation segments that this router serves, "" for none; None = every one (contract §3.6)."""
    match settings.sharding_mode:
        case "segments":
            return settings.isolation_segments
        case "shared-and-segments":
            return settings.isolation_segments | {""}
        case _:
            return None
