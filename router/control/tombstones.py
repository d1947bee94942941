"""What was taken away, and when: so that a router which did not hear of it cannot bring it back.

A tombstone outlives every copy of what it stands for: it is kept for the staleness threshold, and a copy that was last
registered before it is older than that when the tombstone goes. The number is bounded; the oldest go first.
"""

from __future__ import annotations

from collections.abc import Iterator

MOST = 500_000

Name = tuple[str, str]
"""Route key and `host:port`."""


class Tombstones:
    """Names and the monotonic second up to which they are gone."""

    def __init__(self, lifetime: float) -> None:
        """`lifetime` is seconds."""
        self._lifetime = lifetime
        self._stamps: dict[Name, float] = {}  # about in the order of their stamps

    def __len__(self) -> int:
        return len(self._stamps)

    def bury(self, name: Name, stamp: float) -> None:
        """This is gone since `stamp`, or since longer ago if known so; a later stamp holds."""
        known = self._stamps.pop(name, stamp)
        self._stamps[name] = max(stamp, known)
        if len(self._stamps) > MOST:
            del self._stamps[next(iter(self._stamps))]

    def lift(self, name: Name) -> float | None:
        """This is there again: its stamp, None when there was no tombstone."""
        return self._stamps.pop(name, None)

    def covers(self, name: Name, stamp: float) -> bool:
        """What was last heard of at `stamp` has been taken away since."""
        return stamp <= self._stamps.get(name, stamp - 1.0)

    def expire(self, now: float) -> None:
        """Forget those that nothing living can contradict any more."""
        old = now - self._lifetime
        while self._stamps:
            name = next(iter(self._stamps))
            if self._stamps[name] >= old:
                return
            del self._stamps[name]

    def items(self) -> Iterator[tuple[Name, float]]:
        """All of them as of now."""
        return iter(list(self._stamps.items()))
