"""Slow start: a new or returned endpoint gets a share that grows over `slow_start` seconds, whatever the strategy.

An endpoint that is picked too early is not taken: the strategy picks once more among the others. Off, it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random

from router.balance.besides import besides
from router.table.endpoint import Endpoint
from router.table.pool import Pool

LEAST = 0.1
"""Share of its due that the newest endpoint gets, so that it can show what it does."""


def warmed(pool: Pool, picked: Endpoint, again: Callable[[], Endpoint | None]) -> Endpoint:
    """`picked`, or, if it is still warming up and chance will have it, what the strategy picks `again` without it."""
    loads = picked.loads
    age = loads.now - picked.warm_since
    if age >= loads.slow_start:
        picked.warm_since = 0.0
        return picked
    if picked.failed_at or random() < max(LEAST, age / loads.slow_start):
        return picked
    if not any(other.available and not other.warm_since for other in pool.endpoints):
        return picked
    return besides(pool, picked, again) or picked
