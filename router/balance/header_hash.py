"""`hash` of contract §4.8: by the header that the route's `hash_header` names. Never the router's default."""

from __future__ import annotations

from router.balance.hashing import Hashing


class HeaderHash(Hashing):
    """By a header; without `hash_balance` load is not looked at."""

    __slots__ = ()

    def over(self, here: int, everywhere: int, endpoints: int) -> bool:
        """More in flight than the factor times the pool's average (contract §4.8)."""
        return here * endpoints > self._balance * everywhere
