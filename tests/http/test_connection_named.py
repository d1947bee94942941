"""Headers named in `Connection` end here, but for those that the router reads or sets (RFC 9110 §7.6.1, contract §5.1).

Otherwise a client could have a header removed that the app behind trusts the router for.
"""

from __future__ import annotations

import pytest

from tests.support.memory import MemoryPlane, back, through

REQUESTS = [
    # name, sent, hop_by_hop_headers_to_filter, reaches the backend
    (b"X-Own", b"1", (), False),
    (b"X-Own", b"1", ("x-OWN",), True),
    (b"Authorization", b"Basic eA==", (), False),
    (b"Authorization", b"Basic eA==", ("Authorization",), True),
    (b"Forwarded", b"for=1.2.3.4", (), False),
    (b"Cookie", b"a=b", (), True),
    (b"User-Agent", b"x", (), True),
    (b"X-Vcap-Trace", b"x", (), True),
    (b"X-Forwarded-For", b"1.2.3.4", (), True),
    (b"X-Forwarded-Proto", b"https", (), True),
    (b"X-Request-Start", b"1", (), True),
    (b"X-CF-ApplicationID", b"x", (), True),
    (b"X-Vcap-Request-Id", b"x", (), True),
]


@pytest.mark.parametrize(("name", "value", "kept", "passed"), REQUESTS, ids=lambda value: repr(value)[:30])
def test_requests(name: bytes, value: bytes, kept: tuple[str, ...], passed: bool) -> None:
    memory = MemoryPlane(hop_by_hop_headers_to_filter=kept)
    try:
        message = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close, %b\r\n%b: %b\r\n\r\n" % (name, name, value)
        sent, _ = through(memory, message)
        assert (b"\r\n%b: " % name in sent) is passed
        assert b"\r\nConnection: " not in sent
    finally:
        memory.close()


RESPONSES = [
    (b"X-Own", b"1", False),
    (b"Set-Cookie", b"a=b", True),
    (b"Date", b"Mon, 01 Jan 2024 00:00:00 GMT", True),
    (b"X-Vcap-Request-Id", b"x", True),
    (b"Content-Length", b"0", True),
]


@pytest.mark.parametrize(("name", "value", "passed"), RESPONSES, ids=lambda value: repr(value)[:30])
def test_responses(name: bytes, value: bytes, passed: bool) -> None:
    memory = MemoryPlane()
    try:
        length = b"" if name == b"Content-Length" else b"Content-Length: 0\r\n"
        answer = b"HTTP/1.1 200 OK\r\nConnection: %b\r\n%b: %b\r\n%b\r\n" % (name, name, value, length)
        got = back(memory, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", answer)
        assert (b"\r\n%b: %b\r\n" % (name, value) in got) is passed
    finally:
        memory.close()
