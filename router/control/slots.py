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
        self._held: dict[str, list[int]] = {}  # address → slot, endpoints that use it

    def __len__(self) -> int:
        """Number of addresses."""
        return len(self._held)

    def take(self, address: str) -> int:
        """The slot of an address, which one more endpoint uses; 0 when the block is full."""
        held = self._held.get(address)
        if held is None:
            held = self._held[address] = [self._unused(), 0]
        held[1] += 1
        return held[0]

    def give_back(self, address: str) -> None:
        """One endpoint less uses the address."""
        held = self._held[address]
        held[1] -= 1
        if not held[1]:
            del self._held[address]
            if held[0]:
                self._free.add(held[0])

    def reserve(self, address: str, slot: int) -> None:
        """The next `take` of the address shall give this slot, which it had in an earlier life of control.

        Without effect when the address has a slot, or another address this one.
        """
        if address in self._held:
            return
        if self._next <= slot < self._capacity:
            self._free.update(range(self._next, slot))
            self._next = slot + 1
        elif slot in self._free:
            self._free.discard(slot)
        else:
            return
        self._held[address] = [slot, 0]

    def _unused(self) -> int:
        for slot in islice(self._free, _TRIES):
            if self._idle(slot):
                self._free.discard(slot)
                return slot
        if self._next < self._capacity:
            self._next += 1
            return self._next - 1
        return 0
