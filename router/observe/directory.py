"""Which endpoints an app has, and which routes: control's table turned round, kept up to date by the same operations.

An app is known by the id that its instances register; instances that give none are known by the first route that they
serve, so that nothing with traffic goes unnamed. There is one small record an endpoint: its spec stays packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from router.messages import (
    DropEndpoint,
    DropRoute,
    EndpointSpec,
    NewRoute,
    PutEndpoint,
    PutRoute,
    SetHealth,
    TableOp,
    unpack,
)

NOBODY = "-"
"""The app of an endpoint that serves no route and names no app."""
MAX_LEAVING = 1000
"""Endpoints that are remembered after they left the table, while requests are in flight there."""


class _Member:
    """An endpoint, the name of its app ("" as long as it has none), and the keys of its routes."""

    __slots__ = ("app", "keys", "put")

    def __init__(self, put: PutEndpoint) -> None:
        self.put = put
        self.app = ""
        self.keys: tuple[str, ...] = ()


class Directory:
    """Apps → endpoints → routes. `apply` takes every change of the table, in order.

    `in_flight` gives the requests in flight of a slot: an endpoint that leaves the table with some is not gone yet.
    """

    def __init__(self) -> None:
        self.in_flight: Callable[[int], int] = lambda slot: 0
        self._members: dict[int, _Member] = {}
        self._names: dict[str, str] = {}
        """Address → name of the app, for endpoints that do not give one themselves."""
        self._apps: dict[str, dict[int, _Member]] = {}
        self._unhealthy: dict[EndpointSpec, dict[str, str]] = {}
        """What active checks find unfit → route → why."""
        self._leaving: dict[int, tuple[str, EndpointSpec]] = {}
        """Slot → app and endpoint, of those that left the table with requests in flight."""

    def apply(self, ops: Iterable[TableOp]) -> None:
        """The table has changed by these operations."""
        members = self._members
        for op in ops:
            match op:
                case PutRoute():
                    if op.replaces:
                        self._leave(op.key, op.replaces)
                    if op.id in members:
                        self._join(op.key, members[op.id])
                case DropRoute():
                    self._leave(op.key, op.id)
                case PutEndpoint():
                    self._introduce(op)
                case DropEndpoint():
                    self._forget(op.id)
                case NewRoute():
                    for put in op.endpoints:
                        self._join(op.pool.key, self._introduce(put))
                case SetHealth():
                    self._set_health(op.key, op.id, op.reason)

    def _introduce(self, put: PutEndpoint) -> _Member:
        if self._leaving:
            self._leaving.pop(put.slot, None)
        member = self._members[put.id] = _Member(put)
        return member

    def _join(self, key: str, member: _Member) -> None:
        member.keys += (key,)
        if not member.app:
            put = member.put
            name = put.app or self._names.setdefault(unpack(put.packed).address, key)
            app = self._apps.get(name)
            if app is None:
                app = self._apps[name] = {}
            member.app = name
            app[put.id] = member

    def _set_health(self, key: str, id: int, reason: str) -> None:
        spec = self.spec(id)
        if spec is None:
            return
        reasons = self._unhealthy.setdefault(spec, {})
        if reason:
            reasons[key] = reason
        else:
            reasons.pop(key, None)
        if not reasons:
            del self._unhealthy[spec]

    def _leave(self, key: str, id: int) -> None:
        if self._unhealthy:
            self._set_health(key, id, "")
        member = self._members.get(id)
        if member is not None and key in member.keys:
            member.keys = tuple([each for each in member.keys if each != key])

    def _forget(self, id: int) -> None:
        member = self._members.pop(id, None)
        if member is None:
            return
        spec, slot = unpack(member.put.packed), member.put.slot
        self._unhealthy.pop(spec, None)
        name = self.app_of(spec)
        if not spec.app:
            self._names.pop(spec.address, None)
        if (members := self._apps.get(name)) is not None:
            members.pop(id, None)
            if not members:
                del self._apps[name]
        leaves = len(self._leaving) < MAX_LEAVING and self.in_flight(slot) > 0
        if leaves and (members is None or all(other.put.slot != slot for other in members.values())):
            self._leaving[slot] = (name, spec)

    # -------------------------------------------------------- questions

    def __len__(self) -> int:
        """Apps with at least one endpoint."""
        return len(self._apps)

    def __contains__(self, app: str) -> bool:
        return app in self._apps

    def apps(self) -> Iterable[str]:
        """Names of all apps that have endpoints."""
        return self._apps.keys()

    def app_of(self, spec: EndpointSpec) -> str:
        """The name of an endpoint's app."""
        return spec.app or self.name_at(spec.address) or NOBODY

    def name_at(self, address: str) -> str:
        """The name of the app at this address, where its endpoint gives none itself."""
        return self._names.get(address, "")

    def size(self, app: str) -> int:
        """Endpoints of an app."""
        return len(self._apps.get(app, ()))

    def endpoints(self, app: str) -> dict[EndpointSpec, int]:
        """Endpoints of an app, in the order in which they came, and their slots in the block of requests in flight."""
        return {unpack(member.put.packed): member.put.slot for member in self._of(app)}

    def spec(self, id: int) -> EndpointSpec | None:
        """The endpoint with this id, None when it is not in the table."""
        member = self._members.get(id)
        return None if member is None else unpack(member.put.packed)

    def leaving(self, app: str) -> dict[EndpointSpec, int]:
        """Endpoints of an app that have left the table and finish what they have; with their slots, as `endpoints`."""
        for slot in [slot for slot in self._leaving if self.in_flight(slot) <= 0]:
            del self._leaving[slot]
        return {spec: slot for slot, (name, spec) in self._leaving.items() if name == app}

    def unhealthy(self, spec: EndpointSpec) -> str:
        """Why active checks find this endpoint unfit, "" = they don't."""
        return next(iter(self._unhealthy[spec].values())) if spec in self._unhealthy else ""

    def routes(self, app: str, limit: int = 0) -> list[str]:
        """Route keys of an app, sorted; at most `limit` of them when that is not 0."""
        found: set[str] = set()
        for member in self._of(app):
            found.update(member.keys)
            if limit and len(found) >= limit:
                break
        return sorted(found)[: limit or None]

    def has_route(self, app: str, text: str) -> bool:
        """One of the app's routes contains this text."""
        return any(text in key for member in self._of(app) for key in member.keys)

    def _of(self, app: str) -> Iterable[_Member]:
        found = self._apps.get(app)
        return found.values() if found is not None else ()
