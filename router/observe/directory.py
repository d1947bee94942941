"""Which endpoints an app has, and which routes: control's table turned round, kept up to date by the same operations.

An app is known by the id that its instances register; instances that give none are known by the first route that they
serve, so that nothing with traffic goes unnamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from router.messages import (
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    PutEndpoint,
    PutPool,
    PutRoute,
    SetHealth,
    TableOp,
)

NOBODY = "-"
"""The app of an endpoint that serves no route and names no app."""
MAX_LEAVING = 1000
"""Endpoints that are remembered after they left the table, while requests are in flight there."""


class Directory:
    """Apps → endpoints → routes. `apply` takes every change of the table, in order.

    `in_flight` gives the requests in flight of a slot: an endpoint that leaves the table with some is not gone yet.
    """

    def __init__(self) -> None:
        self.in_flight: Callable[[int], int] = lambda slot: 0
        self._specs: dict[int, EndpointSpec] = {}
        self._keys: dict[int, list[str]] = {}
        self._slots: dict[int, int] = {}
        self._members: dict[str, list[int]] = {}
        self._names: dict[str, str] = {}
        """Address → name of the app, for endpoints that do not give one themselves."""
        self._apps: dict[str, dict[int, None]] = {}
        self._unhealthy: dict[EndpointSpec, dict[str, str]] = {}
        """What active checks find unfit → route → why."""
        self._leaving: dict[int, tuple[str, EndpointSpec]] = {}
        """Slot → app and endpoint, of those that left the table with requests in flight."""

    def apply(self, ops: Iterable[TableOp]) -> None:
        """The table has changed by these operations."""
        for op in ops:
            match op:
                case PutRoute(key=key, id=id, replaces=replaces):
                    if replaces:
                        self._leave(key, replaces)
                    self._join(key, id)
                case DropRoute(key=key, id=id):
                    self._leave(key, id)
                case PutEndpoint(id=id, slot=slot, spec=spec):
                    self._leaving.pop(slot, None)
                    self._specs[id] = spec
                    self._slots[id] = slot
                    self._keys[id] = []
                case DropEndpoint(id=id):
                    self._forget(id)
                case PutPool(key=key):
                    self._members.setdefault(key, [])
                case DropPool(key=key):
                    for id in list(self._members.get(key, ())):
                        self._leave(key, id)
                    self._members.pop(key, None)
                case SetHealth(key=key, id=id, reason=reason):
                    self._set_health(key, id, reason)

    def _join(self, key: str, id: int) -> None:
        spec = self._specs.get(id)
        if spec is None:
            return
        self._keys[id].append(key)
        self._members.setdefault(key, []).append(id)
        name = spec.app or self._names.setdefault(spec.address, key)
        self._apps.setdefault(name, {})[id] = None

    def _set_health(self, key: str, id: int, reason: str) -> None:
        spec = self._specs.get(id)
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
        keys = self._keys.get(id)
        if keys is not None and key in keys:
            keys.remove(key)
        members = self._members.get(key)
        if members is not None and id in members:
            members.remove(id)

    def _forget(self, id: int) -> None:
        spec = self._specs.pop(id, None)
        self._keys.pop(id, None)
        slot = self._slots.pop(id, None)
        if spec is None or slot is None:
            return
        self._unhealthy.pop(spec, None)
        name = self.app_of(spec)
        if not spec.app:
            self._names.pop(spec.address, None)
        if (members := self._apps.get(name)) is not None:
            members.pop(id, None)
            if not members:
                del self._apps[name]
        still_used = members is not None and any(self._slots[other] == slot for other in members)
        if not still_used and len(self._leaving) < MAX_LEAVING and self.in_flight(slot) > 0:
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
        return {self._specs[id]: self._slots[id] for id in self._apps.get(app, ()) if id in self._specs}

    def spec(self, id: int) -> EndpointSpec | None:
        """The endpoint with this id, None when it is not in the table."""
        return self._specs.get(id)

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
        for id in self._apps.get(app, ()):
            found.update(self._keys.get(id, ()))
            if limit and len(found) >= limit:
                break
        return sorted(found)[: limit or None]

    def has_route(self, app: str, text: str) -> bool:
        """One of the app's routes contains this text."""
        return any(text in key for id in self._apps.get(app, ()) for key in self._keys.get(id, ()))
