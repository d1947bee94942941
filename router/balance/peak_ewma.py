"""Peak EWMA: of two endpoints drawn at random, the one that will have answered sooner.

Cost is the estimated latency times the requests that would wait for it. The estimate jumps to a slow answer at once and
comes down only bit by bit (a moving average with exponential weights), so an endpoint that begins to stall is avoided
after its first late answer, and trusted again slowly.
"""

from __future__ import annotations

from router.balance.latencies import Latencies
from router.balance.power_of_two import PowerOfTwo
from router.balance.strategy import Request
from router.table.endpoint import Endpoint
from router.table.pool import Pool


class PeakEwma(PowerOfTwo):
    """The sooner of two."""

    __slots__ = ("_latencies", "_version")

    def __init__(self) -> None:
        super().__init__()
        self._latencies = Latencies(peak=True)
        self._version = -1

    def pick(self, pool: Pool, request: Request) -> Endpoint | None:
        """Of two random endpoints the available one that costs less."""
        if self._version != pool.version:
            self._version = pool.version
            self._latencies.forget_others(pool.endpoints)
        return super().pick(pool, request)

    def cost(self, endpoint: Endpoint) -> float:
        """Seconds until one more request would be answered, more or less."""
        return self._latencies.estimate(endpoint) * (endpoint.in_flight + 1) / (endpoint.weight or 1)

    def done(self, endpoint: Endpoint, request: Request, seconds: float, ok: bool) -> None:
        """Learn from an attempt."""
        self._latencies.heard(endpoint, seconds, ok)
