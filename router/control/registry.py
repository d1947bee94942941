"""The one authoritative table: which endpoints serve which routes, and since when (contract §2.3 to §2.7).

Pure: no I/O, the clock comes in as a callable. Every change goes to `sink` as table operations, in the order in which
workers are to apply them; a heartbeat that changes nothing goes nowhere and costs two look-ups and a time stamp.

Static routes (`set_static`) stand beside those from the bus: they never go stale, and nothing that comes over the bus
changes or removes them.

Three things tell workers what is what: the key of a pool; the `id` of an endpoint, which equal registrations share and
which is never used again; and the `slot` of an address in the block of in-flight counts (`control.slots`).

Routers compare and merge their tables (`export`, `merge`, `merge_gone`). The later of two accounts of one endpoint of
one route wins, whoever gives it; a stamp says when it was registered or taken away. Two rules make "later" hold where
clocks are not exact to the millisecond: a removal counts as `MARGIN` seconds later than it was, and what this router
heard after something is always stamped after it (docs/consistency.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec

from router.control.history import LONGEST_NAME, Event, History, batches, nearest
from router.control.slots import Slots
from router.control.staleness import Wheel
from router.control.tombstones import Tombstones
from router.messages import (
    NO_OPTIONS,
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    PutEndpoint,
    PutPool,
    PutRoute,
    RouteOptions,
    TableOp,
)
from router.observe.log import Log
from router.table.digest import TableDigest, bucket_of, entry_digest
from router.table.interned import interned
from router.table.uri import context_path, host_of, route_key

Sink = Callable[[list[TableOp]], None]
Shared = tuple[str, str, RouteOptions, list[tuple[EndpointSpec, float]]]
"""A route for another router: key, context path, options, endpoints with the monotonic second of their stamp."""
_PATHS_SHOWN = 5
MARGIN = 1.0
"""Seconds by which a removal is stamped late: in doubt an endpoint is gone, until it is registered again."""
_AFTER = 1e-6
"""Seconds between two things of which one is known to be the later."""
_DEAD = -math.inf


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


class _Endpoint:
    """A registration as workers know it, shared by all pools in which it stands.

    `other` is another one of the same address, if the address stands differently in different pools, and so on.
    """

    __slots__ = ("address", "id", "other", "slot", "spec", "uses")

    def __init__(self, id: int, slot: int, spec: EndpointSpec, address: str, other: _Endpoint | None) -> None:
        self.id = id
        self.slot = slot
        self.spec = spec
        self.address = address
        self.other = other
        self.uses = 0


class _Entry:
    """An endpoint's place in one pool, and when it was last registered there."""

    __slots__ = ("endpoint", "pool", "refreshed")

    def __init__(self, endpoint: _Endpoint, pool: _Pool, now: float) -> None:
        self.endpoint = endpoint
        self.pool = pool
        self.refreshed = now

    @property
    def time_to_live(self) -> float:
        return self.endpoint.spec.stale_after

    @property
    def dead(self) -> bool:
        """Gone from its pool, or another entry stands in its place."""
        return self.refreshed == _DEAD


class _Pool:
    __slots__ = ("algorithm", "changed", "context_path", "entries", "key", "options")

    def __init__(self, key: str, path: str, algorithm: str) -> None:
        self.key = key
        self.context_path = path
        self.algorithm = algorithm
        self.options = NO_OPTIONS
        self.entries: dict[str, _Entry] = {}  # by address
        self.changed = 0.0
        """When an endpoint last came, changed or went; monotonic seconds."""

    @property
    def put(self) -> PutPool:
        """The operation that tells workers."""
        return PutPool(
            self.key, self.context_path, self.algorithm, None if self.options is NO_OPTIONS else self.options
        )


Repeat = tuple[tuple[_Entry, _Endpoint], ...]
"""A registration as it stands in the table, for when it is repeated."""


