"""One endpoint as a worker knows it: where it is, whose it is, and whether it may be picked.

What a request needs from an endpoint is made once, when the first one does: the spec out of the bytes in which it came,
and the header lines that name the instance. Whether it may be picked is the `available` property; strategies ask
nothing else (style rule 7).

In-flight counts live outside, in a block shared by all workers (`Loads`), one slot per address: two endpoints with
one address (a port reused by another app) share a slot, as they share a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from router.messages import EndpointSpec, PutEndpoint, pack, unpack
from router.table.interned import interned

LogFields = tuple[bytes, bytes]


class Lane(Protocol):
    """Counts by slot, to be written."""

    def __getitem__(self, slot: int, /) -> int: ...

    def __setitem__(self, slot: int, count: int, /) -> None: ...


class Counts(Protocol):
    """The shared in-flight block: the lanes of all workers, each a sequence of counts by slot."""

    @property
    def lanes(self) -> Sequence[Sequence[int]]: ...

    def totals(self, first: int, size: int) -> list[int]:
        """Counts over all workers, of so many slots from `first` on."""
        ...

    def levels(self, first: int, size: int, foreign: int) -> bytearray | None:
        """As `totals`, a byte a slot; None when a count needs more. `foreign`, 4 bytes a slot, is added."""
        ...

    @property
    def own(self) -> Lane:
        """This worker's lane."""
        ...


class Loads:
    """What all endpoints of a table share: counts, limits, the coarse clock."""

    __slots__ = ("counts", "failed_mark_seconds", "max_conns", "now", "slow_start")

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.max_conns = 0
        """Requests in flight at which an endpoint is overloaded; 0 = never (contract §4.4)."""
        self.failed_mark_seconds = 30.0
        """How long a failure mark lasts (contract §4.1)."""
        self.slow_start = 0.0
        """Seconds in which a new or returned endpoint comes up to its full share; 0 = at once."""
        self.now = 0.0
        """Monotonic seconds, set by the worker's clock."""


