"""How fast endpoints answer, learnt from attempts that are over. One object a pool, in one worker.

- Seconds are those until the response head, so neither the size of a body nor a slow client counts against an endpoint.
- Failure is not speed: an attempt that failed counts as at least `FAILED` seconds, and never makes an estimate better.
- Estimates fade with time, towards what is usual in the pool, so one that was slow gets its chance again.
- A new endpoint counts as one that is usual.
"""

from __future__ import annotations

from math import exp

from router.table.endpoint import Endpoint

FADE = 10.0
"""Seconds in which an estimate loses two thirds of its weight."""
FAILED = 1.0
"""Seconds that a failed attempt counts as, at least."""
_SHARE = 0.1
"""Share of one answer in what is usual, and in a plain average."""
_MANY = 64
"""Estimates kept for endpoints that may be gone, besides those of the pool."""


class Latencies:
    """Estimates by endpoint id, in seconds. `peak`: a slow answer counts at once and in full."""

    __slots__ = ("_known", "_peak", "usual")

    def __init__(self, peak: bool) -> None:
        self._peak = peak
        self._known: dict[int, tuple[float, float]] = {}  # id → estimate, when (`Loads.now`)
        self.usual = 0.0
        """What an answer takes in this pool, 0 before the first."""

    def heard(self, endpoint: Endpoint, seconds: float, ok: bool) -> None:
        """An attempt is over (`done` of the strategy interface)."""
        now = endpoint.loads.now
        before = self.estimate(endpoint)
        if not ok:
            seconds = max(seconds, FAILED, before)
        elif self.usual:
            self.usual += (seconds - self.usual) * _SHARE
        else:
            self.usual = seconds
        known = endpoint.id in self._known
        if not known or (self._peak and seconds > before) or not ok:
            after = seconds
        else:
            after = before + (seconds - before) * _SHARE
        self._known[endpoint.id] = (after, now)

    def estimate(self, endpoint: Endpoint) -> float:
        """Seconds that an answer of this endpoint takes."""
        known = self._known.get(endpoint.id)
        if known is None:
            return self.usual
        seconds, when = known
        age = endpoint.loads.now - when
        if age <= 0.0:
            return seconds
        return self.usual + (seconds - self.usual) * exp(-age / FADE)

    def forget_others(self, endpoints: list[Endpoint]) -> None:
        """Only these endpoints are there now."""
        if len(self._known) > len(endpoints) + _MANY:
            ids = {endpoint.id for endpoint in endpoints}
            self._known = {id: known for id, known in self._known.items() if id in ids}
