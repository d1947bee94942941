"""Maglev's look-up table: a hash leads to an entry, an entry to an endpoint (Eisenbud et al., NSDI 2016, §3.4).

- Every endpoint has an order of preference over all entries, made of its name, and takes entries in turn, so each has
  its share to within one. Turns go in order of the names: equal sets give equal tables, on every router.
- Removing one of n endpoints moves its entries, 1/n, and few others.
- A heavier endpoint takes more turns.
- A table is filled in steps, so that a request never waits for a big one: while it grows the one before is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

SMALL, SMALL_POOL = 5003, 50
BIG = 65537
"""Entries: primes, so that every stride visits all of them."""
STEP = 500
"""Entries that are filled at once, in well under a millisecond."""

Names = tuple[tuple[str, int], ...]
"""Name and weight of each endpoint, sorted. Not all weights are 0."""


def fill(names: Names) -> Iterator[list[int] | None]:
    """Yields None after every step, at last the table: an index of `names` for each entry. At least one name."""
    size = SMALL if len(names) <= SMALL_POOL else BIG
    nexts, strides = _orders(names, size)
    heaviest = max(weight for _, weight in names)
    shares = [weight / heaviest for _, weight in names]
    credits = [0.0] * len(names)
    table = [-1] * size
    filled = 0
    while True:
        for index, share in enumerate(shares):
            credits[index] += share
            if credits[index] < 1.0:
                continue
            credits[index] -= 1.0
            entry, stride = nexts[index], strides[index]
            while table[entry] >= 0:
                entry += stride
                if entry >= size:
                    entry -= size
            table[entry] = index
            nexts[index] = entry
            filled += 1
            if filled == size:
                yield table
                return
            if not filled % STEP:
                yield None


def _orders(names: Names, size: int) -> tuple[list[int], list[int]]:
    """Where each endpoint begins, and how far it goes from one preferred entry to the next."""
    begins, strides = [], []
    for name, _ in names:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        begins.append(int.from_bytes(digest[:8], "big") % size)
        strides.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)
    return begins, strides