class Endpoint:
    """One endpoint of one or more pools. `id` is control's number for it, `slot` its place in the counts."""

    __slots__ = (
        "_head_lines",
        "_packed",
        "_spec",
        "account",
        "connections",
        "failed_at",
        "id",
        "loads",
        "log_fields",
        "max_conns",
        "record",
        "slot",
        "unhealthy",
        "via_service",
        "warm_since",
        "weight",
    )

    tls_context: Any = None
    """How TLS is spoken with it, where that is not as with backends (`proxy.route_services`)."""

    def __init__(self, put: PutEndpoint, loads: Loads) -> None:
        self.id = put.id
        self.slot = put.slot
        self._packed = put.packed
        self._spec: EndpointSpec | None = None
        self.via_service = put.via_service
        """It was registered with the URL of a route service."""
        self.loads = loads
        self.weight = put.weight
        """Share of the traffic, next to the pool's other weights; 0 = only when nothing else is left."""
        self.max_conns = put.max_conns
        """Its own limit, which goes before `Loads.max_conns`; 0 = none."""
        self.failed_at = 0.0
        """When an attempt failed (monotonic seconds), 0 = no mark (contract §4.6). Set whenever it is out of use."""
        self.record: Any = None
        """What is held for and against it, while its pool is under watch (`balance.health`)."""
        self.unhealthy = ""
        """Why active checks find it unfit; empty = they don't."""
        self.warm_since = loads.now if loads.slow_start else 0.0
        """When it came or came back, while it is still to be spared (slow start); 0 = it is not."""
        self.connections: Any = None
        """The pool of idle connections, made by the proxy on first use (`proxy.connections`)."""
        self._head_lines = b""
        self.log_fields: LogFields | None = None
        """What the access log says of it, made by the log on first use."""
        self.account: Any = None
        """What it did since the last report (`observe.accounts`), None = nothing."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Endpoint:
        """There is only one of it, however often a strategy that knows it is copied (`proxy.explain`)."""
        return self

    @property
    def spec(self) -> EndpointSpec:
        """The registration."""
        if self._spec is None:
            self._spec = interned(unpack(self._packed))
            self._packed = b""
        return self._spec

    @property
    def packed(self) -> bytes:
        """The registration, packed."""
        return self._packed or pack(self.spec)

    @property
    def address(self) -> str:
        """`host:port`."""
        return self.spec.address

    @property
    def head_lines(self) -> bytes:
        """The last lines of a request head: they tell a backend who it is (contract §5.3), then comes the empty line.

        Made on first use, most never are.
        """
        if not self._head_lines:
            self._head_lines = _instance_lines(self.spec)
        return self._head_lines

    @property
    def in_flight(self) -> int:
        """Requests in flight here, over all workers of this router."""
        total = 0
        slot = self.slot
        for lane in self.loads.counts.lanes:
            total += lane[slot]
        return total

    @property
    def overloaded(self) -> bool:
        """At its connection limit (contract §4.4)."""
        limit = self.max_conns or self.loads.max_conns
        return limit > 0 and self.in_flight >= limit

    @property
    def failed(self) -> bool:
        """Out of use: marked failed (an old mark is dropped here, contract §4.1), ejected or unhealthy."""
        if not self.failed_at:
            return False
        if self.unhealthy:
            return True
        if self.record is not None and self.record.out:
            return bool(self.loads.now < self.record.open_at)
        if self.loads.now - self.failed_at >= self.loads.failed_mark_seconds:
            self.failed_at = 0.0
            return False
        return True

    @property
    def failed_for(self) -> float:
        """Seconds until it may be used again after a failure, 0 when it is in use."""
        if not self.failed:
            return 0.0
        if self.record is not None and self.record.out:
            return float(max(self.record.until - self.loads.now, 0.0))
        return self.loads.failed_mark_seconds - (self.loads.now - self.failed_at)

    @property
    def state(self) -> tuple[str, str]:
        """`in`, `failed`, `ejected` or `unhealthy`, and why."""
        if self.unhealthy:
            return "unhealthy", self.unhealthy
        if self.record is not None and self.record.out:
            return self.record.out, self.record.reason
        return ("failed", "an attempt failed") if self.failed else ("in", "")

    @property
    def judged(self) -> bool:
        """Out of use for more than a failed connection: ejected or unhealthy."""
        return bool(self.failed_at) and self.state[0] in ("ejected", "unhealthy")

    @property
    def available(self) -> bool:
        """May be picked: neither out of use nor overloaded."""
        if self.failed_at and self.failed:
            return False
        return not (self.max_conns or self.loads.max_conns) or not self.overloaded

    def succeed(self, old: Endpoint) -> None:
        """Take the place of `old` after a changed registration of the same address.

        The failure mark is kept (contract §4.6); idle connections too while the peer's identity is the same (§2.4).
        """
        if not old.unhealthy:
            self.failed_at = max(self.failed_at, old.failed_at)
        self.record = self.record or old.record
        self.warm_since = old.warm_since
        if self.connections is None and same_peer(self.spec, old.spec):
            self.connections, old.connections = old.connections, None


def same_peer(a: EndpointSpec, b: EndpointSpec) -> bool:
    """Connections made for `a` are good for `b`."""
    return (a.host, a.port, a.tls, a.protocol, a.server_cert_domain_san) == (
        b.host,
        b.port,
        b.tls,
        b.protocol,
        b.server_cert_domain_san,
    )


def _instance_lines(spec: EndpointSpec) -> bytes:
    lines = (
        f"X-CF-ApplicationID: {spec.app}\r\n"
        f"X-CF-InstanceID: {spec.instance_id or spec.address}\r\n"
        f"X-CF-InstanceIndex: {spec.instance_index}\r\n\r\n"
    )
    # A registration may carry anything; what would break a header line becomes a space.
    return lines.encode("utf-8", "replace") if _printable(spec) else _instance_lines(_cleaned(spec))


def _printable(spec: EndpointSpec) -> bool:
    return (spec.app + spec.instance_id + spec.instance_index + spec.host).isprintable()


def _cleaned(spec: EndpointSpec) -> EndpointSpec:
    def clean(text: str) -> str:
        return "".join(c if c.isprintable() else " " for c in text)

    return EndpointSpec(
        clean(spec.host),
        spec.port,
        app=clean(spec.app),
        instance_id=clean(spec.instance_id),
        instance_index=clean(spec.instance_index),
    )
