"""The interface of balancing strategies (contract §4), and how they are found.

A strategy sees a pool and a request, nothing else. It asks `endpoint.available`, and returns an endpoint or None when
nothing may be picked. One object serves one pool, so a strategy may keep its position in itself; what must last over
the attempts of one request goes into `request.scratch`.

Two more methods are heeded when a strategy has them; both are called by the worker only, and must not block:

- `done(endpoint, request, seconds, ok)`: an attempt is over for the strategy, `seconds` after it began. `ok`: a
  response head with a status below 500 came. Otherwise it failed, timed out, or the client left first, and `seconds`
  is only what has passed so far.
- `settle(pool, endpoint, request)`: the picked endpoint has just been counted in this worker's lane, so that other
  workers see it. The strategy may move the count to another endpoint; it gives the one that shall be used.

A strategy is made for one pool: called with nothing, with the pool's `RouteOptions`, or with these and a callable that
makes a strategy of the router's default kind, as many as its constructor takes.

A strategy is registered under a name in the entry-point group `router.strategies`. Control resolves names to
`module:attribute` once; workers import only what is in use.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Protocol, runtime_checkable

from router.messages import RouteOptions
from router.table.endpoint import Endpoint
from router.table.pool import Pool

ENTRY_POINT_GROUP = "router.strategies"
INTERFACE_VERSION = 1
"""Goes up with any change that a plug-in could notice. A plug-in may say in `interface_version` which one it wants."""


class Request(Protocol):
    """What a strategy may know of a request."""

    attempt: int
    """1 for the first pick of a request, then counting up."""
    scratch: Any
    """The strategy's own note, None at the first attempt."""
    client: bytes
    """The client's IP address."""

    @property
    def target(self) -> bytes:
        """The request target as it came: path and query."""
        ...

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


StrategyMaker = Callable[[RouteOptions, Callable[[], Strategy]], Strategy]
"""Makes a strategy for a pool with these options; the second argument makes one of the router's default kind."""
_ARGUMENTS = 2
_OWN = "router.balance."


def load_strategy(name: str, reference: str) -> StrategyMaker:
    """What makes strategies of the class behind `module:attribute`. Raises StrategyError naming both."""
    module, _, attribute = reference.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # another's module may raise anything
        raise StrategyError(f"balancing strategy {name!r} ({reference}) can't be loaded: {error!r}") from error
    if not callable(found) or not callable(getattr(found, "pick", None)):
        raise StrategyError(f"balancing strategy {name!r} ({reference}) has no method pick(pool, request)")
    wanted = getattr(found, "interface_version", INTERFACE_VERSION)
    if wanted != INTERFACE_VERSION:
        raise StrategyError(
            f"balancing strategy {name!r} ({reference}) wants version {wanted} of the interface, "
            f"this router has {INTERFACE_VERSION}: install a plug-in made for it"
        )
    takes = _positional(found)
    if found.__module__.startswith(_OWN):
        return lambda *arguments: found(*arguments[:takes])
    return lambda *arguments: Guarded(found(*arguments[:takes]))


class Guarded:
    """A strategy of somebody else: what it picks is looked at, and what is no endpoint of the pool is an error."""

    __slots__ = ("_members", "_pick", "_version", "done", "settle")

    def __init__(self, strategy: Any) -> None:
        self._pick: Callable[[Pool, Request], object] = strategy.pick
        self._members: frozenset[Endpoint] = frozenset()
        self._version = -1
        self.done: Callable[..., None] | None = getattr(strategy, "done", None)
        self.settle: Callable[..., Endpoint] | None = getattr(strategy, "settle", None)

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """What the plug-in picks. Raises StrategyError if that can't be used."""
        picked = self._pick(pool, request)
        if picked is None:
            return None
        if self._version != pool.version:
            self._version = pool.version
            self._members = frozenset(pool.endpoints)
        if not isinstance(picked, Endpoint) or picked not in self._members:
            raise StrategyError(f"pick gave {picked!r}, which is no endpoint of the pool")
        return picked


def _positional(callee: Any) -> int:
    """How many of our arguments a constructor takes."""
    try:
        parameters = signature(callee).parameters.values()
    except (TypeError, ValueError):
        return 0
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return _ARGUMENTS
    takes = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return min(_ARGUMENTS, sum(parameter.kind in takes for parameter in parameters))
