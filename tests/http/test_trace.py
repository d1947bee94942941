"""Trace context (contract §5.4, W3C Trace Context §3): a row is what a client sends and what its backend is told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.http.trace import Tracing

FRESH = b"caa20839-c102-4b25-9d58-b40471c90047"
OWN = FRESH.replace(b"-", b"")
SPAN = OWN[16:]
T32, T16, S = b"463ac35c9f6413ad48485a3953bb6124", b"48485a3953bb6124", b"a2fb4a1d1a96d312"
T32_AS_ID = b"463ac35c-9f64-13ad-4848-5a3953bb6124"

ZIPKIN = [
    # sent, told, request id
    ({}, {b"x-b3-traceid": OWN, b"x-b3-spanid": SPAN, b"b3": OWN + b"-" + SPAN}, FRESH),
    ({b"b3": T32 + b"-" + S + b"-1"}, {b"b3": T32 + b"-" + S + b"-1"}, T32_AS_ID),
    ({b"b3": T16 + b"-" + S + b"-d-" + S}, {b"b3": T16 + b"-" + S + b"-d-" + S}, FRESH),
    (
        {b"x-b3-traceid": T32, b"x-b3-spanid": S},
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"b3": T32 + b"-" + S},
        T32_AS_ID,
    ),
    (
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"x-b3-sampled": b"1", b"x-b3-parentspanid": SPAN},
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"b3": T32 + b"-" + S + b"-1-" + SPAN},
        T32_AS_ID,
    ),
    (
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"x-b3-flags": b"1", b"b3": b"rubbish"},
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"b3": T32 + b"-" + S + b"-d"},
        T32_AS_ID,
    ),
    ({b"x-b3-traceid": b"zz", b"x-b3-spanid": b"1"}, {b"x-b3-traceid": b"zz", b"x-b3-spanid": b"1"}, FRESH),
    ({b"x-b3-traceid": T32}, {b"x-b3-traceid": OWN, b"x-b3-spanid": SPAN, b"b3": OWN + b"-" + SPAN}, FRESH),
    ({b"b3": b"0"}, {b"x-b3-traceid": OWN, b"x-b3-spanid": SPAN, b"b3": OWN + b"-" + SPAN}, FRESH),
]


@pytest.mark.parametrize(("sent", "told", "request_id"), ZIPKIN)
def test_zipkin(sent: dict[bytes, bytes], told: dict[bytes, bytes], request_id: bytes) -> None:
    trace = Tracing(True, False).trace(sent, FRESH)
    assert trace.sent == told
    assert trace.request_id == request_id


PARENT = b"00-" + T32 + b"-" + S + b"-01"
W3C = [
    # traceparent, tracestate, told traceparent, told tracestate (@ = the new parent id), request id
    (b"", b"", b"00-" + OWN + b"-" + SPAN + b"-01", b"gorouter=" + SPAN, FRESH),
    (PARENT, b"", b"00-" + T32 + b"-@-01", b"gorouter=@", T32_AS_ID),
    (PARENT.upper(), b"", b"00-" + T32 + b"-@-01", b"gorouter=@", T32_AS_ID),
    (PARENT[:-2] + b"00", b"a=1, b=2", b"00-" + T32 + b"-@-00", b"gorouter=@,a=1,b=2", T32_AS_ID),
    (PARENT, b"a=1,gorouter=" + S + b",b=2", b"00-" + T32 + b"-@-01", b"gorouter=@,a=1,b=2", T32_AS_ID),
    (PARENT, b"a=" + b"x" * 2048, b"00-" + T32 + b"-@-01", b"gorouter=@", T32_AS_ID),
    (PARENT + b"0", b"a=1", b"00-" + OWN + b"-" + SPAN + b"-01", b"gorouter=" + SPAN, FRESH),
    (b"00-" + b"0" * 32 + b"-" + S + b"-01", b"a=1", b"00-" + OWN + b"-" + SPAN + b"-01", b"gorouter=" + SPAN, FRESH),
    (b"ff-" + T32 + b"-" + S + b"-01", b"a=1", b"00-" + OWN + b"-" + SPAN + b"-01", b"gorouter=" + SPAN, FRESH),
]


@pytest.mark.parametrize(("parent", "state", "told", "told_state", "request_id"), W3C)
def test_w3c(parent: bytes, state: bytes, told: bytes, told_state: bytes, request_id: bytes) -> None:
    trace = Tracing(False, True).trace({b"traceparent": parent, b"tracestate": state}, FRESH)
    assert re.fullmatch(told.replace(b"@", b"([0-9a-f]{16})"), trace.sent[b"traceparent"])
    assert trace.sent[b"tracestate"] == told_state.replace(b"@", trace.span_id)
    assert trace.request_id == request_id


def test_both() -> None:
    """Zipkin decides; with `traceparent` alone it begins a trace of its own (contract §5.4)."""
    tracing = Tracing(True, True, "tenant")
    trace = tracing.trace({b"b3": T16 + b"-" + S}, FRESH)
    assert trace.sent[b"traceparent"] == b"00-" + b"0" * 16 + T16 + b"-" + S + b"-01"
    assert trace.sent[b"tracestate"] == b"tenant@gorouter=" + S
    trace = tracing.trace({b"traceparent": PARENT}, FRESH)
    assert trace.sent[b"x-b3-traceid"] == OWN
    assert trace.sent[b"traceparent"].startswith(b"00-" + T32)
    assert trace.request_id == FRESH


VALUE = st.one_of(
    st.binary(max_size=80).map(lambda value: re.sub(rb"[\x00-\x1f\x7f]", b"", value)),
    st.sampled_from([T32, T16, S, PARENT, T32 + b"-" + S]),
)
NAMES = [b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-sampled", b"x-b3-parentspanid", b"traceparent", b"tracestate"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUE))
def test_whatever_is_sent_the_request_id_is_valid(sent: dict[bytes, bytes]) -> None:
    trace = Tracing(True, True).trace(sent, FRESH)
    assert re.fullmatch(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", trace.request_id)
    assert re.fullmatch(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace.sent[b"traceparent"])
    assert trace.lines.count(b"\r\n") == len(trace.sent)
