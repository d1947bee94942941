"""What the router says of a request's origin (contract §5.3, §9.3): X-Forwarded-*, and request ids."""

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


def forwarded_client_cert(
    mode: str, sent: bytes | None, own: bytes, *, returned: bool = False, secure: bool = False
) -> bytes:
    """The `X-Forwarded-Client-Cert` line in the modes that don't pass on what was sent unseen (contract §9.3).

    `own` is the certificate of the client's connection, base64 of its DER, empty without one. `returned`: the request
    comes from a route service, with a good signature, over TLS if `secure`.
    """
    if returned:
        return b"X-Forwarded-Client-Cert: %b\r\n" % sent if sent and secure and mode == "sanitize_set" else b""
    value = own if mode == "sanitize_set" else sent
    return b"X-Forwarded-Client-Cert: %b\r\n" % value if own and value else b""


class RequestIds:
    """Random UUIDs (version 4, RFC 9562 §5.4), made in batches from one call to the system's generator.

    The ids of a batch share their first 74 random bits; the last 48 are each one's own.
    """

    __slots__ = ("ready",)

    _BATCH = 256

    def __init__(self) -> None:
        self.ready: list[bytes] = []
        """Ids to be popped; when there are none left, `next` makes more."""

    def next(self) -> bytes:
        """A fresh id, 36 characters."""
        if not self.ready:
            self.ready = self._make()
        return self.ready.pop()

    def _make(self) -> list[bytes]:
        digits = os.urandom(16 + 6 * self._BATCH).hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        first = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-".encode()
        own = digits[32:].encode()
        return [first + own[i : i + 12] for i in range(0, 12 * self._BATCH, 12)]
