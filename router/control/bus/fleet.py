"""Routers on one bus that compare their tables and repair what a lost message left different.

    router.fleet.announce     every router, every few seconds: `Announcement`, with a digest of each bucket of its table
    router.fleet.who          asked with a reply subject: the announcement of every router
    router.fleet.get.ID       `Ask`: that router sends what it knows of some buckets (`bus.exchange`) …
    router.fleet.take.ID      … to the router that asked, or to the reply subject

A bucket that differs in two announcements in a row is asked for: what is only on its way is left in peace. Each router
asks for itself, so both sides of a difference learn. Who wins is the registry's to say (`control.merging.merge`).

Clocks: stamps are carried over by the least difference seen between a peer's clock and ours, which is their true
difference and the shortest time that a message took.

`Fleet` does no I/O: tests run many on a bus that loses, doubles and shuffles. Subjects have more than two parts
because other routers subscribe to `router.*`.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Iterator

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from router.control.bus.client import Bus
from router.control.bus.exchange import LAYOUT, Piece, PieceError, apply, pieces, read_piece
from router.control.merging import forget_unknown
from router.control.registry import Registry
from router.observe.log import Limiter, Log
from router.table.digest import BUCKETS, PACKED_BYTES

ANNOUNCE = "router.fleet.announce"
WHO = "router.fleet.who"
GET = "router.fleet.get."
TAKE = "router.fleet.take."
OFFSET_MEMORY = 120.0
"""Seconds for which the difference of two clocks is remembered at least."""
SURE = 3
"""Announcements after which the difference of two clocks is no chance."""
MOST_PEERS = 1000
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Announcement(msgspec.Struct):
    """A router's word on itself. Times are seconds, `at` is its monotonic clock.

    `scope` says which registrations it takes and for how long: only tables of one scope are to be equal.
    """

    id: str
    version: str
    host: str
    layout: str
    scope: str
    routes: int
    endpoints: int
    listening: float
    at: float
    digests: bytes
    health: str = "healthy"
    """`lifecycle.Phase`: only a healthy router is to be sent requests, a degraded one is about to leave."""
    time: float = 0.0
    """Time of day, unix seconds; 0 = a version that does not tell."""


class Ask(msgspec.Struct):
    """Router `id` wants to know what another one knows of these buckets."""

    id: str
    buckets: list[int]


class About(msgspec.Struct, frozen=True):
    """What does not change in a router's announcements."""

    id: str
    version: str
    host: str
    scope: str


_encode = msgspec.json.encode
_decode_announcement = msgspec.json.Decoder(Announcement).decode
_decode_ask = msgspec.json.Decoder(Ask).decode


class Offset:
    """The difference of two clocks: the least that was seen lately, for a message takes its time."""

    __slots__ = ("_before", "_least", "_until", "count")

    def __init__(self) -> None:
        self._least = self._before = math.inf
        self._until = -math.inf
        self.count = 0
        """How often it was seen."""

    @property
    def least(self) -> float:
        return min(self._least, self._before)

    def seen(self, difference: float, now: float) -> float:
        """A message came at second `now`, and the clock it was sent by was behind ours by this; gives `least`."""
        if now > self._until:
            self._before, self._least, self._until = self._least, math.inf, now + OFFSET_MEMORY
        self._least = min(self._least, difference)
        self.count += 1
        return self.least


class Peer:
    """Another router, as last heard."""

    __slots__ = ("_clock", "announcement", "differing", "seen", "taking", "taking_number", "time")

    def __init__(self, announcement: Announcement) -> None:
        self.announcement = announcement
        self.time = Offset()
        """Our time of day less this router's."""
        self.seen = 0.0
        self.differing: frozenset[int] = frozenset()
        self.taking: set[tuple[str, str]] = set()
        """Names of what came in the pieces of an answer so far."""
        self.taking_number = 0
        self._clock = Offset()

    def compared(self, now: float, at: float) -> float:
        """A message of this peer's second `at` came `now`: this clock less the peer's, as well as it is known."""
        return self._clock.seen(now - at, now)


