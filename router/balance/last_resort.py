"""What strategies do when the one they wanted may not be picked: look for any that may, then for one in doubt.

An endpoint in doubt (marked failed, say) is better than none; one at its connection limit is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import random

from router.table.endpoint import Endpoint
from router.table.pool import Pool


def any_available(endpoints: Sequence[Endpoint]) -> Endpoint | None:
    """The first available endpoint from a random place on."""
    size = len(endpoints)
    start = int(random() * size)
    for step in range(start - size, start):  # negative indices wrap
        if endpoints[step].available:
            return endpoints[step]
    return None


def last_resort(pool: Pool) -> Endpoint | None:
    """Any available endpoint of the pool, else of those that are not overloaded the least busy."""
    found = any_available(pool.endpoints)
    if found is None:
        doubtful = [endpoint for endpoint in pool.endpoints if not endpoint.overloaded]
        found = min(doubtful, key=lambda endpoint: (endpoint.in_flight, random()), default=None)
    return found
