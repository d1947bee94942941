"""What a worker writes down about the requests of each endpoint, until the next report takes it (contract §11).

An account exists only for an endpoint that had something to do since the last report, so a table of 100,000 idle
endpoints costs nothing. Names of router-made errors are cut to their kind here: addresses and texts of libraries would
make a new series of every failure.
"""

from __future__ import annotations

from collections import defaultdict

from router.messages import EndpointSpec, EndpointStats

MAX_FAILURES = 64
"""Failed requests that a report tells one by one; of others only the kind is counted."""
MAX_CLIENTS = 32
"""Clients of one endpoint that are told apart between two reports."""
LOOKUP_STEP = 10_000
"""Nanoseconds (contract §11.5 `route_lookup_time`)."""
LOOKUP_STEPS = 10
LOOKUP_LONG = LOOKUP_STEP * LOOKUP_STEPS

_KINDS = (
    ("connection refused", "connection refused"),
    ("i/o timeout", "dial timeout"),
    ("no such host", "name not found"),
    ("TLS handshake timeout", "TLS handshake timeout"),
    ("certificate has expired", "certificate expired"),
    ("certificate is not valid for", "certificate name"),
    ("certificate", "certificate not trusted"),
    ("tls:", "TLS handshake failed"),
    ("connection reset", "connection reset"),
    ("EOF", "EOF"),
    ("deadline exceeded", "timeout"),
    ("context canceled", "client gone"),
    ("malformed", "malformed response"),
    ("headers exceeded", "response head too large"),
    ("Too many response headers", "response head too large"),
    ("No endpoints available", "no endpoint available"),
)
"""A part of a failure's text → the kind under which it is counted; the first that matches."""


def kind_of(error: str) -> str:
    """The kind of a router-made error: `unknown_route`, or for a failed endpoint the class of the failure."""
    if not error.startswith("endpoint_failure"):
        return error
    for part, kind in _KINDS:
        if part in error:
            return kind
    return "other endpoint failure"


class Account:
    """One endpoint since the last report."""

    __slots__ = ("bytes_in", "bytes_out", "cells", "classes", "clients", "failures", "reason")

    def __init__(self) -> None:
        self.classes = [0, 0, 0, 0, 0]
        self.cells: dict[int, int] = defaultdict(int)
        self.bytes_in = 0
        self.bytes_out = 0
        self.clients: dict[bytes, int] = {}
        self.failures = 0
        self.reason = ""

    def add_client(self, client: bytes) -> None:
        """The first request of a client; beyond `MAX_CLIENTS` it is not told apart."""
        if len(self.clients) < MAX_CLIENTS:
            self.clients[client] = 1

    def report(self, spec: EndpointSpec, state: tuple[str, str], failed_for: float) -> EndpointStats:
        """As control is told. `state`: of the endpoint, and why; `failed_for`: seconds for which it is passed over."""
        return EndpointStats(
            spec,
            self.classes,
            self.cells,
            self.bytes_in,
            self.bytes_out,
            self.failures,
            self.reason,
            *state,
            failed_for,
            self.clients,
        )
