"""Requests in flight per endpoint, counted over all workers: one block of shared memory, a lane a worker.

The block is a memfd of `LANES` lanes, each an array of `capacity` 32-bit counts. A worker writes its own lane only and
reads them all, so there is nothing to lock. Every address has a slot, given out by control; slot 0 is nobody's:
counts that land there are never read.

Pages exist once touched, so the size of the block is an address range and not memory: 200,000 endpoints take 0.8 MB a
worker. The size is sealed, so no process can pull the memory from under another.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from sys import byteorder

LANES = 64
"""Most workers a router can have."""
CAPACITY = 2**21
"""Slots a lane has, unless somebody asks for another number."""
_COUNT = 4  # bytes of one count
_LOW = 0 if byteorder == "little" else _COUNT - 1  # which of them is the lowest


def create(capacity: int = CAPACITY) -> int:
    """A new block, all counts 0: its file descriptor, which closes on exec unless passed on."""
    fd = os.memfd_create("router-in-flight", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, LANES * capacity * _COUNT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def capacity_of(fd: int) -> int:
    """Slots a lane of this block has; 0 when it is no such block."""
    slots, rest = divmod(os.fstat(fd).st_size, LANES * _COUNT)
    return 0 if rest else slots


class InFlight:
    """The block as one process sees it: `own` is lane number `lane`, `lanes` are those of all `workers`."""

    __slots__ = ("_counts", "_map", "capacity", "fd", "lanes", "own")

    def __init__(self, fd: int, lane: int = 0, workers: int = 1) -> None:
        """Map the block behind `fd`, which stays open and the caller's. At first lanes 0 to `workers` - 1 count."""
        self.fd = fd
        self.capacity = capacity_of(fd)
        self._map = mmap.mmap(fd, LANES * self.capacity * _COUNT)
        self._counts = memoryview(self._map).cast("i")
        self.own = self._lane(lane)
        """Counts of this worker by slot, to be written by it alone."""
        self.lanes: list[memoryview] = []
        """The lanes that count, to be read by all."""
        self.activate(range(workers))

    def _lane(self, number: int) -> memoryview:
        return self._counts[number * self.capacity : (number + 1) * self.capacity]

    def activate(self, lanes: Iterable[int]) -> None:
        """Count these lanes."""
        self.lanes = [self._lane(number) for number in lanes]

    def total(self, slot: int) -> int:
        """Requests in flight at the address with this slot, over all workers."""
        return sum(lane[slot] for lane in self.lanes)

    def totals(self, first: int, size: int) -> list[int]:
        """Requests in flight at the slots from `first` on, over all workers. No count may be negative.

        Lanes are added up as whole numbers of 4 * `size` bytes: a pool of hundreds is read in microseconds.
        """
        lanes = self.lanes
        last = first + size
        if len(lanes) == 1:
            return lanes[0][first:last].tolist()
        total = 0
        for lane in lanes:
            total += int.from_bytes(lane[first:last], byteorder)
        return memoryview(total.to_bytes(size * _COUNT, byteorder)).cast("i").tolist()

    def levels(self, first: int, size: int, foreign: int) -> bytearray | None:
        """As `totals`, a byte a slot; None when a count needs more. `foreign`, 4 bytes a slot, is added."""
        last = first + size
        total = foreign
        for lane in self.lanes:
            total += int.from_bytes(lane[first:last], byteorder)
        every = total.to_bytes(size * _COUNT, byteorder)
        low = bytearray(every[_LOW::_COUNT])
        return low if every.count(0) - low.count(0) == 3 * size else None

    def slot_idle(self, slot: int) -> bool:
        """No worker has a request there: the slot may be given to another address."""
        return not any(lane[slot] for lane in self.lanes)

    def clear(self, lane: int) -> None:
        """Forget the counts of a worker that is gone; its memory goes back to the system."""
        size = self.capacity * _COUNT
        self._map.madvise(mmap.MADV_REMOVE, lane * size, size)

    def close(self) -> None:
        """Unmap. Nobody may use the lanes any more."""
        for lane in (*self.lanes, self.own, self._counts):
            lane.release()
        self._map.close()
