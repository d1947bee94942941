"""A connection that is being made, and the requests that wait for it.

Over HTTP/1.1 that is one request. A backend that may speak HTTP/2 is dialled once for all that come meanwhile: the
first goes out as soon as there is a connection, the others when the backend has said how many it takes at once (RFC
9113 §6.5.2). Those who find no room wait together for the next one.

Nothing is decided here. Every request is told what came of it, and sees for itself what follows (contract §7).
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

from router.proxy.backend_h1 import BackendH1
from router.proxy.connections import Connections, Steps, by_agreement, dial
from router.proxy.failures import CLOSED_AT_ONCE, Failure

if TYPE_CHECKING:
    from router.proxy.backend_h2 import BackendH2
    from router.proxy.connections import Backend
    from router.proxy.plane import Plane
    from router.table.endpoint import Endpoint


class Asking(Protocol):
    """Who wants a connection."""

    def connected(self, outcome: Backend | Failure, steps: Steps, took: int) -> None:
        """Here it is, or why there is none; `took` is nanoseconds of waiting."""

    def crashed(self, error: Exception) -> None:
        """Something in the router broke."""


class Place:
    """One request's place among those that wait; `cancel` gives it up."""

    __slots__ = ("_asking", "_since", "dialling")

    def __init__(self, dialling: Dialling, asking: Asking) -> None:
        self.dialling = dialling
        self._asking = asking
        self._since = perf_counter_ns()

    def cancel(self) -> None:
        """Wait no more."""
        self.dialling.leave(self)

    def tell(self, outcome: Backend | Failure | Exception, steps: Steps) -> None:
        """The waiting is over."""
        if isinstance(outcome, Exception):
            self._asking.crashed(outcome)
            return
        try:
            self._asking.connected(outcome, steps, perf_counter_ns() - self._since)
        except Exception as error:
            self._asking.crashed(error)


def connect(
    plane: Plane, endpoint: Endpoint, connections: Connections, asking: Asking, *, only_h1: bool = False
) -> Place:
    """Have `asking` told of a connection to `endpoint`: a new one, or one under way that can be shared."""
    dialling = connections.dialling
    if dialling is None or only_h1:
        dialling = Dialling(plane, endpoint, connections, only_h1)
    place = Place(dialling, asking)
    dialling.join(place)
    return place


class Dialling:
    """One dial."""

    __slots__ = ("_connections", "_endpoint", "_only_h1", "_plane", "_shared", "_steps", "_task", "_waiting")

    def __init__(self, plane: Plane, endpoint: Endpoint, connections: Connections, only_h1: bool) -> None:
        self._plane = plane
        self._endpoint = endpoint
        self._connections = connections
        self._only_h1 = only_h1
        self._waiting: dict[Place, None] = {}
        """In the order in which they came."""
        self._steps = Steps()
        self._shared = not only_h1 and not connections.singly and by_agreement(plane, endpoint)
        if self._shared:
            connections.dialling = self
        self._task: asyncio.Task[None] | None = plane.loop.create_task(self._dial())
        """Until there is a connection, or none."""

    def join(self, place: Place) -> None:
        """One more waits."""
        place.dialling = self
        self._waiting[place] = None

    def leave(self, place: Place) -> None:
        """One waits no more. Without anybody there is no need for the connection."""
        self._waiting.pop(place, None)
        if not self._waiting and self._task is not None:
            self._over()
            self._task.cancel()

    async def _dial(self) -> None:
        try:
            outcome = await dial(self._plane, self._endpoint, self._steps, only_h1=self._only_h1)
        except Exception as error:
            self._task = None
            self._tell_all(error)
            return
        self._task = None
        if isinstance(outcome, Failure):
            self._tell_all(outcome)
        elif not outcome.usable:
            outcome.close()
            self._tell_all(CLOSED_AT_ONCE)
        elif isinstance(outcome, BackendH1):
            self._have_one(outcome)
        else:
            self._connections.singly = False
            outcome.settled = self._settled
            self._next().tell(self._connections.add(outcome), self._steps)

    def _have_one(self, connection: BackendH1) -> None:
        """It is for one request, whatever we hoped for: each of the others needs one for itself, now and later."""
        connections = self._connections
        if self._shared:
            connections.singly = True
            self._over()
        self._next().tell(connections.add(connection), self._steps)
        while self._waiting:
            Dialling(self._plane, self._endpoint, connections, self._only_h1).join(self._next())

    def _settled(self, connection: BackendH2) -> None:
        """The backend has said how many requests it takes at once; or the connection is gone."""
        connections = self._connections
        if not connection.usable:
            self._tell_all(CLOSED_AT_ONCE)
            return
        self._over()
        while self._waiting:
            stream = connections.stream()
            if stream is None:
                break
            self._next().tell(stream, self._steps)
        while self._waiting:
            dialling = connections.dialling or Dialling(self._plane, self._endpoint, connections, self._only_h1)
            dialling.join(self._next())
        if connections.closed:
            connection.retire()

    def _tell_all(self, outcome: Failure | Exception) -> None:
        self._over()
        while self._waiting:
            self._next().tell(outcome, self._steps)

    def _over(self) -> None:
        """Who comes from now on needs another."""
        if self._connections.dialling is self:
            self._connections.dialling = None

    def _next(self) -> Place:
        place = next(iter(self._waiting))
        del self._waiting[place]
        return place
