"""Which endpoints have not been registered again in time (contract §2.7), without looking at those that have.

A wheel of buckets, each for a span of `SPAN` seconds. An entry lies in the bucket of the time at which it was to expire
when it was last looked at. A heartbeat only writes the entry's time stamp; when the bucket comes due, an entry that was
refreshed meanwhile moves to its new bucket. So a heartbeat costs one write, and a pass costs what is due, which for an
endpoint is once per time to live.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import chain
from typing import Generic, Protocol, TypeVar

SPAN = 1.0
"""Seconds of one bucket."""


class Perishable(Protocol):
    """Something that expires: `refreshed` is monotonic seconds, `time_to_live` seconds; a `dead` one is forgotten."""

    refreshed: float

    @property
    def time_to_live(self) -> float: ...
    @property
    def dead(self) -> bool: ...


Item = TypeVar("Item", bound=Perishable)


class Wheel(Generic[Item]):
    """Entries by the time at which they have to be looked at."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[Item]] = {}
        self._waiting: deque[Iterable[Item]] = deque()
        self._floor = -math.inf

    def refresh_all(self, now: float) -> None:
        """Whatever there is counts as refreshed at `now`; what entries say of themselves stays as it is."""
        self._floor = now

    def add(self, item: Item) -> None:
        """Watch over an entry."""
        self._add_all((item,))

    def add_later(self, items: Iterable[Item]) -> None:
        """As `add`, for many; by `settle`, or before anything expires. `items` is gone through then."""
        self._waiting.append(items)

    def settle(self) -> bool:
        """Add some of those that wait; False when none do."""
        if not self._waiting:
            return False
        self._add_all(self._waiting.popleft())
        return True

    def _add_all(self, items: Iterable[Item]) -> None:
        floor, buckets = self._floor, self._buckets
        for item in items:
            refreshed = item.refreshed
            due = int(((refreshed if refreshed > floor else floor) + item.time_to_live) // SPAN)
            bucket = buckets.get(due)
            if bucket is None:
                bucket = buckets[due] = []
            bucket.append(item)

    def expired(self, now: float) -> list[Item]:
        """Every entry not refreshed for longer than its time to live; it is watched no more."""
        while self.settle():
            pass
        found: list[Item] = []
        due = sorted(number for number in self._buckets if number <= now // SPAN)
        # All due buckets are taken out before the first entry moves, which may be to one of the same number.
        for item in chain(*[self._buckets.pop(number) for number in due]):
            if item.dead:
                continue
            if now - max(item.refreshed, self._floor) > item.time_to_live:
                found.append(item)
            else:
                self.add(item)
        return found
