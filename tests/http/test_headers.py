"""Headers on their way: which pass, which end here, which are the router's own (contract §5.3, §5.5, RFC 9110 §7.6).

A row is what comes in and what goes out, both as lines; what the router adds to every message is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from router.http.headers import unsafe_trailer
from tests.support.memory import MemoryPlane, back, through


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryPlane]:
    plane = MemoryPlane()
    yield plane
    plane.close()


ADDED = re.compile(
    rb"(?:Host|X-Forwarded-For|X-Forwarded-Proto|X-Request-Start|X-Vcap-Request-Id|X-CF-[A-Za-z]+|Date"
    rb"|b3|X-B3-[A-Za-z]+|traceparent|tracestate|Content-Length): [^\r]*\Z"
)


def passed(message: bytes) -> list[bytes]:
    """The lines of a head that are not the router's own."""
    lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [line for line in lines if not ADDED.match(line)]


REQUESTS = [
    # source, lines sent, lines passed on
    ("untouched", [b"Accept: */*", b"X-Own: a", b"x-own: b"], [b"Accept: */*", b"X-Own: a", b"x-own: b"]),
    ("untouched", [b"X-Empty:", b"X-Obs: \xff"], [b"X-Empty: ", b"X-Obs: \xff"]),
    ("9110 7.6.1", [b"Connection: close, X-Hop", b"X-Hop: 1", b"X-Own: 2"], [b"X-Own: 2"]),
    ("9110 7.6.1", [b"X-Hop: 1", b"Connection: x-HOP"], []),
    ("9110 7.6.1", [b"X-A: 1", b"X-B: 1", b"Connection: X-A", b"Connection: X-B"], []),
    ("9110 7.6.1", [b"Keep-Alive: 5", b"Proxy-Connection: keep-alive", b"TE: gzip"], []),
    ("9110 11.7", [b"Proxy-Authorization: Basic x", b"Proxy-Authenticate: Basic"], []),
    (
        "9110 7.8",
        [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"],
        [],
    ),
    ("9110 7.8", [b"HTTP2-Settings: x", b"Upgrade: websocket"], []),
    ("9110 7.8", [b"Connection: Upgrade", b"Upgrade: websocket, h2c"], []),
    ("9110 7.8", [b"Connection: Upgrade", b"Upgrade: tls/1.3"], []),
    ("5.3", [b"X-CF-ApplicationID: a", b"x-cf-instanceid: b", b"X-CF-INSTANCEINDEX: 7"], []),
    ("5.3", [b"X-Vcap-Request-Id: a", b"x-vcap-request-ID: b"], []),
    # A gateway interface (CGI, WSGI, Rack) can't tell the underscore from the hyphen.
    ("spoofed", [b"X_CF_InstanceID: a", b"X-Vcap_Request-Id: b", b"x_forwarded_for: c", b"X_Forwarded-Proto: d"], []),
    ("spoofed", [b"Content_Length: 5", b"Transfer_Encoding: chunked", b"Host_: a"], [b"Host_: a"]),
    ("spoofed", [b"X_Own: a"], [b"X_Own: a"]),
]


@pytest.mark.parametrize(("source", "sent", "expected"), REQUESTS, ids=lambda value: repr(value)[:50])
def test_requests(memory: MemoryPlane, source: str, sent: list[bytes], expected: list[bytes]) -> None:
    message = b"GET / HTTP/1.1\r\nHost: app.test\r\n" + b"".join(line + b"\r\n" for line in sent) + b"\r\n"
    backend, _ = through(memory, message)
    assert passed(backend) == expected


OWN = [
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Request-Start",
    b"X-Vcap-Request-Id",
]


@pytest.mark.parametrize("option", OWN)
def test_connection_cannot_remove_what_the_router_sets(memory: MemoryPlane, option: bytes) -> None:
    """RFC 9110 §7.6.1: an option names a header for this hop; ours are made for the next."""
    body = b"Transfer-Encoding: chunked\r\n" if option == b"Transfer-Encoding" else b"Content-Length: 5\r\n"
    message = b"POST / HTTP/1.1\r\nHost: app.test\r\nConnection: close, %b\r\n%b\r\n" % (option, body)
    backend, _ = through(memory, message)
    assert re.search(rb"\r\n" + option + rb": [^\r]", backend, re.IGNORECASE)


FORWARDED = [
    # contract §5.3: lines sent, line that reaches the backend
    ([], b"X-Forwarded-For: 127.0.0.1"),
    ([b"X-Forwarded-For: 10.0.0.1"], b"X-Forwarded-For: 10.0.0.1, 127.0.0.1"),
    ([b"X-Forwarded-For: a", b"x-forwarded-for: b"], b"X-Forwarded-For: a, b, 127.0.0.1"),
    ([b"X-Forwarded-For:"], b"X-Forwarded-For: 127.0.0.1"),
    ([], b"X-Forwarded-Proto: http"),
    ([b"X-Forwarded-Proto: https"], b"X-Forwarded-Proto: https"),
    ([b"X-Request-Start: 12"], b"X-Request-Start: 12"),
]


@pytest.mark.parametrize(("sent", "line"), FORWARDED, ids=lambda value: repr(value)[:50])
def test_forwarded(memory: MemoryPlane, sent: list[bytes], line: bytes) -> None:
    message = b"GET / HTTP/1.1\r\nHost: app.test\r\n" + b"".join(line + b"\r\n" for line in sent) + b"\r\n"
    backend, _ = through(memory, message)
    name = line.partition(b":")[0]
    assert [found for found in backend.split(b"\r\n") if found.startswith(name)] == [line]


RESPONSES = [
    ("untouched", [b"Server: x", b"Set-Cookie: a=b", b"Set-Cookie: c=d"], None),
    ("9110 7.6.1", [b"Connection: X-Hop", b"X-Hop: 1", b"X-Own: 2"], [b"X-Own: 2"]),
    ("9110 7.6.1", [b"Keep-Alive: timeout=5", b"Proxy-Connection: x", b"Upgrade: h2c", b"TE: x"], []),
    ("5.5", [b"X-Cf-Proxy-Signature: secret"], []),
    ("9112 5.1", [b"X-Own:  a\t "], [b"X-Own: a"]),
]


@pytest.mark.parametrize(("source", "sent", "expected"), RESPONSES, ids=lambda value: repr(value)[:50])
def test_responses(memory: MemoryPlane, source: str, sent: list[bytes], expected: list[bytes] | None) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in sent) + b"Content-Length: 0\r\n\r\n"
    client = back(memory, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", answer)
    assert passed(client) == (sent if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "unsafe"),
    [
        (b"X-Checksum", False),
        (b"Grpc-Status", False),
        (b"Server-Timing", False),
        (b"Content-Length", True),
        (b"TRANSFER-ENCODING", True),
        (b"Host", True),
        (b"If-Match", True),
        (b"Set-Cookie", True),
        (b"X-Forwarded-Host", True),
        (b"X-Cf-Anything", True),
        (b"Proxy-Anything", True),
        (b"Content_Length", True),
        (b"x_forwarded_for", True),
    ],
)
def test_trailers(name: bytes, unsafe: bool) -> None:
    """RFC 9110 §6.5.1."""
    assert unsafe_trailer(name) is unsafe
