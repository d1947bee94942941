"""Hedging: a second attempt beside one that is late; whose response begins first is the exchange's (`hedge_after`).

A `Hedge` is to its backend what an exchange is, up to the response's head. Then it hands the backend over to the
exchange, whose own attempt is broken off; or it loses, and is broken off itself. Only requests that may be repeated and
have no body are hedged, once, on another endpoint, and out of the retry budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.proxy.connections import Connections, Steps
from router.proxy.dialling import Place, connect
from router.proxy.failures import IDEMPOTENT, Failure

if TYPE_CHECKING:
    from router.http.message import HeaderList
    from router.http.response import ResponseHead
    from router.proxy.connections import Backend
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane
    from router.table.endpoint import Endpoint


class Hedge:
    """The second attempt of `exchange`, at `endpoint`."""

    __slots__ = ("_dialling", "_over", "backend", "endpoint", "exchange", "plane")

    def __init__(self, exchange: Exchange, endpoint: Endpoint) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.plane: Plane = exchange.plane
        self.backend: Backend | None = None
        self._dialling: Place | None = None
        self._over = False

    def __getattr__(self, name: str) -> Any:
        """What a backend wants to know of the request is the exchange's."""
        return getattr(self.exchange, name)

    def start(self) -> None:
        """Begin the attempt."""
        plane, endpoint = self.plane, self.endpoint
        plane.counters[0] += 1
        plane.own_lane[endpoint.slot] += 1
        connections = endpoint.connections
        if connections is None:
            connections = endpoint.connections = Connections()
        backend = connections.stream() if connections.shared else None
        backend = backend or connections.take(self.request.method in IDEMPOTENT)
        if backend is not None:
            self._send(backend)
        else:
            self._dialling = connect(plane, endpoint, connections, self)

    def connected(self, outcome: Backend | Failure, steps: Steps, took: int) -> None:
        """There is a connection to the endpoint, or none."""
        self._dialling = None
        if isinstance(outcome, Failure):
            self.attempt_failed(outcome, stale=False)
        else:
            self._send(outcome)

    def crashed(self, error: Exception) -> None:
        """Something in the router broke: the request ends."""
        self.exchange.crashed(error)

    def _send(self, backend: Backend) -> None:
        self.backend = backend
        backend.start(self, b"")  # type: ignore[arg-type]

    def stop(self) -> None:
        """It is not needed any more, or came to nothing."""
        if self._over:
            return
        self._over = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self.backend is not None:
            self.backend.abort()
        self.plane.own_lane[self.endpoint.slot] -= 1
        self.exchange.hedge = None

    # -------------------------------------------------------- what the backend tells

    def response_head(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """It won: from here on the backend speaks to the exchange."""
        self._over = True
        backend, exchange = self.backend, self.exchange
        assert backend is not None
        if not complete:
            backend.exchange = exchange
        exchange.adopt(self.endpoint, backend)
        exchange.response_head(head, data, complete)

    def attempt_failed(self, failure: Failure, *, stale: bool) -> None:
        """The first attempt goes on alone."""
        self.backend = None
        pool = self.exchange.pool
        if pool is not None and not stale:
            if failure.marks:
                self.endpoint.failed_at = self.plane.clock.now
            self.plane.watch.failed(pool, self.endpoint, failure.reason, marks=failure.marks, trial=False)
        self.stop()

    def interim_head(self, head: ResponseHead) -> None:
        """A 1xx decides nothing, and is not passed on."""

    def switched(self, head: ResponseHead, data: bytes) -> bool:
        """No upgrade is ever hedged."""
        return False

    def response_body(self, data: bytes) -> None:
        raise AssertionError("a body comes after its head, to the exchange")

    def response_complete(self, trailers: HeaderList) -> None:
        raise AssertionError("the end comes after the head, to the exchange")

    def backend_full(self) -> None:
        """There is no body to hold back."""

    def backend_drained(self) -> None:
        """As `backend_full`."""
