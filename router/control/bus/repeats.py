"""Heartbeats that say word for word what the last one said: known by their hash, without being read again.

A payload's hash (64 bits, SipHash with this process's secret key) leads to what the registry made of it, which the
registry then finds unchanged, or not. Two payloads with one hash are as likely in a table of a million endpoints as one
in thirty million. What is not repeated within `KEPT` seconds is forgotten, so what leaves the table leaves here too.
"""

from __future__ import annotations

from typing import Any

KEPT = 150.0
MOST = 1_500_000


class Repeats:
    """Payload hash → token of the registry."""

    def __init__(self) -> None:
        self._new: dict[int, Any] = {}
        self._old: dict[int, Any] = {}
        self._until = 0.0

    def find(self, key: int) -> Any:
        """The token, None if there is none."""
        token = self._new.get(key)
        if token is None and (token := self._old.pop(key, None)) is not None:
            self._new[key] = token
        return token

    def keep(self, key: int, token: Any, now: float) -> None:
        """Remember it; `now` is monotonic seconds."""
        if now > self._until or len(self._new) >= MOST:
            self._old, self._new, self._until = self._new, {}, now + KEPT
        self._new[key] = token
