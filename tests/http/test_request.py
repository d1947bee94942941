"""Request heads: what is refused, with which status, and what is read from the others. One row a rule, with its source.

Every refusal is asked of the whole data plane: the client gets the status and `Connection: close`, the backend nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from router.http.message import CHUNKED, NO_BODY, BadMessage
from router.http.request import Recent, RequestHead, RequestParser
from router.proxy.frontend_h1 import FORGET_AFTER
from tests.support.memory import MemoryPlane, through

HOST = b"Host: app.test\r\n"


@pytest.fixture(scope="module")
def memory() -> Iterator[MemoryPlane]:
    plane = MemoryPlane()
    yield plane
    plane.close()


def head(lines: bytes = b"", line: bytes = b"POST / HTTP/1.1", host: bytes = HOST) -> bytes:
    return b"%b\r\n%b%b\r\n" % (line, host, lines)


def get(target: bytes, host: bytes = HOST) -> bytes:
    return head(b"", b"GET %b HTTP/1.1" % target, host)


CL_TE = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"

REFUSED = [
    # how long the body is (RFC 9112 §6.1, §6.3)
    ("9112 6.1", 400, head(CL_TE)),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked\r\ncontent-length: 0\r\n")),
    ("9112 6.3", 400, head(b"Content-Length: 5\r\nContent-Length: 6\r\n")),
    ("9112 6.3", 400, head(b"Content-Length: 5\r\nContent-Length: 5\r\n")),
    ("9112 6.3", 400, head(b"Content-Length: 5, 5\r\n")),
    ("9110 8.6", 400, head(b"Content-Length:\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: +5\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: -5\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: 0x5\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: 5.0\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: 5_0\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: 5 5\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: \xb2\r\n")),
    ("9110 8.6", 400, head(b"Content-Length: 99999999999999999999\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding:\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: identity\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: xchunked\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked, identity\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked, chunked\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked;q=1\r\n")),
    ("9112 6.1", 400, head(b'Transfer-Encoding: "chunked"\r\n')),
    ("9112 6.1", 400, head(b"Transfer-Encoding: \x0bchunked\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked\x0b\r\n")),
    ("9112 6.1", 501, head(b"Transfer-Encoding: gzip, chunked\r\n")),
    ("9112 6.1", 501, head(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n")),
    ("9112 6.1", 400, head(b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.0")),
    # lines (RFC 9112 §2.2, §5, RFC 9110 §5.5, §5.6.2)
    ("9112 2.2", 400, b"GET / HTTP/1.1\nHost: app.test\n\n"),
    ("9112 2.2", 400, head(b"X: a\n")),
    ("9112 2.2", 400, head(b"X: a\nContent-Length: 5\r\n")),
    ("9112 2.2", 400, head(b"X: a\rb\r\n")),
    ("9112 2.2", 400, head(b"X: a\r\r\n")),
    ("9112 2.2", 400, head(b"\rX: a\r\n")),
    ("9112 2.2", 400, b" " + head()),
    ("9112 2.2", 400, b"\t" + head()),
    ("9112 2.2", 400, b"\n" + head()),
    ("9112 2.2", 400, b"\r\n " + head()),
    ("9112 2.2", 400, b"POST / HTTP/1.1\r\n X: first line\r\n" + HOST + b"\r\n"),
    ("9112 5.2", 400, head(b"X: a\r\n folded\r\n")),
    ("9112 5.2", 400, head(b"X: a\r\n\tfolded\r\n")),
    ("9112 5.2", 400, head(b"X: a\r\n \r\n")),
    ("9112 5.2", 400, head(b"Transfer-Encoding:\r\n chunked\r\n")),
    ("9112 5.1", 400, head(b"X : a\r\n")),
    ("9112 5.1", 400, head(b"X\t: a\r\n")),
    ("9112 5.1", 400, head(b"Content-Length : 5\r\n")),
    ("9110 5.5", 400, head(b"X: a\0b\r\n")),
    ("9110 5.5", 400, head(b"X: a\x01b\r\n")),
    ("9110 5.5", 400, head(b"X: a\x0bb\r\n")),
    ("9110 5.5", 400, head(b"X: a\x1bb\r\n")),
    ("9110 5.5", 400, head(b"X: a\x7fb\r\n")),
    ("9110 5.1", 400, head(b": a\r\n")),
    ("9110 5.1", 400, head(b"no colon\r\n")),
    ("9110 5.1", 400, head(b"X(: a\r\n")),
    ("9110 5.1", 400, head(b"X\0: a\r\n")),
    ("9110 5.1", 400, head(b"X\x80: a\r\n")),
    ("9110 5.1", 400, head(b"X Y: a\r\n")),
    ("9110 5.1", 400, head(b'"X": a\r\n')),
    # Host and target (RFC 9112 §3.2, RFC 9110 §7.2, §4.2.4)
    ("9112 3.2", 400, head(host=HOST + HOST)),
    ("9112 3.2", 400, head(host=HOST + b"Host: evil.test\r\n")),
    ("9112 3.2", 400, head(host=b"")),
    ("9112 3.2", 400, head(host=b"Host: a b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: a/b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: a:b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: app.test:123456\r\n")),
    ("9112 3.2", 400, head(host=b"Host: app.test, b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: app.test?b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: app.test#b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: app.test\\b\r\n")),
    ("9112 3.2", 400, head(host=b"Host: http://app.test\r\n")),
    ("9112 3.2", 400, head(host=b"Host: [::1\r\n")),
    ("9112 3.2", 400, head(host=b"Host: app.test\xff\r\n")),
    ("9110 4.2.4", 400, head(host=b"Host: user@app.test\r\n")),
    ("9110 4.2.4", 400, get(b"http://user@app.test/")),
    ("9110 4.2.4", 400, get(b"http://user:pw@app.test/", b"Host: user:pw@app.test\r\n")),
    ("9112 3.2.2", 400, get(b"http://evil.test/")),
    ("9112 3.2.2", 400, get(b"http://app.test:81/")),
    ("9112 3.2.2", 400, get(b"http:///x")),
    ("9112 3.2.2", 400, get(b"http:/x")),
    ("9112 3.2.2", 400, get(b"ftp://app.test/")),
    ("9112 3.2.2", 400, get(b"http://app.test\\@evil.test/")),
    ("9112 3.2", 400, get(b"/x#fragment")),
    ("9112 3.2", 400, get(b"http://app.test/x#fragment")),
    ("9112 3.2", 400, get(b"http://app.test#fragment")),
    ("9112 3.2", 400, get(b"x")),
    ("9112 3.2", 400, get(b"?x")),
    ("9112 3.2.4", 400, get(b"*")),
    ("9112 3.2", 400, get(b"/a\0b")),
    ("9112 3.2", 400, get(b"/a\x01b")),
    ("9112 3.2", 400, get(b"/a\tb")),
    ("9112 3.2", 400, get(b"/a b")),
    ("9112 3.2", 400, get(b"/a\x7fb")),
    ("9112 3.2", 400, get(b"/a\xffb")),
    ("9110 9.3.6", 405, head(line=b"CONNECT app.test:80 HTTP/1.1")),
    ("9110 9.3.6", 405, head(line=b"CONNECT / HTTP/1.1")),
    ("9110 9.3.6", 405, head(line=b"CONNECT http://app.test/ HTTP/1.1")),
    # method and version (RFC 9112 §3.1, §2.3)
    ("9110 9.1", 400, head(line=b"GE(T / HTTP/1.1")),
    ("9110 9.1", 400, head(line=b"G\0T / HTTP/1.1")),
    ("9112 3", 400, head(line=b"GET\t/ HTTP/1.1")),
    ("9112 3", 400, head(line=b"GARBAGE")),
    ("9112 3", 400, head(line=b"GET / x HTTP/1.1")),
    ("9112 2.3", 400, head(line=b"GET / http/1.1")),
    ("9112 2.3", 400, head(line=b"GET / HTTP/1.1 ")),
    ("9112 2.3", 400, head(line=b"GET / HTTP/1.10")),
    ("9112 2.3", 400, head(line=b"GET / HTTP/11")),
    ("9112 2.3", 400, head(line=b"GET / HTTP/1.2")),
    ("9112 2.3", 505, head(line=b"GET /")),
    ("9112 2.3", 505, head(line=b"GET / HTTP/0.9")),
    ("9112 2.3", 505, head(line=b"GET / HTTP/2.0")),
    ("9112 2.3", 505, head(line=b"SOURCE / ICE/1.0")),
]


@pytest.mark.parametrize(("rfc", "status", "message"), REFUSED, ids=lambda value: repr(value)[:60])
def test_refused(memory: MemoryPlane, rfc: str, status: int, message: bytes) -> None:
    follower = b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
    for pieces in (1, 3, len(message)):
        backend, client = through(memory, message + follower, pieces)
        assert backend == b""
        assert client.startswith(b"HTTP/1.1 %d " % status), client
        assert client.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in client


READ = [
    # source, message, method, target, look-up key, authority as sent, body
    ("9112 3.2.1", get(b"/a?b"), b"GET", b"/a?b", b"app.test", b"app.test", NO_BODY),
    ("9112 3.2.2", get(b"http://app.test/a"), b"GET", b"/a", b"app.test", b"app.test", NO_BODY),
    ("9112 3.2.2", get(b"HTTPS://APP.test?b"), b"GET", b"/?b", b"app.test", b"APP.test", NO_BODY),
    ("9112 3.2.2", get(b"http://app.test", b""), b"GET", b"/", b"app.test", b"app.test", NO_BODY),
    ("9112 3.2.4", head(line=b"OPTIONS * HTTP/1.1"), b"OPTIONS", b"*", b"app.test", b"app.test", NO_BODY),
    ("9110 7.2", get(b"/", b"HOST: App.Test:8080\r\n"), b"GET", b"/", b"app.test", b"App.Test:8080", NO_BODY),
    ("9110 7.2", get(b"/", b"Host: app.test:\r\n"), b"GET", b"/", b"app.test", b"app.test:", NO_BODY),
    ("9112 3.2", head(line=b"GET / HTTP/1.0", host=b""), b"GET", b"/", b"", b"", NO_BODY),
    ("9110 9.1", head(line=b"BREW /pot HTTP/1.1"), b"BREW", b"/pot", b"app.test", b"app.test", NO_BODY),
    ("9110 9.1", head(line=b"get / HTTP/1.1"), b"get", b"/", b"app.test", b"app.test", NO_BODY),
    ("9112 6.2", head(b"Content-Length: 5\r\n"), b"POST", b"/", b"app.test", b"app.test", 5),
    ("9112 6.2", head(b"Content-Length: 005 \r\n"), b"POST", b"/", b"app.test", b"app.test", 5),
    ("9112 6.1", head(b"Transfer-Encoding:\tCHUNKED\r\n"), b"POST", b"/", b"app.test", b"app.test", CHUNKED),
    ("3.1", get(b"//evil.test/"), b"GET", b"//evil.test/", b"app.test", b"app.test", NO_BODY),
]


@pytest.mark.parametrize(
    ("source", "message", "method", "target", "host", "raw_host", "body"), READ, ids=lambda value: repr(value)[:40]
)
def test_read(
    source: str, message: bytes, method: bytes, target: bytes, host: bytes, raw_host: bytes, body: int
) -> None:
    request = RequestParser().parse(message)
    assert (request.method, request.target, request.host, request.raw_host) == (method, target, host, raw_host)
    assert request.body == body


KEPT = [
    # RFC 9112 §9.3: version, Connection, kept
    (b"1.1", b"", True),
    (b"1.1", b"Connection: close\r\n", False),
    (b"1.1", b"Connection: x, CLOSE ,y\r\n", False),
    (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
    (b"1.1", b"Connection: closed\r\n", True),
    (b"1.0", b"", False),
    (b"1.0", b"Connection: keep-alive\r\n", True),
    (b"1.0", b"Connection: keep-alive, close\r\n", False),
]


@pytest.mark.parametrize(("version", "lines", "kept"), KEPT)
def test_kept(version: bytes, lines: bytes, kept: bool) -> None:
    assert RequestParser().parse(head(lines, b"GET / HTTP/" + version)).keep_alive is kept


def test_white_space_around_values_is_no_part_of_them() -> None:
    """RFC 9112 §5.1."""
    request = RequestParser().parse(head(b"X-A:  a \t\r\nX-B:b\r\nX-C:\r\n"))
    assert request.text == b"X-A: a\r\nX-B: b\r\nX-C: \r\n"


def fields(read: RequestHead) -> list[object]:
    """All that was read; `clean` is but knowledge that saves work."""
    return [getattr(read, name) for name in RequestHead.__slots__ if name != "clean"]


def same(one: RequestHead, other: RequestHead) -> bool:
    return fields(one) == fields(other)


@pytest.mark.parametrize("message", [row[1] for row in READ], ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("before", [row[1] for row in READ], ids=lambda value: repr(value)[:40])
def test_what_came_before_changes_nothing(before: bytes, message: bytes) -> None:
    """A connection remembers its last header lines: reading by memory gives what reading afresh gives."""
    parser, recent = RequestParser(), Recent()
    parser.parse_next(before, recent)
    parser.parse_next(before, recent)
    assert same(parser.parse_next(message, recent), RequestParser().parse(message))


def told(parse: Callable[[], RequestHead]) -> object:
    """What is read, or the refusal."""
    try:
        read = parse()
    except BadMessage as bad:
        return bad.status
    return fields(read)


@pytest.mark.parametrize(
    "line", [b"GET /a%bb", b"GET %b/a", b"GE%bT /a", b"GET%b /a", b"GET /%b", b"%b", b"POST /a?%b"]
)
@pytest.mark.parametrize("lines", [b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_any_octet_in_a_request_line_is_read_alike_by_memory(lines: bytes, line: bytes) -> None:
    for octet in range(256):
        parser, recent = RequestParser(), Recent()
        parser.parse_next(head(lines), recent)
        message = head(lines, line % bytes((octet,)) + b" HTTP/1.1")
        assert told(lambda m=message, p=parser, r=recent: p.parse_next(m, r)) == told(
            lambda m=message: RequestParser().parse(m)
        ), message


@pytest.mark.parametrize(("rfc", "status", "message"), REFUSED, ids=lambda value: repr(value)[:60])
def test_refused_also_after_good_ones(memory: MemoryPlane, rfc: str, status: int, message: bytes) -> None:
    frontend, client, backend, server = memory.connect()
    frontend.data_received(head())
    backend.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    sent = server.written
    frontend.data_received(message)
    assert server.written == sent
    assert b"HTTP/1.1 %d " % status in client.written
    frontend.connection_lost(None)
    backend.connection_lost(None)


def test_a_pipelined_request_survives_the_one_before() -> None:
    """RFC 9112 §9.3.2: bodies end where they end, and what follows is the next request."""
    memory = MemoryPlane()
    frontend, _, backend, server = memory.connect()
    first = head(b"Content-Length: 44\r\n") + b"GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\nxx"
    frontend.data_received(first + get(b"/second"))
    assert server.written.count(b"POST / HTTP/1.1\r\n") == 1
    assert server.written.endswith(b"xx")
    backend.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert server.written.count(b"GET /second HTTP/1.1\r\n") == 1
    frontend.connection_lost(None)
    memory.close()


def test_an_idle_connection_remembers_nothing() -> None:
    memory = MemoryPlane()
    frontend, client, backend, _ = memory.connect()
    for _ in range(2):
        frontend.data_received(get(b"/"))
        backend.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert frontend._recent.block
    frontend.check(memory.plane.clock.now + FORGET_AFTER)
    assert not frontend._recent.block
    frontend.data_received(get(b"/"))
    backend.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert client.written.count(b"HTTP/1.1 200 OK\r\n") == 3
    frontend.connection_lost(None)
    backend.connection_lost(None)
    memory.close()
