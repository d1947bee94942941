"""Trace context of a request: B3 (Zipkin) and W3C, read, continued or begun (contract §5.4). Bytes in, bytes out.

A client may send anything: only ids of the right shape are continued, all else begins a new trace. The request id is
the trace id where that has the size of a UUID, so that logs and traces meet.

Where the router exports spans (`Tracing.sampled`) a request that is sampled gets a `Span`, and its backend is told the
id of that. All others are treated as if nothing were exported: a parent that nobody ever hears of is worse than none.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

Noted = dict[bytes, bytes]

B3 = b"b3"
B3_TRACE = b"x-b3-traceid"
B3_SPAN = b"x-b3-spanid"
B3_PARENT = b"x-b3-parentspanid"
B3_SAMPLED = b"x-b3-sampled"
B3_FLAGS = b"x-b3-flags"
TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"

MAX_TRACESTATE = 2048

_TRACE_ID = re.compile(rb"(?:[0-9a-fA-F]{16}){1,2}")
_SPAN_ID = re.compile(rb"[0-9a-fA-F]{16}")
_SINGLE = re.compile(rb"((?:[0-9a-fA-F]{16}){1,2})-([0-9a-fA-F]{16})(?:-([01d])(?:-[0-9a-fA-F]{16})?)?")
_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_RANDOM_BITS = 56
"""The bits of a trace id that are random even where it is a UUID: its last ones (W3C Trace Context 2, §3.2.2.3)."""


class Span:
    """What the router tells of one sampled request: its own span, and below it one for each attempt at a backend.

    Ids are lower-case hexadecimal. `attempts` are those that failed, as whoever notes them likes to write them.
    """

    __slots__ = ("attempt_id", "attempt_over", "attempts", "id", "parent_id", "trace_id")

    def __init__(self, trace_id: bytes, parent_id: bytes) -> None:
        self.trace_id = trace_id.lower().rjust(32, b"0")
        self.parent_id = parent_id.lower()
        """The caller's span; empty = the trace begins here."""
        ids = os.urandom(16).hex().encode()
        self.id, self.attempt_id = ids[:16], ids[16:]
        """The router's span, and that of the attempt under way: the backend knows the latter as its parent."""
        self.attempts: list[Any] = []
        self.attempt_over = False
        """The attempt that came last is among them."""


class Trace(NamedTuple):
    """What is known of a request's trace, and what its backend is told."""

    request_id: bytes
    trace_id: bytes
    span_id: bytes
    lines: bytes
    """Header lines for the backend."""
    sent: dict[bytes, bytes]
    """The same by lower-case name, for the access log."""
    span: Span | None = None
    """What is to be told of the request, if anything."""

    def for_another_attempt(self) -> Trace:
        """The same with another id for the attempt that comes now."""
        assert self.span is not None
        before, now = self.span.attempt_id, os.urandom(8).hex().encode()
        self.span.attempt_id, self.span.attempt_over = now, False
        sent = {name: value.replace(before, now) for name, value in self.sent.items()}
        return self._replace(lines=self.lines.replace(before, now), sent=sent)


