"""Latencies in log-linear buckets: mergeable, bounded, within 0.8 % of the true value.

A value in microseconds falls into one of 64 equal parts of its power of two, so a bucket is found with two shifts and
a histogram is a dict from bucket to count. Times below 64 µs are exact to the microsecond; the largest is over an hour.

A *cell* is a bucket with the kind of the time in its upper bits, so that one dict holds all the times of an endpoint.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

_PARTS = 6  # bits: 64 parts per power of two
_LARGEST = (1 << 32) - 1  # microseconds

KIND_SHIFT = 11
"""Bits of a bucket; the kind of a cell is above them."""
TOTAL, ROUTER, DIAL, BACKEND = (kind << KIND_SHIFT for kind in range(4))
"""Receipt to the end; receipt to the first attempt; connecting; request sent to response head. Added to a bucket."""
KINDS = {"total": TOTAL, "router": ROUTER, "dial": DIAL, "backend": BACKEND}


def bucket(microseconds: int) -> int:
    """The bucket of a duration; negative ones (a clock that was set back) count as 0."""
    if microseconds < 64:
        return microseconds if microseconds > 0 else 0
    if microseconds > _LARGEST:
        microseconds = _LARGEST
    shift = microseconds.bit_length() - _PARTS - 1
    return (shift << _PARTS) + (microseconds >> shift)


FAST = 8192
"""Microseconds below which a cell is looked up instead of worked out."""


def _cells(kind: int) -> list[int]:
    """One object for each cell: a dict that knows the object finds it without comparing."""
    known: dict[int, int] = {}
    cells = (kind + bucket(microseconds) for microseconds in range(FAST))
    return [known.setdefault(cell, cell) for cell in cells]


TOTAL_CELLS, ROUTER_CELLS, BACKEND_CELLS = _cells(TOTAL), _cells(ROUTER), _cells(BACKEND)


def value(index: int) -> float:
    """The middle of a bucket, in seconds."""
    if index < 128:
        return index / 1e6
    shift = (index >> _PARTS) - 1
    low = (index - (shift << _PARTS)) << shift
    return (low + (1 << shift) / 2) / 1e6


def percentile(counts: Mapping[int, int], q: float) -> float:
    """The value, in seconds, that the share `q` (0…1) of all samples does not exceed; 0.0 without samples."""
    rising = sorted(counts)
    found = quantiles(rising, [counts[bucket] for bucket in rising], (q,))
    return value(found[0]) if found else 0.0


def quantiles(rising: Sequence[int], counts: Iterable[int], shares: Iterable[float]) -> list[int]:
    """Of rising values, each of which came so many times: the one of each share; none without samples."""
    seen = list(accumulate(counts))
    if not seen or not seen[-1]:
        return []
    last = len(seen) - 1
    return [rising[bisect_left(seen, share * seen[-1], 0, last)] for share in shares]


def of_kind(cells: Mapping[int, int], kind: int) -> dict[int, int]:
    """The histogram of one kind of time."""
    limit = kind + (1 << KIND_SHIFT)
    return {cell - kind: count for cell, count in cells.items() if kind <= cell < limit}


def merge(into: dict[int, int], more: Mapping[int, int]) -> None:
    """Add the counts of `more`."""
    for index, count in more.items():
        into[index] = into.get(index, 0) + count