class Registry:
    """Routes, pools and endpoints of this router."""

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
        """`capacity` is the number of slots of the in-flight block; `slot_idle` tells whether one may be given anew."""
        self._settings = settings
        self._segments = _accepted_segments(settings)
        self._sink = sink
        self._log = log
        self._clock = clock
        self._history = history or History()
        self._pools: dict[str, _Pool] = {}
        self._hosts: dict[str, int] = {}  # host → its pools
        self._endpoints: dict[str, _Endpoint] = {}  # by address
        self._next_id = 1
        self._slots = Slots(capacity, slot_idle)
        self._wheel: Wheel[_Entry] = Wheel()
        self._empty: dict[str, str] = {}  # keys of pools that wait for `empty_pool_timeout`, and why they are empty
        self._tombstones = Tombstones(settings.stale_threshold + MARGIN)
        self._unfit = Tombstones(settings.stale_threshold + MARGIN)  # by this router's own judgement
        self._suspended = False
        self._static: set[tuple[str, str]] = set()  # (route key, address) of static entries
        self._updated: float | None = None
        self.digest = TableDigest()
        self.listening_since = clock()
        """From when on nothing was missed but what the bus lost; monotonic seconds."""
        self.pruned = 0
        """Endpoints removed for age, since the start."""
        self.messages: dict[tuple[str, str], int] = {}
        """(component, `added`, `updated` or `unmodified`) → URIs registered."""
        self.unregistrations: dict[str, int] = {}
        """Component → URIs unregistered."""

    def reconfigure(self, settings: RegistrySettings) -> None:
        """Other settings, from now on; what is in the table stays as it is until it is registered again."""
        self._settings = settings
        self._segments = _accepted_segments(settings)

    # -------------------------------------------------------- what is there

    def __len__(self) -> int:
        """Number of pools, empty ones included."""
        return len(self._pools)

    @property
    def addresses(self) -> int:
        """Number of distinct `host:port`."""
        return len(self._endpoints)

    @property
    def hosts(self) -> Collection[str]:
        """Hosts that have a route, wildcards included."""
        return self._hosts.keys()

    @property
    def now(self) -> float:
        """This registry's clock: monotonic seconds, as its stamps are."""
        return self._clock()

    @property
    def ms_since_update(self) -> int:
        """Milliseconds since the last accepted registration, -1 before the first."""
        return -1 if self._updated is None else int((self._clock() - self._updated) * 1000)

    def snapshot(self) -> Iterator[TableOp]:
        """The whole table as operations on an empty one, to be used before anything changes."""
        for newest in self._endpoints.values():
            endpoint: _Endpoint | None = newest
            while endpoint is not None:
                yield PutEndpoint(endpoint.id, endpoint.slot, endpoint.spec)
                endpoint = endpoint.other
        for pool in self._pools.values():
            yield pool.put
            for entry in pool.entries.values():
                yield PutRoute(pool.key, entry.endpoint.id)

    def routes(self) -> Iterator[tuple[str, list[EndpointSpec]]]:
        """Keys in order, endpoints in pool order, for `/routes`.

        May be used bit by bit while the table changes: each pool is as it is when it comes, one that goes is left out.
        """
        for key in sorted(self._pools):
            pool = self._pools.get(key)
            if pool is not None:
                yield key, [entry.endpoint.spec for entry in pool.entries.values()]

    def history(self, host: str) -> list[Event]:
        """What happened to a host's routes, oldest first."""
        return self._history.of(host)

    def registrations(self) -> Iterator[tuple[str, EndpointSpec, float]]:
        """Route key, endpoint, seconds since it was last registered; bit by bit, as `routes`."""
        now = self._clock()
        for key in list(self._pools):
            pool = self._pools.get(key)
            if pool is not None:
                for entry in list(pool.entries.values()):
                    yield key, entry.endpoint.spec, now - entry.refreshed

    def explain_missing(self, host: str) -> list[str]:
        """Lines for a person about a host (lower case, no port) for which a request found no route."""
        if len(host) > LONGEST_NAME:
            return [f"No host name is longer than {LONGEST_NAME} letters."]
        lines = [
            f"{name} has routes for these paths only: {', '.join(paths)}"
            for name in (host, *_wildcards(host))
            if name in self._hosts and (paths := self._paths(name))
        ]
        if f"*.{host}" in self._hosts:
            lines.append(f"*.{host} has routes, but a wildcard does not cover {host} itself.")
        lines += self._history.explain(host)
        if not lines and (near := nearest(host, self.hosts)):
            lines.append(f"Registered hosts that come near: {', '.join(near)}")
        return lines or ["No registered host comes near."]

    def _paths(self, host: str) -> list[str]:
        """Some paths for which a host has routes."""
        beginning = f"{host}/"
        found: list[str] = []
        for batch in batches(self._pools):
            found += [key[len(host) :] for key in batch if key.startswith(beginning)]
            if len(found) >= min(self._hosts[host], _PATHS_SHOWN):
                break
        return sorted(found)[:_PATHS_SHOWN]

    # -------------------------------------------------------- coming

    def register(self, spec: EndpointSpec, uris: Iterable[str], heard: float | None = None) -> Repeat | None:
        """An endpoint says that it serves `uris` (contract §2.4). `heard` is when by this clock; None = now.

        Gives what `refresh` takes when the same is said again; None if that needs another look.
        """
        if self._segments is not None and spec.isolation_segment not in self._segments:
            return None
        spec = self._clamped(spec)
        now = self._updated = self._clock() if heard is None else heard
        address = spec.address
        ops: list[TableOp] = []
        same: list[_Entry] | None = [] if spec.options is None else None
        for uri in uris:
            key = route_key(uri)
            pool = self._pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            if pool is not None and entry is not None and entry.endpoint.spec == spec:
                self._count(spec, "unmodified")
                if now > entry.refreshed:
                    entry.refreshed = now
                if same is not None:
                    same.append(entry)
                if spec.options is not None:
                    self._heed(pool, spec.options, ops)
                continue
            same = None
            if entry is not None and entry.endpoint.spec.source:
                continue
            self._count(spec, "added" if entry is None else "updated")
            if pool is None:
                pool = self._new_pool(key, context_path(uri), ops)
            self._put(pool, entry, spec, address, self._revived(key, address, now), ops)
        if ops:
            self._sink(ops)
        return tuple((entry, entry.endpoint) for entry in same) if same else None

    def refresh(self, repeat: Repeat, heard: float) -> bool:
        """The registration that gave this is repeated; False if the table has changed: then it must be read again."""
        for entry, endpoint in repeat:
            if entry.endpoint is not endpoint or entry.refreshed == _DEAD:
                return False
        for entry, _ in repeat:
            if heard > entry.refreshed:
                entry.refreshed = heard
        self._updated = heard
        return True

    def _count(self, spec: EndpointSpec, action: str) -> None:
        """A registration of one URI (contract §11.5 `registry_message`)."""
        name = (component(spec), action)
        self.messages[name] = self.messages.get(name, 0) + 1

    def set_static(self, routes: Iterable[tuple[str, EndpointSpec]]) -> None:
        """These (URI, endpoint) are the static routes from now on; of two with one address the first counts.

        `spec.source` tells where they come from. Those that were and are not among them go.
        """
        now = self._clock()
        ops: list[TableOp] = []
        wanted: set[tuple[str, str]] = set()
        for uri, spec in routes:
            name = key, address = route_key(uri), spec.address
            if name in wanted:
                continue
            wanted.add(name)
            pool = self._pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            if entry is not None and entry.endpoint.spec == spec:
                continue
            if pool is None:
                pool = self._new_pool(key, context_path(uri), ops)
            self._put(pool, entry, spec, address, now, ops)
        for key, address in self._static - wanted:
            pool = self._pools[key]
            self._log.info("endpoint-unregistered", **_about(key, pool.entries[address].endpoint.spec))
            self._history.happened("unregistered", key, address, "removed from the static routes")
            self._remove(pool.entries[address], now, ops)
            if self._drop_if_empty(pool, "it was removed from the static routes", now, ops):
                self._log.info("route-unregistered", uri=key)
        if ops:
            self._sink(ops)

    def _revived(self, key: str, address: str, now: float) -> float:
        """The stamp of a registration heard `now`: after that of a removal that this router knows of."""
        self._unfit.lift((key, address))
        gone = self._tombstones.lift((key, address))
        return now if gone is None else max(now, gone + _AFTER)

    def load(self, pools: Iterable[tuple[PutPool, list[tuple[int, EndpointSpec]]]]) -> None:
        """Take up a table from a worker (`TablePart.pools`), known entries untouched.

        Everything lives on as if it were fresh as of now; what comes in counts for least against other routers' word.
        """
        now = self._clock()
        self._wheel.refresh_all(now)
        ops: list[TableOp] = []
        for put, endpoints in pools:
            pool = self._pools.get(put.key)
            if pool is None:
                pool = self._new_pool(put.key, put.context_path, ops)
                if put.options is not None:
                    self._heed(pool, put.options, ops)
            for slot, spec in endpoints:
                address = spec.address
                if address not in pool.entries:
                    if address not in self._endpoints and self._slots.reserve(slot):
                        self._use(spec, address, ops, slot).uses -= 1
                    self._put(pool, None, spec, address, now - spec.stale_after, ops)
        if ops:
            self._sink(ops)

    def _new_pool(self, key: str, path: str, ops: list[TableOp]) -> _Pool:
        pool = self._pools[key] = _Pool(key, path, self._settings.balancing_algorithm)
        host = host_of(key)
        self._hosts[host] = self._hosts.get(host, 0) + 1
        self._history.came(host)
        ops.append(pool.put)
        self._log.info("route-registered", uri=key)
        return pool

    def _put(
        self, pool: _Pool, entry: _Entry | None, spec: EndpointSpec, address: str, now: float, ops: list[TableOp]
    ) -> None:
        """Add an endpoint to a pool, or put it in the place of `entry`."""
        endpoint = self._use(spec, address, ops)
        old = entry.endpoint if entry is not None else None
        if entry is not None and old is not None and _ages_alike(old.spec, spec):
            entry.endpoint = endpoint
            entry.refreshed = max(now, entry.refreshed)
        else:
            # A new one also where the time to live changes: the old one stays in the wheel, dead, until it is due.
            if entry is not None:
                now, entry.refreshed = max(now, entry.refreshed), _DEAD
            entry = pool.entries[endpoint.address] = _Entry(endpoint, pool, now)
            if not (spec.tls or spec.source):
                self._wheel.add(entry)
        if spec.source:
            self._static.add((pool.key, address))
        else:
            self._static.discard((pool.key, address))
        pool.changed = now
        if old is not None:
            self._mark(pool.key, old.spec)
        self._mark(pool.key, spec)
        if old is None:
            self._empty.pop(pool.key, None)
            ops.append(PutRoute(pool.key, endpoint.id))
            self._log.info("endpoint-registered", **_about(pool.key, spec))
            self._history.happened("registered", pool.key, address, _who(spec))
        else:
            ops.append(PutRoute(pool.key, endpoint.id, old.id))
            self._history.happened("changed", pool.key, address, _what_changed(old.spec, spec))
            self._release(old, ops)
            self._log.debug("endpoint-registered", **_about(pool.key, spec))
        if spec.options is not None:
            self._complain(pool, spec.options)
            self._heed(pool, spec.options, ops)

    def _mark(self, key: str, spec: EndpointSpec) -> None:
        """Count an endpoint of a route in or out; static ones are this router's own affair."""
        if not spec.source:
            self.digest.toggle(key, spec)

    def _heed(self, pool: _Pool, options: RouteOptions, ops: list[TableOp]) -> None:
        """What a registration asks for holds for the whole pool, the last one wins (contract §4.5)."""
        if options.load_balancing and options.load_balancing not in self._settings.algorithms:
            options = msgspec.structs.replace(options, load_balancing="")
        options = options.over(pool.options)
        if options != pool.options:
            pool.options = options
            pool.algorithm = options.load_balancing or pool.algorithm
            ops.append(pool.put)

    def _complain(self, pool: _Pool, options: RouteOptions) -> None:
        """Say what of a new registration's options is not heeded."""
        if options.asked and options.load_balancing not in self._settings.algorithms:
            about = {"error": options.problem} if options.problem else {}
            self._log.error(
                "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo",
                uri=pool.key,
                endpointLBAlgorithm=options.asked,
                poolLBAlgorithm=pool.algorithm,
                **about,
            )
        elif options.problem:
            self._log.error("invalid-route-options", uri=pool.key, error=options.problem)

    def _clamped(self, spec: EndpointSpec) -> EndpointSpec:
        """Time to live: 0 and more than the router's mean the router's own; no HTTP/2 if it is off (contract §2.3)."""
        if spec.protocol == "http2" and not self._settings.http2:
            spec = msgspec.structs.replace(spec, protocol="http1")
        threshold = int(self._settings.stale_threshold)
        if spec.stale_after == 0 or spec.stale_after > threshold:
            return msgspec.structs.replace(spec, stale_after=threshold)
        return spec

    def _use(self, spec: EndpointSpec, address: str, ops: list[TableOp], slot: int | None = None) -> _Endpoint:
        """The endpoint of a registration, once more in use; `slot` is for an address that has none yet."""
        newest = endpoint = self._endpoints.get(address)
        while endpoint is not None and endpoint.spec != spec:
            endpoint = endpoint.other
        if endpoint is None:
            spec = interned(spec)
            if newest is not None:
                slot, address = newest.slot, newest.address
            elif slot is None:
                slot = self._slots.take()
            endpoint = self._endpoints[address] = _Endpoint(self._next_id, slot, spec, address, newest)
            self._next_id += 1
            ops.append(PutEndpoint(endpoint.id, endpoint.slot, spec))
        endpoint.uses += 1
        return endpoint

    def _release(self, endpoint: _Endpoint, ops: list[TableOp]) -> None:
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
            self._slots.give_back(endpoint.slot)
        ops.append(DropEndpoint(endpoint.id))

    # -------------------------------------------------------- going

    def unregister(
        self, host: str, port: int, uris: Iterable[str], segment: str = "", heard: float | None = None
    ) -> None:
        """The endpoint at this address no longer serves `uris`; nothing but the address is compared (contract §2.5).

        `heard` is when by this clock; None = now.
        """
        if self._segments is not None and segment not in self._segments:
            return
        now = self._clock() if heard is None else heard
        wanted = EndpointSpec(host, port, isolation_segment=segment)
        address = wanted.address
        ops: list[TableOp] = []
        for uri in uris:
            key = route_key(uri)
            pool = self._pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            # Also of what is not here: another router may have it.
            gone = now + MARGIN if entry is None else max(now + MARGIN, entry.refreshed + _AFTER)
            self._tombstones.bury((key, address), gone)
            if pool is None:
                continue
            if entry is not None and entry.endpoint.spec.source:
                continue
            if entry is not None:
                name = component(entry.endpoint.spec)
                self.unregistrations[name] = self.unregistrations.get(name, 0) + 1
                self._log.info("endpoint-unregistered", **_about(pool.key, entry.endpoint.spec))
                self._history.happened("unregistered", pool.key, wanted.address, "it said so")
                self._remove(entry, now, ops)
            else:
                self._log.info("endpoint-not-unregistered", **_about(pool.key, wanted))
            if self._drop_if_empty(pool, "its last instance unregistered", now, ops):
                self._log.info("route-unregistered", uri=pool.key)
        if ops:
            self._sink(ops)

    def remove_unfit(self, key: str, id: int, reason: str) -> None:
        """A TLS endpoint that failed leaves its pool at once, until it is registered again (contract §7.4).

        XX
        """
        pool = self._pools.get(key)
        entry = next((e for e in pool.entries.values() if e.endpoint.id == id), None) if pool is not None else None
        if entry is None or not entry.endpoint.spec.tls or entry.endpoint.spec.source:
            return
        self._log.error("prune-failed-endpoint", **_about(key, entry.endpoint.spec), error=reason)
        self._history.happened("ejected", key, entry.endpoint.spec.address, reason)
        now = self._clock()
        ops: list[TableOp] = []
        self._unfit.bury((key, entry.endpoint.address), max(now, entry.refreshed))
        self._remove(entry, now, ops)
        if pool is not None and not pool.entries:
            self._empty.setdefault(key, f"its last instance failed: {reason}")
        self._sink(ops)

    def prune(self, bus_connected: bool = True) -> None:
        """Remove what has not been registered for longer than its time to live (contract §2.7)."""
        if self._settings.suspend_pruning:
            if not bus_connected:
                self._suspended = True
                self._log.info("prune-suspended")
                return
            if self._suspended:
                self._suspended = False
                self._refresh_all()
        now = self._clock()
        self._tombstones.expire(now)
        self._unfit.expire(now)
        ops: list[TableOp] = []
        pruned: dict[str, list[EndpointSpec]] = {}
        for entry in self._wheel.expired(now):
            spec = entry.endpoint.spec
            pruned.setdefault(entry.pool.key, []).append(spec)
            why = f"not registered for {now - entry.refreshed:.0f} s, its time to live is {spec.stale_after} s"
            self._history.happened("pruned", entry.pool.key, spec.address, why)
            self._remove(entry, now, ops)
            self._drop_if_empty(entry.pool, f"its last instance had not registered for {spec.stale_after} s", now, ops)
        for key in list(self._empty):
            self._drop_if_empty(self._pools[key], self._empty[key], now, ops)
        for key, specs in pruned.items():
            self.pruned += len(specs)
            self._log.info(
                "pruned-route",
                uri=key,
                endpoints=[spec.address for spec in specs],
                isolation_segment=specs[0].isolation_segment or "-",
            )
        if ops:
            self._sink(ops)

    def _refresh_all(self) -> None:
        self._log.debug("prune-unsuspended-refresh-routes-start")
        now = self._clock()
        self._wheel.refresh_all(now)
        for key in self._empty:
            self._pools[key].changed = now
        self._log.debug("prune-unsuspended-refresh-routes-complete")

    # -------------------------------------------------------- with other routers

    def export(self, buckets: Collection[int] | None = None) -> Iterator[Shared]:
        """The table for another router: all of it, or that of some buckets (`table.digest`).

        May be used bit by bit while the table changes, as `routes`.
        """
        for key in list(self._pools):
            if buckets is not None and bucket_of(key) not in buckets:
                continue
            pool = self._pools.get(key)
            if pool is not None:
                entries = [entry for entry in pool.entries.values() if not entry.endpoint.spec.source]
                if entries:
                    endpoints = [(entry.endpoint.spec, entry.refreshed) for entry in entries]
                    yield key, pool.context_path, pool.options, endpoints

    def export_gone(self, buckets: Collection[int] | None = None) -> Iterator[tuple[str, str, float]]:
        """What was taken away: route key, address, stamp."""
        for (key, address), stamp in self._tombstones.items():
            if buckets is None or bucket_of(key) in buckets:
                yield key, address, stamp

    def merge(self, key: str, path: str, options: RouteOptions, endpoints: Iterable[tuple[EndpointSpec, float]]) -> int:
        """What another router knows of a route, stamps by this clock: the number of changes that it made here."""
        now = self._clock()
        ops: list[TableOp] = []
        changes = 0
        for spec, heard in endpoints:
            if self._segments is not None and spec.isolation_segment not in self._segments:
                continue
            spec = self._clamped(spec)
            # What is too old is refused; what never ages only if this router would have heard of it since.
            if now - heard > spec.stale_after and (not spec.tls or heard > self.listening_since):
                continue
            address = spec.address
            name = key, address
            if self._tombstones.covers(name, heard) or self._unfit.covers(name, heard):
                continue
            pool = self._pools.get(key)
            entry = pool.entries.get(address) if pool is not None else None
            if entry is not None:
                known = entry.endpoint.spec
                if known == spec:
                    entry.refreshed = max(entry.refreshed, heard)
                    continue
                if known.source:
                    continue
                if (heard, entry_digest(key, spec)) < (entry.refreshed, entry_digest(key, known)):
                    continue
            if pool is None:
                pool = self._new_pool(key, path, ops)
                self._heed(pool, options, ops)
            self._tombstones.lift(name)
            self._put(pool, entry, spec, address, heard, ops)
            changes += 1
        if ops:
            self._sink(ops)
        return changes

    def merge_gone(self, key: str, address: str, stamp: float) -> int:
        """Another router knows that this was taken away: the number of changes that it made here."""
        now = self._clock()
        if now - stamp > self._settings.stale_threshold + MARGIN:
            return 0
        pool = self._pools.get(key)
        entry = pool.entries.get(address) if pool is not None else None
        if entry is not None and (entry.refreshed > stamp or entry.endpoint.spec.source):
            return 0
        self._tombstones.bury((key, address), stamp)
        if pool is None or entry is None:
            return 0
        self._take_out(pool, entry, "its last instance unregistered, as another router heard", now)
        return 1

    def forget_unknown(self, buckets: Collection[int], known: Collection[tuple[str, str]], since: float) -> int:
        """Endpoints that do not age, in these buckets, which a router listening from `since` on does not know.

        If it was listening when they last registered here, they have been taken away since, too long ago for a
        tombstone. Gives the number of changes.
        """
        now = self._clock()
        oldest = now - self._settings.stale_threshold
        lost = [
            (pool, entry)
            for key in list(self._pools)
            if bucket_of(key) in buckets
            for pool in [self._pools[key]]
            for entry in pool.entries.values()
            if entry.endpoint.spec.tls
            and not entry.endpoint.spec.source
            and since < entry.refreshed < oldest
            and (key, entry.endpoint.address) not in known
        ]
        for pool, entry in lost:
            self._take_out(pool, entry, "its last instance unregistered while this router did not listen", now)
        return len(lost)

    def _take_out(self, pool: _Pool, entry: _Entry, why: str, now: float) -> None:
        ops: list[TableOp] = []
        self._log.info("endpoint-unregistered", **_about(pool.key, entry.endpoint.spec))
        self._remove(entry, now, ops)
        if self._drop_if_empty(pool, why, now, ops):
            self._log.info("route-unregistered", uri=pool.key)
        self._sink(ops)

    # -------------------------------------------------------- what going takes

    def _remove(self, entry: _Entry, now: float, ops: list[TableOp]) -> None:
        """Take an endpoint out of its pool."""
        pool, endpoint = entry.pool, entry.endpoint
        del pool.entries[endpoint.address]
        self._static.discard((pool.key, endpoint.address))
        entry.refreshed = _DEAD
        pool.changed = now
        self._mark(pool.key, endpoint.spec)
        ops.append(DropRoute(pool.key, endpoint.id))
        self._release(endpoint, ops)

    def _drop_if_empty(self, pool: _Pool, why: str, now: float, ops: list[TableOp]) -> bool:
        """A pool without endpoints goes at once, or when it has been so for `empty_pool_timeout`. True = it is gone."""
        if pool.entries:
            return False
        kept = self._settings.empty_pool_timeout if self._settings.keep_empty_pools else 0.0
        if kept > 0 and now - pool.changed <= kept:
            self._empty.setdefault(pool.key, why)
            return False
        del self._pools[pool.key]
        why = self._empty.pop(pool.key, why)
        host = host_of(pool.key)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
            self._history.went(host, why)
        ops.append(DropPool(pool.key))
        return True


