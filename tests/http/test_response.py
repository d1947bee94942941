"""Responses: what is malformed is a 502 and ends the backend's connection; what isn't reaches the client, framed by us.

The same rows are asked whole and in pieces, of the whole data plane (RFC 9112 §4, §6, RFC 9110 §15).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.oracle import read_response
from tests.support.memory import MemoryPlane, Transport, back

OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryPlane]:
    plane = MemoryPlane(max_response_head=8192, max_response_headers=50)
    yield plane
    plane.close()


def answered(memory: MemoryPlane, message: bytes, pieces: int = 1, method: bytes = b"GET") -> tuple[bytes, Transport]:
    """What the client gets, and the backend's connection."""
    frontend, client, backend, server = memory.connect()
    frontend.data_received(GET.replace(b"GET", method, 1))
    size = -(-len(message) // pieces)
    for at in range(0, len(message), size):
        if server.closed:
            break
        backend.data_received(message[at : at + size])
    written = client.written
    if not server.closed:
        backend.connection_lost(None)
    frontend.connection_lost(None)
    return written, server


MALFORMED = [
    ("9112 4", b"SSH-2.0-OpenSSH\r\n\r\n"),
    ("9112 4", b"\x16\x03\x01\x02\0\x01"),
    ("9112 4", b"<html>hello</html>\r\n\r\n"),
    ("9112 4", b"HTTP/1.1\r\n\r\n"),
    ("9112 4", b"HTTP/1.1 OK\r\n\r\n"),
    ("9112 4", b"HTTP/1.1 20 OK\r\n\r\n"),
    ("9112 4", b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("9112 4", b"HTTP/1.1 -20 OK\r\n\r\n"),
    ("9112 4", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("9112 4", b" HTTP/1.1 200 OK\r\n\r\n"),
    ("9112 2.3", b"HTTP/2.0 200 OK\r\n\r\n"),
    ("9112 2.3", b"HTTP/0.9 200 OK\r\n\r\n"),
    ("9112 2.3", b"HTTP/1.2 200 OK\r\n\r\n"),
    ("9112 2.3", b"ICE/1.0 200 OK\r\n\r\n"),
    ("9112 2.2", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("9112 2.2", OK + b"X: a\nContent-Length: 0\r\n\r\n"),
    ("9112 2.2", OK + b"X: a\rb\r\n\r\n"),
    ("9112 5.2", OK + b"X: a\r\n folded\r\n\r\n"),
    ("9112 5.1", OK + b"X : a\r\n\r\n"),
    ("9112 5.1", OK + b"Content-Length : 0\r\n\r\n"),
    ("9110 5.1", OK + b"X\0: a\r\n\r\n"),
    ("9110 5.1", OK + b"no colon\r\n\r\n"),
    ("9110 5.5", OK + b"X: a\0b\r\n\r\n"),
    ("9110 5.5", OK + b"X: a\x01b\r\n\r\n"),
    ("9112 6.3", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("9112 6.3", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
    ("9112 6.3", OK + b"Content-Length: 5, 5\r\n\r\n"),
    ("9112 6.3", OK + b"Content-Length: -5\r\n\r\n"),
    ("9112 6.3", OK + b"Content-Length: five\r\n\r\n"),
    ("9112 6.3", OK + b"Content-Length:\r\n\r\n"),
    ("9112 6.1", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    ("9112 6.1", OK + b"Transfer-Encoding: identity\r\n\r\n"),
    ("9112 6.1", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("9112 6.1", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9110 15.2.2", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ("limit", OK + b"X: " + b"x" * 9000 + b"\r\n\r\n"),
    ("limit", OK + b"X: " + b"x" * 9000),
    ("limit", OK + b"X: y\r\n" * 51 + b"\r\n"),
]


@pytest.mark.parametrize(("rfc", "message"), MALFORMED, ids=lambda value: repr(value)[:50])
def test_malformed_is_502_and_its_connection_is_not_used_again(memory: MemoryPlane, rfc: str, message: bytes) -> None:
    for pieces in (1, 2, len(message)):
        client, server = answered(memory, message, pieces)
        assert client.startswith(b"HTTP/1.1 502 Bad Gateway\r\n"), (pieces, client)
        assert b"\r\n\r\nHTTP/1." not in client
        assert server.closed


CUT = [
    # The head was sent already: the client's connection is cut, without an end of the body.
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 5000,
]


@pytest.mark.parametrize("message", CUT, ids=lambda value: repr(value)[-40:])
def test_a_body_that_breaks_never_looks_complete(memory: MemoryPlane, message: bytes) -> None:
    for pieces in (1, 2, len(message)):
        client, server = answered(memory, message, pieces)
        assert server.closed
        assert not client.endswith(b"0\r\n\r\n")


ZERO, FIVE, CHUNKED = b"Content-Length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked"
FRAMED = [
    # source, method, response, line of the client's head, body, connection kept
    ("6.2", b"GET", OK + FIVE + b"\r\n\r\nhello", FIVE, b"hello", True),
    ("6.2", b"GET", OK + b"Content-Length: 05\t\r\n\r\nhello", FIVE, b"hello", True),
    ("6.2", b"GET", OK + ZERO + b"\r\n\r\n", ZERO, b"", True),
    ("7.1", b"GET", OK + b"Transfer-Encoding: Chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n", CHUNKED, b"hello", True),
    ("6.3", b"HEAD", OK + FIVE + b"\r\n\r\n", FIVE, b"", True),
    ("6.3", b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", None, b"", True),
    ("6.3", b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None, b"", True),
    ("6.3", b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", FIVE, b"", True),
    ("9.3", b"GET", OK + b"Connection: close\r\n" + ZERO + b"\r\n\r\n", ZERO, b"", False),
    ("9.3", b"GET", b"HTTP/1.0 200 OK\r\n" + ZERO + b"\r\n\r\n", ZERO, b"", False),
    ("9.3", b"GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + ZERO + b"\r\n\r\n", ZERO, b"", True),
    ("15", b"GET", b"HTTP/1.1 299 Whatever\r\n" + ZERO + b"\r\n\r\n", ZERO, b"", True),
    ("4", b"GET", b"HTTP/1.1 200\r\n" + ZERO + b"\r\n\r\n", ZERO, b"", True),
    ("4", b"GET", b"HTTP/1.1 200 \xff\r\n" + ZERO + b"\r\n\r\n", ZERO, b"", True),
    # Bytes behind a response belong to nobody.
    ("9.2", b"GET", OK + FIVE + b"\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n", FIVE, b"hello", False),
    ("9.2", b"HEAD", OK + FIVE + b"\r\n\r\nhello", FIVE, b"", False),
    ("9.2", b"GET", b"HTTP/1.1 204 No Content\r\n\r\nhello", None, b"", False),
    ("9.2", b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", CHUNKED, b"", False),
]


@pytest.mark.parametrize(
    ("rfc", "method", "message", "line", "body", "kept"), FRAMED, ids=lambda value: repr(value)[:50]
)
def test_framed(
    memory: MemoryPlane, rfc: str, method: bytes, message: bytes, line: bytes | None, body: bytes, kept: bool
) -> None:
    for pieces in (1, 2, 3, len(message)):
        client, server = answered(memory, message, pieces, method)
        head = client.partition(b"\r\n\r\n")[0]
        framing = [found for found in head.split(b"\r\n") if found.lower().startswith((b"content-l", b"transfer-e"))]
        assert framing == ([line] if line else [])
        read = read_response(client, method)
        assert read is not None
        assert read[1:] == (body, True)
        assert server.closed is not kept


def test_a_response_without_an_end_is_ended_by_the_connections_end(memory: MemoryPlane) -> None:
    """RFC 9112 §6.3, rule 8."""
    client = back(memory, GET, OK + b"\r\nuntil the end")
    assert client.endswith(b"\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n")


def test_an_interim_response_is_passed_on_and_the_final_one_follows(memory: MemoryPlane) -> None:
    """RFC 9110 §15.2."""
    message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    for pieces in (1, 2, 40):
        client, _ = answered(memory, message + b"Content-Length: 2\r\n\r\nok", pieces)
        assert client.startswith(message)
        assert client.endswith(b"\r\n\r\nok")


def test_stray_bytes_of_an_idle_backend_answer_nothing(memory: MemoryPlane) -> None:
    frontend, client, backend, server = memory.connect()
    frontend.data_received(GET)
    backend.data_received(OK + b"Content-Length: 2\r\n\r\nok")
    backend.data_received(OK + b"Content-Length: 6\r\n\r\npoison")
    assert server.closed
    assert not backend.usable
    assert b"poison" not in client.written
    frontend.connection_lost(None)
