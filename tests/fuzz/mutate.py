"""Good messages, and a thousand ways to spoil them: bytes swapped, lines doubled, framing made ambiguous."""

from __future__ import annotations

from random import Random

REQUESTS = [
    b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
    b"GET /a/b?c=d HTTP/1.1\r\nHost: app.test:80\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /p HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-T: v\r\n\r\n",
    b"PUT /p HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
    b"GET http://app.test/x HTTP/1.1\r\nHost: app.test\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive, X-A\r\nX-A: 1\r\n\r\n",
    b"GET /1 HTTP/1.1\r\nHost: app.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: app.test\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: v\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: x\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
]
_LINES = [
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"content-length : 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: identity",
    b" folded: line",
    b"Host: evil.test",
    b"Host: app.test",
    b"Connection: close, Host, Content-Length, X-Forwarded-For",
    b"Upgrade: h2c",
    b"X-CF-InstanceID: spoofed",
    b"X: \xff\xfe",
    b"X: a\x00b",
    b"X: a\rb",
    b"X\x00: a",
    b": no name",
    b"no colon",
    b"TE: trailers",
    b"Trailer: Content-Length",
]
_PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b"0\r\n\r\n",
    b"\x0b",
    b"\x85",
    b"chunked",
]


def spoiled(random: Random, seeds: list[bytes]) -> bytes:
    """A message made from one of the seeds by up to three mutations."""
    message = random.choice(seeds)
    for _ in range(random.randrange(4)):
        message = random.choice(_MUTATIONS)(random, message)
    return message[: 1 << 16]


def _add_line(random: Random, message: bytes) -> bytes:
    ends = [i for i in range(len(message) - 1) if message[i : i + 2] == b"\r\n"]
    if not ends:
        return message
    at = random.choice(ends) + 2
    return message[:at] + random.choice(_LINES) + random.choice([b"\r\n", b"\r\n", b"\r\n", b"\n"]) + message[at:]


def _insert(random: Random, message: bytes) -> bytes:
    at = random.randrange(len(message) + 1)
    return message[:at] + random.choice(_PIECES) + message[at:]


def _change(random: Random, message: bytes) -> bytes:
    if not message:
        return message
    at = random.randrange(len(message))
    return message[:at] + bytes([random.randrange(256)]) + message[at + 1 :]


def _delete(random: Random, message: bytes) -> bytes:
    at = random.randrange(len(message) + 1)
    return message[:at] + message[at + random.randrange(1, 8) :]


def _double(random: Random, message: bytes) -> bytes:
    lines = message.split(b"\r\n")
    at = random.randrange(len(lines))
    return b"\r\n".join([*lines[: at + 1], *lines[at:]])


def _append(random: Random, message: bytes) -> bytes:
    return message + random.choice(REQUESTS + RESPONSES)


_MUTATIONS = [_add_line, _add_line, _insert, _change, _delete, _double, _append]
