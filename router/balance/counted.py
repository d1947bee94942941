"""The counts of many endpoints, read at once. One after another costs a pool of a hundred 20 µs, this way 2.

The slots between the first and the last of some endpoints are read as one stretch; those in between that belong to
others are masked. Where slots lie too far apart, they are read one by one after all.
"""

from __future__ import annotations

from random import random
from sys import byteorder

from router.table.endpoint import Endpoint

_SPREAD = 4
"""Slots that are read for one that is wanted, at most."""
_ALWAYS = 256
"""Slots that are always read at once."""
_NOBODY = 1 << 30
FOREIGN = 255
"""A level at which no endpoint is: that of slots of others, and of endpoints that may not be picked."""

Levels = bytearray | list[int]


class Stretch:
    """Some endpoints, at least one, in the order of their slots."""

    __slots__ = ("_first", "_foreign", "endpoints", "members", "size")

    def __init__(self, endpoints: list[Endpoint]) -> None:
        first = min(endpoint.slot for endpoint in endpoints)
        size = max(endpoint.slot for endpoint in endpoints) - first + 1
        apart = size > _SPREAD * len(endpoints) + _ALWAYS or len({e.slot for e in endpoints}) < len(endpoints)
        self._first = -1 if apart else first
        self._foreign = 0
        self.members = endpoints
        self.endpoints: list[Endpoint] = endpoints
        """By index of a level; at those of others stands any."""
        if not apart:
            at = {endpoint.slot - first: endpoint for endpoint in endpoints}
            self.endpoints = [at.get(index, endpoints[0]) for index in range(size)]
            mask = b"".join((0 if index in at else FOREIGN).to_bytes(4, byteorder) for index in range(size))
            self._foreign = int.from_bytes(mask, byteorder)
        self.size = len(self.endpoints)

    def total(self) -> int:
        """Requests in flight at all of them."""
        levels = self.read()
        foreign = len(levels) - len(self.members)
        return sum(levels) - foreign * (FOREIGN if isinstance(levels, bytearray) else _NOBODY)

    def read(self) -> Levels:
        """Requests in flight over all workers, by index. `FOREIGN` and more is nobody's, unless all have that many."""
        if self._first < 0:
            return [endpoint.in_flight for endpoint in self.endpoints]
        counts = self.endpoints[0].loads.counts
        levels = counts.levels(self._first, self.size, self._foreign)
        if levels is not None:
            return levels
        slot = self._first
        many = counts.totals(slot, self.size)
        return [many[index] if e.slot == slot + index else _NOBODY for index, e in enumerate(self.endpoints)]


def lowest(levels: Levels) -> int:
    """The least level."""
    if isinstance(levels, list):
        return min(levels)
    level = 0
    while level not in levels:
        level += 1
    return level


def one_at(levels: Levels, level: int) -> int:
    """The index of a random one of those at this level; there must be one."""
    ties = levels.count(level)
    size = len(levels)
    if ties * 8 > size:
        while True:
            index = int(random() * size)
            if levels[index] == level:
                return index
    index = levels.index(level)
    for _ in range(int(random() * ties)):
        index = levels.index(level, index + 1)
    return index