class Fleet:
    """One router among others. `post(subject, payload)` publishes; `interval` is seconds between announcements.

    `health` gives what the announcements say of it.
    """

    def __init__(
        self,
        registry: Registry,
        about: About,
        post: Callable[[str, bytes], None],
        log: Log,
        interval: float,
        health: Callable[[], str] = lambda: "healthy",
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._health = health
        self._time = time_of_day
        self._about = about
        self._post = post
        self._log = log.component("fleet")
        self._unreadable_log = Limiter(60.0)
        self._interval = interval
        self._asked = [-math.inf] * BUCKETS
        self.peers: dict[str, Peer] = {}
        self.repaired = 0
        """Changes that were learned from others, since the start."""

    def announcement(self) -> bytes:
        """This router as of now."""
        registry, about = self._registry, self._about
        now = registry.now
        return _encode(
            Announcement(
                about.id,
                about.version,
                about.host,
                LAYOUT,
                about.scope,
                len(registry),
                registry.addresses,
                now - registry.listening_since,
                now,
                registry.digest.pack(),
                self._health(),
                self._time(),
            )
        )

    def clocks(self) -> dict[str, float]:
        """Router → seconds by which its time of day is ahead of ours, of those heard often enough to tell."""
        return {
            f"{peer.announcement.id} ({peer.announcement.host})": -peer.time.least
            for peer in self.peers.values()
            if peer.time.count >= SURE
        }

    def announce(self) -> None:
        """Tell the others; to be called every `interval` seconds."""
        gone = self._registry.now - 10 * self._interval
        for id in [id for id, peer in self.peers.items() if peer.seen < gone]:
            del self.peers[id]
        self._post(ANNOUNCE, self.announcement())

    def heard(self, payload: bytes) -> None:
        """Another router, or this one, has announced itself."""
        try:
            told = _decode_announcement(payload)
        except msgspec.MsgspecError as error:
            self._unreadable(ANNOUNCE, error)
            return
        if told.id == self._about.id or not _ID.fullmatch(told.id):
            return
        peer = self.peers.get(told.id)
        if peer is None:
            if len(self.peers) >= MOST_PEERS:
                return
            peer = self.peers[told.id] = Peer(told)
            self._log.info("router-seen", id=told.id, version=told.version, host=told.host, routes=told.routes)
        now = self._registry.now
        peer.announcement, peer.seen = told, now
        peer.compared(now, told.at)
        if told.time:
            peer.time.seen(self._time() - told.time, now)
        alike = told.layout == LAYOUT and told.scope == self._about.scope and len(told.digests) == PACKED_BYTES
        differing = self._registry.digest.differing(told.digests) if alike else frozenset()
        lasting, peer.differing = differing & peer.differing, differing
        wanted = sorted(bucket for bucket in lasting if now - self._asked[bucket] >= self._interval)
        if wanted:
            for bucket in wanted:
                self._asked[bucket] = now
            self._post(GET + told.id, _encode(Ask(self._about.id, wanted)))

    def asked(self, payload: bytes) -> Iterator[tuple[str, bytes]]:
        """Another router wants to know: what to send, and where to; may be sent bit by bit."""
        try:
            ask = _decode_ask(payload)
        except msgspec.MsgspecError as error:
            self._unreadable(GET, error)
            return
        if _ID.fullmatch(ask.id):
            for piece in pieces(self._registry, self._about.id, frozenset(ask.buckets)):
                yield TAKE + ask.id, piece

    def told(self, payload: bytes) -> None:
        """A piece of what this router asked for."""
        try:
            piece = read_piece(payload)
        except PieceError as error:
            self._unreadable(TAKE, error)
            return
        peer = self.peers.get(piece.sender)
        if peer is None:
            return
        offset = peer.compared(self._registry.now, piece.at)
        changes = apply(self._registry, piece, offset) + self._forget(peer, piece, offset)
        if changes:
            self.repaired += changes
            self._log.info("table-repaired", changes=changes, by=piece.sender, buckets=len(piece.buckets or ()))

    def _forget(self, peer: Peer, piece: Piece, offset: float) -> int:
        """At the end of a whole answer: what the peer would know if it still were (`forget_unknown`)."""
        if piece.number == 0:
            peer.taking, peer.taking_number = set(), 0
        if piece.buckets is None or piece.number != peer.taking_number:
            peer.taking, peer.taking_number = set(), -1  # a piece is missing
            return 0
        peer.taking_number += 1
        peer.taking.update((route.key, spec.address) for route in piece.routes for spec, _ in route.endpoints)
        if not piece.last:
            return 0
        known, peer.taking, peer.taking_number = peer.taking, set(), -1
        return forget_unknown(self._registry, frozenset(piece.buckets), known, piece.listening_since + offset)

    def _unreadable(self, subject: str, error: Exception) -> None:
        if (held := self._unreadable_log.allow(subject)) is not None:
            self._log.error("fleet-message-not-readable", subject=subject, error=str(error), suppressed=held)


class FleetOnBus:
    """A `Fleet` joined to the real bus; to be made before the bus starts."""

    def __init__(self, bus: Bus, fleet: Fleet, id: str) -> None:
        self._fleet = fleet
        self._bus = bus
        self._answering: set[asyncio.Task[None]] = set()
        bus.listen(ANNOUNCE, self._heard)
        bus.listen(WHO, self._who)
        bus.listen(GET + id, self._asked)
        bus.listen(TAKE + id, self._told)

    async def _heard(self, message: Msg) -> None:
        self._fleet.heard(message.data)

    async def _who(self, message: Msg) -> None:
        if message.reply:
            await message.respond(self._fleet.announcement())

    async def _asked(self, message: Msg) -> None:
        """Answer in a task of its own: large buckets take their time, and others may ask meanwhile."""
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Msg) -> None:
        for subject, piece in self._fleet.asked(message.data):
            if not message.reply:
                self._bus.post(subject, piece)
            else:
                try:
                    await message.respond(piece)
                except (NatsError, OSError):
                    return  # who asks may ask again
            await asyncio.sleep(0)

    async def _told(self, message: Msg) -> None:
        self._fleet.told(message.data)
