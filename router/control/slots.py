"""Places in the shared block of in-flight counts: one an address, whatever number of endpoints stands at it.

A slot goes back when no endpoint uses its address any more, and is given to another address only when nobody has a
request on it: a count that starts above zero would never be right again. Slot 0 means "not counted".
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

_TRIES = 8
"""Free slots that are looked at for an idle one before a fresh one is taken."""


class Slots:
    """Slots 1 to `capacity` - 1; `idle` tells whether all counts of a slot are zero."""

    def __init__(self, capacity: int, idle: Callable[[int], bool]) -> None:
        self._capacity = capacity
        self._idle = idle
        self._next = 1
        self._free: set[int] = set()

    def take(self) -> int:
        """A slot that nobody has; 0 when the block is full."""
        if self._free:
            for slot in islice(self._free, _TRIES):
                if self._idle(slot):
                    self._free.discard(slot)
                    return slot
        if self._next < self._capacity:
            self._next += 1
            return self._next - 1
        return 0

    def reserve(self, slot: int) -> bool:
        """Take this very slot, which an address had in an earlier life of control; False when it can't be had."""
        if self._next <= slot < self._capacity:
            self._free.update(range(self._next, slot))
            self._next = slot + 1
            return True
        if slot in self._free:
            self._free.discard(slot)
            return True
        return False

    def give_back(self, slot: int) -> None:
        """Nobody uses it any more."""
        if slot:
            self._free.add(slot)