def component(spec: EndpointSpec) -> str:
    """The tag `component`, "" without it."""
    for name, value in spec.tags or ():
        if name == "component":
            return value
    return ""


def _accepted_segments(settings: RegistrySettings) -> frozenset[str] | None:
    """Isolation segments that this router serves, "" for none; None = every one (contract §3.6)."""
    match settings.sharding_mode:
        case "segments":
            return settings.isolation_segments
        case "shared-and-segments":
            return settings.isolation_segments | {""}
        case _:
            return None


def _wildcards(host: str) -> Iterator[str]:
    """The wildcard hosts that cover a host, nearest first (contract §3.3)."""
    parent = host.partition(".")[2]
    while parent:
        yield f"*.{parent}"
        parent = parent.partition(".")[2]


def _ages_alike(one: EndpointSpec, other: EndpointSpec) -> bool:
    return (one.tls, one.stale_after, one.source) == (other.tls, other.stale_after, other.source)


def _who(spec: EndpointSpec) -> str:
    """Who registered an endpoint."""
    who = {"": "over the bus", "file": "by the configuration", "api": "by the API"}[spec.source]
    about = (("app", spec.app), ("instance", spec.instance_id), ("index", spec.instance_index))
    said = ", ".join(f"{name} {value}" for name, value in about if value)
    return f"{who}: {said}" if said else who


def _what_changed(old: EndpointSpec, new: EndpointSpec) -> str:
    changed = (name for name in new.__struct_fields__ if getattr(old, name) != getattr(new, name))
    return "; ".join(f"{name}: {getattr(old, name)!r} → {getattr(new, name)!r}" for name in changed)


def _about(key: str, spec: EndpointSpec) -> dict[str, Any]:
    """What the event log says of an endpoint (contract §12.5)."""
    return {
        "uri": key,
        "route_service_url": spec.route_service_url,
        "backend": spec.address,
        "application_id": spec.app,
        "instance_id": spec.instance_id,
        "server_cert_domain_san": spec.server_cert_domain_san,
        "protocol": spec.protocol,
        "modification_tag": {"guid": "", "index": 0},
        "isolation_segment": spec.isolation_segment or "-",
        "isTLS": spec.tls,
    }
