"""What the table is made of: endpoints, entries, pools. Data only; `control.table` keeps them in order.

They exist by the hundred thousand and stay, so the garbage collector does not track them: what goes is taken out of its
pool first, and then nothing leads in a circle.
"""

from __future__ import annotations

import math
from sys import intern
from typing import Any

import msgspec

from router.messages import NO_OPTIONS, EndpointSpec, PutEndpoint, PutPool, RouteOptions, unpack

DEAD = -math.inf
"""`Entry.refreshed` of one that is gone."""


class Endpoint(msgspec.Struct, gc=False, eq=False):
    """A registration as workers know it, shared by all pools in which it stands.

    Its spec is kept as it goes to workers and other routers, packed: `put` is the operation that tells workers. `other`
    is another one of the same address, if the address stands differently in different pools, and so on.
    """

    put: PutEndpoint
    address: str
    tls: bool
    stale_after: int
    source: str
    component: str
    other: Endpoint | None = None
    uses: int = 0

    @classmethod
    def of(cls, put: PutEndpoint, spec: EndpointSpec, address: str, other: Endpoint | None) -> Endpoint:
        """That of `spec`, which `put` tells workers of."""
        return cls(put, address, spec.tls, spec.stale_after, spec.source, component(spec), other)

    @property
    def ages(self) -> bool:
        """It goes stale when it is not registered again (contract §2.7)."""
        return not (self.tls or self.source)

    @property
    def spec(self) -> EndpointSpec:
        """The registration; made anew each time."""
        return unpack(self.put.packed)


class Entry(msgspec.Struct, gc=False, eq=False):
    """An endpoint's place in one pool, and when it was last registered there."""

    endpoint: Endpoint
    pool: Pool
    refreshed: float

    @property
    def time_to_live(self) -> float:
        """Seconds after which it is stale."""
        return self.endpoint.stale_after

    @property
    def dead(self) -> bool:
        """Gone from its pool, or another entry stands in its place."""
        return self.refreshed == DEAD


class Pool(msgspec.Struct, gc=False, eq=False):
    """The endpoints of one route, and what was asked for the route as a whole."""

    key: str
    context_path: str
    algorithm: str
    entries: dict[str, Entry]
    """By address."""
    options: RouteOptions = NO_OPTIONS
    changed: float = 0.0
    """When an endpoint last came, changed or went; monotonic seconds."""

    @property
    def asked(self) -> RouteOptions | None:
        """The options, None when nothing was asked for."""
        return None if self.options is NO_OPTIONS else self.options

    @property
    def put(self) -> PutPool:
        """The operation that tells workers."""
        return PutPool(self.key, self.context_path, self.algorithm, self.asked)


def component(spec: EndpointSpec) -> str:
    """The tag `component`, "" without it."""
    for name, value in spec.tags or ():
        if name == "component":
            return intern(value)
    return ""


def who(spec: EndpointSpec) -> str:
    """Who registered an endpoint."""
    origin = {"": "over the bus", "file": "by the configuration", "api": "by the API"}[spec.source]
    facts = (("app", spec.app), ("instance", spec.instance_id), ("index", spec.instance_index))
    said = ", ".join(f"{name} {value}" for name, value in facts if value)
    return f"{origin}: {said}" if said else origin


def what_changed(old: EndpointSpec, new: EndpointSpec) -> str:
    """The fields that differ, for a person."""
    changed = (name for name in new.__struct_fields__ if getattr(old, name) != getattr(new, name))
    return "; ".join(f"{name}: {getattr(old, name)!r} → {getattr(new, name)!r}" for name in changed)


def about(key: str, spec: EndpointSpec) -> dict[str, Any]:
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
