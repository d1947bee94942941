"""Any valid message, split at every byte, comes out the same; h11 reads what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.http.framing import chunk
from tests.fuzz.oracle import read_requests, read_response
from tests.support.memory import MemoryPlane, back, through


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryPlane]:
    plane = MemoryPlane()
    yield plane
    plane.close()


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^`|~", min_size=1, max_size=8).map(str.encode)
VALUE = st.lists(
    st.sampled_from([b"a", b"Z", b"0", b",", b";", b'"', b"=", b" ", b"\t", b"\xe9", b":", b"/"]), max_size=12
)
PATH = st.text("abcXYZ019-._~!$&'()*+,;=:@%/?", max_size=20).map(lambda text: b"/" + text.encode())
FIELD = st.builds(lambda name, value: b"X-%b: %b\r\n" % (name, b"".join(value).strip(b" \t")), TOKEN, VALUE)
FIELDS = st.lists(FIELD, max_size=4).map(b"".join)
BODY = st.lists(st.binary(min_size=1, max_size=12), max_size=3)
EXTENSION = st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"'])


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """Framing header, rest of the head, and a body."""
    body = draw(BODY)
    if draw(st.booleans()):
        whole = b"".join(body)
        return b"Content-Length: %d\r\n%b\r\n%b" % (len(whole), draw(FIELDS), whole)
    pieces = []
    for piece in body:
        line, _, rest = chunk(piece).partition(b"\r\n")
        pieces.append(line + draw(EXTENSION) + b"\r\n" + rest)
    trailers = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"Set-Cookie: a=b\r\n"]))
    return b"%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (draw(FIELDS), b"".join(pieces), trailers)


METHOD = st.sampled_from([b"POST", b"PUT", b"DELETE", b"BREW"])
REQUEST = st.builds(
    lambda method, path, rest: b"%b %b HTTP/1.1\r\nHost: app.test\r\n%b" % (method, path, rest), METHOD, PATH, framed()
)
PLAIN = st.builds(lambda path, fields: b"GET %b HTTP/1.1\r\nHost: app.test\r\n%b\r\n" % (path, fields), PATH, FIELDS)
RESPONSE = st.builds(
    lambda status, rest: b"HTTP/1.1 %d Fine\r\n%b" % (status, rest), st.sampled_from([200, 201, 404, 503]), framed()
)

lean = settings(max_examples=35, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(message=st.one_of(REQUEST, PLAIN))
@lean
def test_requests(memory: MemoryPlane, message: bytes) -> None:
    meant = read_requests(message)
    assert len(meant) == 1
    for at in range(1, len(message)):
        frontend, client, backend, server = memory.connect()
        frontend.data_received(message[:at])
        frontend.data_received(message[at:])
        assert read_requests(server.written) == meant, (at, client.written)
        frontend.connection_lost(None)
        backend.connection_lost(None)
    sent, _ = through(memory, message, len(message))
    assert read_requests(sent) == meant


@given(message=RESPONSE)
@lean
def test_responses(memory: MemoryPlane, message: bytes) -> None:
    meant = read_response(message, b"GET")
    assert meant is not None
    assert meant[2]
    request = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
    for at in range(1, len(message)):
        frontend, client, backend, server = memory.connect()
        frontend.data_received(request)
        backend.data_received(message[:at])
        backend.data_received(message[at:])
        assert read_response(client.written, b"GET") == meant, at
        assert not server.closed
        frontend.connection_lost(None)
        backend.connection_lost(None)
    assert read_response(back(memory, request, message, len(message)), b"GET") == meant
