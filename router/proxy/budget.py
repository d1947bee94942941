"""The retry budget: repetitions are a share of the requests, so that they cannot amplify an outage.

One bucket a worker. Requests fill it, looked up in the counter that is kept anyway: nothing is done for a request that
succeeds. A little drips in besides, so that few requests can be repeated too.
"""

from __future__ import annotations

from time import monotonic

from router.observe.counters import Counter

BURST = 100.0
"""Repetitions that a quiet time saves up."""
DRIP = 5.0
"""Repetitions a second that are always allowed."""
_REQUESTS = int(Counter.REQUESTS)


class RetryBudget:
    """`counters` are the worker's; `share` of the requests may be repeated, 0 = any number."""

    __slots__ = ("_counters", "_left", "_seen", "_time", "share")

    def __init__(self, counters: list[int], share: float) -> None:
        self._counters = counters
        self._left = BURST
        self._seen = counters[_REQUESTS]
        self._time = monotonic()
        self.share = share

    def take(self) -> bool:
        """May one more request be repeated? If so, it is counted."""
        if not self.share:
            return True
        attempts, now = self._counters[_REQUESTS], monotonic()
        self._left = min(BURST, self._left + (attempts - self._seen) * self.share + (now - self._time) * DRIP)
        self._seen, self._time = attempts, now
        if self._left < 1:
            return False
        self._left -= 1
        self._seen += 1  # the repetition will be counted as an attempt: it must not pay for another one
        return True
