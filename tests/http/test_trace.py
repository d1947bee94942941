"""Trace context (contract §5.4, W3C Trace Context §3): a row is what a client sends and what its backend is told."""

from __future__ import annotations

import random
import re
import uuid

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
        {
            b"x-b3-traceid": T32,
            b"x-b3-spanid": S,
            b"x-b3-sampled": b"1",
            b"x-b3-parentspanid": SPAN,
            b"b3": T32 + b"-" + S + b"-1-" + SPAN,
        },
        T32_AS_ID,
    ),
    (
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"x-b3-flags": b"1", b"b3": b"rubbish"},
        {b"x-b3-traceid": T32, b"x-b3-spanid": S, b"x-b3-flags": b"1", b"b3": T32 + b"-" + S + b"-d"},
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


# ---------------------------------------------------------------- where spans are exported


P = b"0000000000000001"
"""The caller's span; in what backends are told, `A` stands for the router's span and `S` for that of the attempt."""
T16_AS_32 = b"0" * 16 + T16
PARENT_P = b"00-" + T32 + b"-" + P
EXPORTED = [
    # sent, told, trace id and parent of the span
    (
        {},
        {
            b"x-b3-traceid": OWN,
            b"x-b3-spanid": b"S",
            b"x-b3-parentspanid": b"A",
            b"x-b3-sampled": b"1",
            b"b3": OWN + b"-S-1-A",
            b"traceparent": b"00-" + OWN + b"-S-01",
            b"tracestate": b"gorouter=S",
        },
        (OWN, b""),
    ),
    (
        {b"traceparent": PARENT_P + b"-03", b"tracestate": b"a=1"},
        {
            b"x-b3-traceid": T32,
            b"x-b3-spanid": b"S",
            b"x-b3-parentspanid": b"A",
            b"x-b3-sampled": b"1",
            b"b3": T32 + b"-S-1-A",
            b"traceparent": b"00-" + T32 + b"-S-03",
            b"tracestate": b"gorouter=S,a=1",
        },
        (T32, P),
    ),
    (
        {b"b3": T16 + b"-" + P + b"-d-" + S, b"tracestate": b"a=1"},
        {
            b"x-b3-traceid": T16,
            b"x-b3-spanid": b"S",
            b"x-b3-parentspanid": b"A",
            b"x-b3-flags": b"1",
            b"b3": T16 + b"-S-d-A",
            b"traceparent": b"00-" + T16_AS_32 + b"-S-01",
            b"tracestate": b"gorouter=S",
        },
        (T16_AS_32, P),
    ),
    (  # two traces: ours is that of W3C, the other passes as it came
        {b"b3": T16 + b"-" + S + b"-1", b"traceparent": PARENT_P + b"-01"},
        {
            b"b3": T16 + b"-" + S + b"-1",
            b"traceparent": b"00-" + T32 + b"-S-01",
            b"tracestate": b"gorouter=S",
        },
        (T32, P),
    ),
]


@pytest.mark.parametrize(("sent", "told", "of_span"), EXPORTED)
def test_a_sampled_request_has_a_span_and_the_backend_knows_it(
    sent: dict[bytes, bytes], told: dict[bytes, bytes], of_span: tuple[bytes, bytes]
) -> None:
    trace = Tracing(True, True, sampled=1.0).trace(sent, FRESH)
    span = trace.span
    assert span is not None
    names = {name: value.replace(span.id, b"A").replace(span.attempt_id, b"S") for name, value in trace.sent.items()}
    assert names == told
    assert (span.trace_id, span.parent_id) == of_span
    assert (trace.trace_id, trace.span_id) == (span.trace_id, span.id)


NOT_SAMPLED = [
    # sent, told; as if nothing were exported, but a trace that begins here says so
    ({}, {b"traceparent": b"00-" + OWN + b"-" + SPAN + b"-00", b"b3": OWN + b"-" + SPAN + b"-0"}),
    ({b"traceparent": PARENT_P + b"-02"}, {b"traceparent": b"00-" + T32 + b"-@-02"}),
    ({b"b3": T32 + b"-" + P + b"-0"}, {b"b3": T32 + b"-" + P + b"-0"}),
    ({b"b3": T32 + b"-" + P}, {b"b3": T32 + b"-" + P}),
    (
        {b"x-b3-traceid": T32, b"x-b3-spanid": P, b"x-b3-sampled": b"0"},
        {b"b3": T32 + b"-" + P + b"-0", b"x-b3-sampled": b"0", b"x-b3-spanid": P},
    ),
]


@pytest.mark.parametrize(("sent", "told"), NOT_SAMPLED)
def test_a_request_that_is_not_sampled_has_none(sent: dict[bytes, bytes], told: dict[bytes, bytes]) -> None:
    trace = Tracing(True, True, sampled=0.0).trace(sent, FRESH)
    assert trace.span is None
    for name, value in told.items():
        assert re.fullmatch(re.escape(value).replace(b"@", rb"[0-9a-f]{16}"), trace.sent[name])


@pytest.mark.parametrize(
    ("sent", "share", "sampled"),
    [
        ({b"traceparent": PARENT_P + b"-01"}, 0.0, True),
        ({b"traceparent": PARENT_P + b"-00"}, 1.0, False),
        ({b"b3": T32 + b"-" + P + b"-1"}, 0.0, True),
        ({b"b3": T32 + b"-" + P + b"-0"}, 1.0, False),
        ({b"b3": T32 + b"-" + P}, 1.0, True),
        ({b"x-b3-traceid": T32, b"x-b3-spanid": P, b"x-b3-sampled": b"1"}, 0.0, True),
        ({b"x-b3-traceid": T32, b"x-b3-spanid": P, b"x-b3-flags": b"1"}, 0.0, True),
        ({b"x-b3-traceid": T32, b"x-b3-spanid": P, b"x-b3-sampled": b"false"}, 1.0, False),
    ],
)
def test_the_client_decides_first(sent: dict[bytes, bytes], share: float, sampled: bool) -> None:
    assert (Tracing(True, True, sampled=share).trace(sent, FRESH).span is not None) is sampled


def test_a_share_of_the_rest_is_sampled_by_trace_id() -> None:
    ids = [str(uuid.UUID(int=random.Random(number).getrandbits(128), version=4)).encode() for number in range(4000)]
    tracing, another = Tracing(False, True, sampled=0.25), Tracing(True, False, sampled=0.25)
    chosen = [id for id in ids if tracing.trace({}, id).span is not None]
    assert 850 < len(chosen) < 1150
    assert chosen == [id for id in ids if another.trace({}, id).span is not None]


def test_another_attempt_has_a_span_of_its_own() -> None:
    trace = Tracing(True, True, sampled=1.0).trace({}, FRESH)
    assert trace.span is not None
    first = trace.span.attempt_id
    again = trace.for_another_attempt()
    second = trace.span.attempt_id
    assert first != second
    assert (again.lines, again.sent) == (
        trace.lines.replace(first, second),
        {name: value.replace(first, second) for name, value in trace.sent.items()},
    )
    assert again.lines.count(second) == 4
