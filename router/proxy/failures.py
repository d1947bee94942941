"""How an attempt at a backend can fail, and what follows from it (contract §7.1, §7.3).

A failure is a value that the exchange reads, not an exception that flies past it. `reason` is what stands in
`X-Cf-RouterError: endpoint_failure (reason)`; operators alert on these texts, so they are the contract's.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from enum import Enum
from typing import NamedTuple

from router.observe.counters import Counter


class Retry(Enum):
    """When an attempt that failed so may be repeated."""

    NEVER = 0
    IDEMPOTENT = 1
    """Nothing was answered, but the backend may have acted: only what may be repeated (RFC 9110 §9.2.2)."""
    ALWAYS = 2
    """The backend never had the request."""


class Failure(NamedTuple):
    """One failed attempt. `marks`: the endpoint is passed over for a while (contract §4.6).

    `unfit`: a TLS endpoint leaves its pool until it is registered again (§7.4). `status` and `counter` are for the case
    that this was the last attempt (§7.3).
    """

    reason: str
    retry: Retry
    marks: bool
    unfit: bool = False
    status: int = 502
    counter: Counter | None = Counter.BAD_GATEWAYS


CLOSED = Failure("EOF", Retry.IDEMPOTENT, False)
CLOSED_AT_ONCE = Failure("EOF", Retry.ALWAYS, False)
"""The connection ended before anything was sent."""
TIMED_OUT = Failure("context deadline exceeded", Retry.NEVER, False)
TOO_MANY_HEADERS = Failure("Too many response headers", Retry.NEVER, False)
"""More lines than `max_response_headers` (contract §8.3)."""
NOTHING_TO_CHOOSE = Failure("No endpoints available", Retry.NEVER, False)

_DIAL_ERRORS = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
    errno.ETIMEDOUT: "i/o timeout",
    errno.ECONNRESET: "connect: connection reset by peer",
    errno.EADDRNOTAVAIL: "connect: cannot assign requested address",
    errno.EMFILE: "socket: too many open files",
}

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
"""Methods that may be repeated (contract §7.1)."""


def dial_failure(address: str, error: BaseException) -> Failure:
    """A connection that could not be had: refused, unreachable, timed out, no such host."""
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Failure(f"dial tcp {address}: i/o timeout", Retry.ALWAYS, True, True)
    if isinstance(error, socket.gaierror):
        host = address.rpartition(":")[0]
        return Failure(f"dial tcp: lookup {host}: no such host", Retry.ALWAYS, True, True)
    text = str(error)
    if isinstance(error, OSError):
        text = _DIAL_ERRORS.get(error.errno or 0, text)
    return Failure(f"dial tcp {address}: {text}", Retry.ALWAYS, True, True)


_NOT_VERIFIED = "tls: failed to verify certificate: x509: "
_VERIFY_ERRORS = {
    9: "certificate has expired or is not yet valid",
    10: "certificate has expired or is not yet valid",
}
_WRONG_NAME = frozenset((62, 64))  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_CERT_ALERTS = {
    "ALERT_BAD_CERTIFICATE": "bad certificate",
    "ALERT_UNKNOWN_CA": "unknown certificate authority",
    "ALERT_CERTIFICATE_REQUIRED": "certificate required",
    "ALERT_CERTIFICATE_UNKNOWN": "unknown certificate",
}
_NO_TLS = frozenset(
    ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")
)


def handshake_timeout() -> Failure:
    """A TLS handshake that took too long (contract §7.1)."""
    return Failure("net/http: TLS handshake timeout", Retry.ALWAYS, True, True)


def tls_failure(expected_name: str, error: ssl.SSLError) -> Failure:
    """A TLS handshake that failed (contract §7.1, §7.3): OpenSSL's error sorted into the contract's classes."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            reason = f"{_NOT_VERIFIED}certificate is not valid for {expected_name}"
            return Failure(reason, Retry.ALWAYS, True, True, 503, Counter.BACKEND_INVALID_ID)
        reason = _NOT_VERIFIED + _VERIFY_ERRORS.get(error.verify_code, "certificate signed by unknown authority")
        return Failure(reason, Retry.ALWAYS, True, True, 526, Counter.BACKEND_INVALID_CERT)
    name = error.reason or ""
    if name in _NO_TLS:
        reason = "tls: first record does not look like a TLS handshake"
        return Failure(reason, Retry.ALWAYS, True, True, 525, Counter.BACKEND_HANDSHAKE_FAILED)
    for alert, text in _CERT_ALERTS.items():
        if name.endswith(alert):
            return Failure(f"remote error: tls: {text}", Retry.ALWAYS, True, True, 496, None)
    text = name.lower().replace("_", " ").rpartition("alert ")[2] or str(error)
    return Failure(f"remote error: tls: {text}", Retry.ALWAYS, True, True, 525, Counter.BACKEND_HANDSHAKE_FAILED)


def lost(local: str, address: str, error: BaseException | None, in_one: bool) -> Failure:
    """A connection that ended before the response was there: closed in order, or reset.

    `in_one`: the request was given to the system in one small write. If that found the connection broken, nothing of
    the request was sent.
    """
    if error is None:
        return CLOSED
    if isinstance(error, ConnectionResetError):
        # Unlike the Go router we repeat what may be repeated: an instance that is killed resets connections that its
        # system had accepted for it (docs/decisions/0004).
        return Failure(f"read tcp {local}->{address}: read: connection reset by peer", Retry.IDEMPOTENT, True)
    if isinstance(error, BrokenPipeError) and in_one:
        return Failure(f"write tcp {local}->{address}: write: broken pipe", Retry.ALWAYS, False)
    return Failure(f"write tcp {local}->{address}: {error}", Retry.NEVER, False)


def malformed(reason: str) -> Failure:
    """A response that can't be read."""
    return Failure(
        f"net/http: HTTP/1.x transport connection broken: malformed HTTP response: {reason}",
        Retry.NEVER,
        False,
    )


def head_too_long(limit: int) -> Failure:
    """A response whose head has more than `limit` bytes."""
    return Failure(f"net/http: server response headers exceeded {limit} bytes; aborted", Retry.NEVER, False)
