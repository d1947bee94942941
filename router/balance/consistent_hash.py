"""Consistent hash: the same key goes to the same endpoint, as long as it is not overrun.

For apps that gain from it (caches, uploads in parts) and can do without: with the balance factor (1.25 unless
configured) a popular key spills over to the next endpoints.
"""

from __future__ import annotations

from router.balance.hashing import Hashing


class ConsistentHash(Hashing):
    """By `hash_key` of the route, else of the router; loads bounded by `hash_balance`."""

    __slots__ = ()
