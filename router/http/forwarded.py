"""What the router says of a request's origin (contract §5.3): X-Forwarded-Proto, and request ids."""

from __future__ import annotations

import os
from typing import Protocol


class ProtoRules(Protocol):
    """The two settings that decide X-Forwarded-Proto."""

    @property
    def force_forwarded_proto_https(self) -> bool: ...
    @property
    def sanitize_forwarded_proto(self) -> bool: ...


def forwarded_proto(sent: bytes | None, secure: bool, rules: ProtoRules) -> bytes:
    """Value of X-Forwarded-Proto: by force, else the client's own word unless it is to be distrusted or empty."""
    if rules.force_forwarded_proto_https:
        return b"https"
    if rules.sanitize_forwarded_proto or not sent:
        return b"https" if secure else b"http"
    return sent


class RequestIds:
    """Random UUIDs (version 4, RFC 9562 §5.4), made in batches: one call to the system's generator for 256 of them."""

    __slots__ = ("_ready",)

    _BATCH = 256

    def __init__(self) -> None:
        self._ready: list[bytes] = []

    def next(self) -> bytes:
        """A fresh id, 36 characters."""
        if not self._ready:
            digits = os.urandom(16 * self._BATCH).hex()
            self._ready = [_uuid4(digits[i : i + 32]) for i in range(0, 32 * self._BATCH, 32)]
        return self._ready.pop()


def _uuid4(digits: str) -> bytes:
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}".encode()
