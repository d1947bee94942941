"""Static routes as the API sees them: what a route has besides itself, and what keeps them. Nothing here knows HTTP."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from router.config.static import StaticRoute

FILE, API = "file", "api"


class StoreError(Exception):
    """A change that can't be kept, in words for a person."""


class Named(NamedTuple):
    """A route under its name, who wrote it (`FILE` or `API`), and the opaque part of the ETag of this version."""

    name: str
    source: str
    route: StaticRoute
    tag: str


def body_of(route: StaticRoute) -> dict[str, Any]:
    """The JSON body that makes this route, without what is as it would be anyway."""
    return route.model_dump(mode="json", exclude_defaults=True, exclude={"name"})


class Store(Protocol):
    """Where static routes are (`control.static_routes`)."""

    def all(self) -> list[Named]:
        """In order of their names."""
        ...

    def get(self, name: str) -> Named | None:
        """The route of this name."""
        ...

    def put(self, name: str, route: StaticRoute) -> Named:
        """Add or replace a route. Raises StoreError."""
        ...

    def delete(self, name: str) -> None:
        """Remove a route. Raises StoreError."""
        ...