class Tracing:
    """The systems that are on. `tenant` is `tracing.w3c_tenant_id`.

    `sampled` is the share of requests, 0 to 1, of which spans are exported where the client doesn't say whether; None =
    nothing is exported.
    """

    __slots__ = ("_key", "_threshold", "_w3c", "_zipkin", "withheld")

    def __init__(self, zipkin: bool, w3c: bool, tenant: str = "", sampled: float | None = None) -> None:
        self._zipkin = zipkin
        self._w3c = w3c
        self._key = f"{tenant}@gorouter".encode() if tenant else b"gorouter"
        self._threshold = int(sampled * (1 << _RANDOM_BITS)) if sampled is not None else None
        self.withheld = (_B3_HEADERS if zipkin else ()) + ((TRACEPARENT, TRACESTATE) if w3c else ())
        """Request headers, lower case, that are noted and told to the backend by `Trace.lines` alone."""

    def trace(self, noted: Noted, fresh: bytes) -> Trace:
        """The trace of a request with these headers; `fresh` is a new request id for the case that it brings none."""
        if self._threshold is not None:
            return self._exported(noted, fresh, self._threshold)
        return self._passed(noted, fresh, begun_sampled=True)

    def _passed(self, noted: Noted, fresh: bytes, *, begun_sampled: bool) -> Trace:
        """Without a span of ours. `begun_sampled`: so is a trace that begins here, if it says anything on that."""
        ids: tuple[bytes, bytes] | None = None
        own = fresh.replace(b"-", b"")
        sent: dict[bytes, bytes] = {}
        if self._zipkin:
            ids = _zipkin(noted, own, sent)
            if sent.get(B3_TRACE) is own and not begun_sampled:
                sent[B3] += b"-0"
        if self._w3c:
            w3c = self._parent(noted, ids, own, sent, b"01" if begun_sampled else b"00")
            ids = ids or w3c
        trace_id, span_id = ids or (own, own[16:])
        return Trace(_request_id(trace_id, fresh), trace_id, span_id, _lines(sent), sent)

    def _exported(self, noted: Noted, fresh: bytes, threshold: int) -> Trace:
        """Decide as the client has; where it leaves that to us, by the trace id, so that all routers decide alike."""
        own = fresh.replace(b"-", b"")
        w3c = self._given(noted) if self._w3c else None
        b3 = _given_b3(noted) if self._zipkin else None
        trace_id, parent_id, wanted = (w3c[0], w3c[1], int(w3c[2], 16) & 1 == 1) if w3c else b3 or (own, b"", None)
        if wanted is None:
            wanted = int(trace_id[-_RANDOM_BITS // 4 :], 16) < threshold
        if not wanted:
            return self._passed(noted, fresh, begun_sampled=False)
        span = Span(trace_id, parent_id)
        sent: dict[bytes, bytes] = {}
        if self._zipkin:
            if b3 is not None and b3[0].lower().rjust(32, b"0") != span.trace_id:
                _zipkin(noted, own, sent)  # another trace, of which we have nothing to tell
            else:
                _b3_of(span, trace_id, _debugged(noted), sent)
        if self._w3c:
            sent[TRACEPARENT] = b"00-%b-%b-%b" % (span.trace_id, span.attempt_id, w3c[2] if w3c else b"01")
            sent[TRACESTATE] = self._state(noted.get(TRACESTATE, b"") if w3c else b"", span.attempt_id)
        id_of = b3[0] if b3 is not None else trace_id
        return Trace(_request_id(id_of, fresh), span.trace_id, span.id, _lines(sent), sent, span)

    def _given(self, noted: Noted) -> tuple[bytes, bytes, bytes] | None:
        """Trace id, parent id and flags of a valid `traceparent`."""
        given = _PARENT.fullmatch(noted.get(TRACEPARENT, b"").strip(b" \t").lower())
        return (given[1], given[2], given[3]) if given is not None else None

    def _parent(
        self, noted: Noted, ids: tuple[bytes, bytes] | None, own: bytes, sent: dict[bytes, bytes], begun: bytes
    ) -> tuple[bytes, bytes] | None:
        given = self._given(noted)
        if given is None:
            trace_id, span_id = ids or (own, own[16:])
            sent[TRACEPARENT] = b"00-%b-%b-%b" % (trace_id.lower().rjust(32, b"0"), span_id.lower(), begun)
            sent[TRACESTATE] = b"%b=%b" % (self._key, span_id.lower())
            return None
        trace_id, _, flags = given
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


def _request_id(trace_id: bytes, fresh: bytes) -> bytes:
    if len(trace_id) != 32:
        return fresh
    t = trace_id.lower()
    return b"-".join((t[:8], t[8:12], t[12:16], t[16:20], t[20:]))


def _lines(sent: dict[bytes, bytes]) -> bytes:
    return b"".join([b"%b: %b\r\n" % (_SPELLED[name], value) for name, value in sent.items()])


def _given_b3(noted: Noted) -> tuple[bytes, bytes, bool | None] | None:
    """Trace id, span id and whether it is sampled, None = undecided."""
    if single := _SINGLE.fullmatch(noted.get(B3, b"")):
        return single[1], single[2], _DECIDED.get(single[3])
    trace_id, span_id = noted.get(B3_TRACE, b""), noted.get(B3_SPAN, b"")
    if not _TRACE_ID.fullmatch(trace_id) or not _SPAN_ID.fullmatch(span_id):
        return None
    return trace_id, span_id, _DECIDED.get(_sampling(noted)[0] if _sampling(noted) else None)


def _debugged(noted: Noted) -> bool:
    """The client wants the trace whatever others decide."""
    return noted.get(B3_FLAGS) == b"1" or b"-d" in noted.get(B3, b"")


def _b3_of(span: Span, trace_id: bytes, debug: bool, sent: dict[bytes, bytes]) -> None:
    """Both forms of B3 for a sampled request; the trace id in the length in which it came."""
    sent[B3_TRACE], sent[B3_SPAN], sent[B3_PARENT] = trace_id, span.attempt_id, span.id
    sent[B3_FLAGS if debug else B3_SAMPLED] = b"1"
    sent[B3] = b"-".join((trace_id, span.attempt_id, b"d" if debug else b"1", span.id))


def _zipkin(noted: Noted, own: bytes, sent: dict[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """Fill `sent`; trace id and span id, None when they can't be read and nothing is to be changed."""
    for name in _B3_HEADERS:
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
    state = b"d" if noted.get(B3_FLAGS) == b"1" else _SAMPLED.get(noted.get(B3_SAMPLED, b"").lower())
    if state is None:
        return []
    parent = noted.get(B3_PARENT, b"")
    return [state, parent] if _SPAN_ID.fullmatch(parent) else [state]


_SAMPLED = {b"0": b"0", b"1": b"1", b"true": b"1", b"false": b"0"}
_DECIDED: dict[bytes | None, bool] = {b"0": False, b"1": True, b"d": True}
_B3_HEADERS = (B3_TRACE, B3_SPAN, B3_PARENT, B3_SAMPLED, B3_FLAGS, B3)
_SPELLED = {
    B3: b"b3",
    B3_TRACE: b"X-B3-TraceId",
    B3_SPAN: b"X-B3-SpanId",
    B3_PARENT: b"X-B3-ParentSpanId",
    B3_SAMPLED: b"X-B3-Sampled",
    B3_FLAGS: b"X-B3-Flags",
    TRACEPARENT: b"traceparent",
    TRACESTATE: b"tracestate",
}
