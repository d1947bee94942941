"""How an attempt at a backend can fail, and what follows from it (contract §7.1, §7.3).

A failure is a value that the exchange reads, not an exception that flies past it. `reason` is what stands in
`X-Cf-RouterError: endpoint_failure (reason)`; operators alert on these texts, so they are the contract's.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from enum import Enum
from typing import NamedTuple


class Retry(Enum):
    """When an attempt that failed so may be repeated."""

    NEVER = 0
    IDEMPOTENT = 1
    """Nothing was answered, but the backend may have acted: only what may be repeated (RFC 9110 §9.2.2)."""
    ALWAYS = 2
    """The backend never had the request."""


class Failure(NamedTuple):
    """One failed attempt. `marks`: the endpoint is passed over for a while (contract §4.6)."""

    reason: str
    retry: Retry
    marks: bool


CLOSED = Failure("EOF", Retry.IDEMPOTENT, False)
TIMED_OUT = Failure("context deadline exceeded", Retry.NEVER, False)
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
        return Failure(f"dial tcp {address}: i/o timeout", Retry.ALWAYS, True)
    if isinstance(error, socket.gaierror):
        host = address.rpartition(":")[0]
        return Failure(f"dial tcp: lookup {host}: no such host", Retry.ALWAYS, True)
    text = str(error)
    if isinstance(error, OSError):
        text = _DIAL_ERRORS.get(error.errno or 0, text)
    return Failure(f"dial tcp {address}: {text}", Retry.ALWAYS, True)


def lost(local: str, address: str, error: BaseException | None, in_one: bool) -> Failure:
    """A connection that ended before the response was there: closed in order, or reset.

    `in_one`: the request was given to the system in one small write. If that found the connection broken, nothing of
    the request was sent.
    """
    if error is None:
        return CLOSED
    if isinstance(error, ConnectionResetError):
        return Failure(f"read tcp {local}->{address}: read: connection reset by peer", Retry.NEVER, True)
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
