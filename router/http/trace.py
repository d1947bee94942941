"""Trace context of a request: B3 (Zipkin) and W3C, read, continued or begun (contract §5.4). Bytes in, bytes out.

A client may send anything: only ids of the right shape are continued, all else begins a new trace. The request id is
the trace id where that has the size of a UUID, so that logs and traces meet.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

Noted = dict[bytes, bytes]

B3 = b"b3"
B3_TRACE = b"x-b3-traceid"
B3_SPAN = b"x-b3-spanid"
TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"

MAX_TRACESTATE = 2048

_TRACE_ID = re.compile(rb"(?:[0-9a-fA-F]{16}){1,2}")
_SPAN_ID = re.compile(rb"[0-9a-fA-F]{16}")
_SINGLE = re.compile(rb"((?:[0-9a-fA-F]{16}){1,2})-([0-9a-fA-F]{16})(?:-[01d](?:-[0-9a-fA-F]{16})?)?")
_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


class Trace(NamedTuple):
    """What is known of a request's trace, and what its backend is told."""

    request_id: bytes
    trace_id: bytes
    span_id: bytes
    lines: bytes
    """Header lines for the backend."""
    sent: dict[bytes, bytes]
    """The same by lower-case name, for the access log."""


class Tracing:
    """The systems that are on. `tenant` is `tracing.w3c_tenant_id`."""

    __slots__ = ("_key", "_w3c", "_zipkin", "withheld")

    def __init__(self, zipkin: bool, w3c: bool, tenant: str = "") -> None:
        self._zipkin = zipkin
        self._w3c = w3c
        self._key = f"{tenant}@gorouter".encode() if tenant else b"gorouter"
        self.withheld = ((B3, B3_TRACE, B3_SPAN) if zipkin else ()) + ((TRACEPARENT, TRACESTATE) if w3c else ())
        """Request headers, lower case, that are noted and told to the backend by `Trace.lines` alone."""

    def trace(self, noted: Noted, fresh: bytes) -> Trace:
        """The trace of a request with these headers; `fresh` is a new request id for the case that it brings none."""
        ids: tuple[bytes, bytes] | None = None
        own = fresh.replace(b"-", b"")
        sent: dict[bytes, bytes] = {}
        if self._zipkin:
            ids = _zipkin(noted, own, sent)
        if self._w3c:
            w3c = self._parent(noted, ids, own, sent)
            ids = ids or w3c
        trace_id, span_id = ids or (own, own[16:])
        request_id = fresh
        if len(trace_id) == 32:
            t = trace_id.lower()
            request_id = b"-".join((t[:8], t[8:12], t[12:16], t[16:20], t[20:]))
        lines = b"".join([b"%b: %b\r\n" % (_SPELLED[name], value) for name, value in sent.items()])
        return Trace(request_id, trace_id, span_id, lines, sent)

    def _parent(
        self, noted: Noted, ids: tuple[bytes, bytes] | None, own: bytes, sent: dict[bytes, bytes]
    ) -> tuple[bytes, bytes] | None:
        given = _PARENT.fullmatch(noted.get(TRACEPARENT, b"").strip(b" \t").lower())
        if given is None:
            trace_id, span_id = ids or (own, own[16:])
            sent[TRACEPARENT] = b"00-%b-%b-01" % (trace_id.lower().rjust(32, b"0"), span_id.lower())
            sent[TRACESTATE] = b"%b=%b" % (self._key, span_id.lower())
            return None
        trace_id, flags = given.groups()
        span_id = os.urandom(8).hex().encode()
        sent[TRACEPARENT] = b"00-%b-%b-%b" % (trace_id, span_id, flags)
        sent[TRACESTATE] = self._state(noted.get(TRACESTATE, b""), span_id)
        return trace_id, span_id

    def _state(self, given: bytes, span_id: bytes) -> bytes:
        entries = [b"%b=%b" % (self._key, span_id)]
        if len(given) <= MAX_TRACESTATE:
            for entry in given.split(b","):
                entry = entry.strip(b" \t")
                if entry and entry.partition(b"=")[0] != self._key:
                    entries.append(entry)
        return b",".join(entries)


def _zipkin(noted: Noted, own: bytes, sent: dict[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """Fill `sent`; trace id and span id, None when they can't be read and nothing is to be changed."""
    for name in (B3_TRACE, B3_SPAN, B3):
        if noted.get(name):
            sent[name] = noted[name]
    if single := _SINGLE.fullmatch(noted.get(B3, b"")):
        return single[1], single[2]
    trace_id, span_id = noted.get(B3_TRACE, b""), noted.get(B3_SPAN, b"")
    if trace_id and span_id:
        if not _TRACE_ID.fullmatch(trace_id) or not _SPAN_ID.fullmatch(span_id):
            return None
        sent[B3] = b"-".join((trace_id, span_id, *_sampling(noted)))
        return trace_id, span_id
    sent[B3_TRACE], sent[B3_SPAN] = own, own[16:]
    sent[B3] = b"%b-%b" % (own, own[16:])
    return own, own[16:]


def _sampling(noted: Noted) -> list[bytes]:
    """The sampling state of the several headers, as the single one says it, and the parent after it."""
    state = b"d" if noted.get(b"x-b3-flags") == b"1" else _SAMPLED.get(noted.get(b"x-b3-sampled", b"").lower())
    if state is None:
        return []
    parent = noted.get(b"x-b3-parentspanid", b"")
    return [state, parent] if _SPAN_ID.fullmatch(parent) else [state]


_SAMPLED = {b"0": b"0", b"1": b"1", b"true": b"1", b"false": b"0"}
_SPELLED = {
    B3: b"b3",
    B3_TRACE: b"X-B3-TraceId",
    B3_SPAN: b"X-B3-SpanId",
    TRACEPARENT: b"traceparent",
    TRACESTATE: b"tracestate",
}
