"""The interface of balancing strategies (contract §4), and how they are found.

A strategy sees a pool and a request, nothing else. It asks `endpoint.available`, and returns an endpoint or None when
nothing may be picked. One object serves one pool, so a strategy may keep its position in itself; what must last over
the attempts of one request goes into `request.scratch`.

A strategy is registered under a name in the entry-point group `router.strategies`. Control resolves names to
`module:attribute` once; workers import only what is in use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from router.table.endpoint import Endpoint
from router.table.pool import Pool

ENTRY_POINT_GROUP = "router.strategies"


class Request(Protocol):
    """What a strategy may know of a request."""

    attempt: int
    """1 for the first pick of a request, then counting up."""
    scratch: Any
    """The strategy's own note, None at the first attempt."""
    client: bytes
    """The client's IP address."""

    def header(self, name: bytes) -> bytes | None:
        """Value of a request header by lower-cased name."""
        ...


@runtime_checkable
class Strategy(Protocol):
    """Picks an endpoint."""

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """An endpoint of `pool.endpoints` that is available, or None. Must not block."""
        ...


class StrategyError(Exception):
    """A strategy that can't be used; the message names it and says why."""


def load_strategy(name: str, reference: str) -> type[Strategy]:
    """The class behind `module:attribute`. Raises StrategyError naming both."""
    module, _, attribute = reference.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise StrategyError(f"balancing strategy {name!r} ({reference}) can't be loaded: {error}") from error
    if not callable(found) or not callable(getattr(found, "pick", None)):
        raise StrategyError(f"balancing strategy {name!r} ({reference}) has no method pick(pool, request)")
    return found  # type: ignore[no-any-return]
