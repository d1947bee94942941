"""Good messages, and a thousand ways to spoil them: bytes swapped, lines doubled, framing made ambiguous.

The tricks are the published ones of request smuggling: two framings, framings in disguise (spaces, folds, case,
control characters), hosts in two places, upgrades that nobody asked for, whole requests hidden in bodies.
"""

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
    b"Content-Length: 5 ",
    b"Content-Length:\t5",
    b"Content-Length: 05",
    b"Content-Length: 5;",
    b"Content_Length: 3",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: Chunked",
    b"transfer-encoding: chunked, chunked",
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked",
    b"X: y\r\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"Host:",
    b"Host: app.test:80",
    b"Host: app.test@evil.test",
    b"Host: app.test, evil.test",
    b"X-Forwarded-Host: evil.test",
    b"Connection: Upgrade",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Connection: keep-alive, Transfer-Encoding, Upgrade",
    b"Connection: X, X-Vcap-Request-Id, X-CF-ApplicationID",
    b"Upgrade: websocket",
    b"Upgrade: websocket, h2c",
    b"Upgrade: WebSocket",
    b"Upgrade: tls/1.0",
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"Sec-WebSocket-Version: 777",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"X-CF-App-Instance: 0a1b2c3d-0000-4000-8000-0123456789ab:3",
    b"X_Forwarded_For: 1.2.3.4",
    b"X-Vcap-Request-Id: spoofed",
    b"Keep-Alive: timeout=5",
]
_TARGETS = [
    b"http://app.test/x",
    b"http://evil.test/x",
    b"HTTP://APP.TEST",
    b"http://user@app.test/",
    b"http://app.test:80/",
    b"http://app.test#f",
    b"http:///",
    b"//evil.test/",
    b"/x#f",
    b"*",
    b"app.test:80",
    b"/ HTTP/1.1\r\nX: y",
    b"/\tx",
    b"/\xe9",
]
_CHUNK_TRICKS = [
    b"5;a=b\r\nhello\r\n",
    b"5;a\nb\r\nhello\r\n",
    b"05\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"+5\r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhello\n",
    b"5\r\nhelloxx\r\n",
    b"ffffffffffffffff\r\n",
    b"0;a=b\r\n",
    b"0\r\n\r\n",
    b"0\r\nX-T: v\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\nContent-Length: 50\r\nHost: evil.test\r\n\r\n",
    b"0\r\nX: y\r\n folded\r\n\r\n",
]
_HIDDEN = [
    b"GET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n",
    b"GET /hidden HTTP/1.1\r\nX: ",
    b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n",
    b"\r\nGET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n",
    b"1\r\nZ\r\nQ",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
]
_SPACES = [b" ", b"\t", b"  ", b" \t", b"\x0b", b"\x0c", b"\xa0", b"\x00", b""]
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


def _line_again(random: Random, message: bytes) -> bytes:
    """A line twice, the second time in other case, or with another value."""
    head, end, body = message.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    line = random.choice(lines)
    name, colon, value = line.partition(b":")
    again = random.choice([name.upper() + colon + value, name.lower() + colon + value, name + colon + b" 7"])
    lines.insert(random.randrange(1, len(lines) + 1), again)
    return b"\r\n".join(lines) + end + body


def _space(random: Random, message: bytes) -> bytes:
    """White space, or what some take for it, at a colon or between the words of the first line."""
    at = [i for i, byte in enumerate(message[:400]) if byte in b": "]
    if not at:
        return message
    i = random.choice(at)
    space = random.choice(_SPACES)
    return random.choice([message[:i] + space + message[i:], message[: i + 1] + space + message[i + 1 :]])


def _fold(random: Random, message: bytes) -> bytes:
    """A line folded at a space (RFC 9112 §5.2)."""
    at = [i for i, byte in enumerate(message[:400]) if byte == 0x20]
    if not at:
        return message
    i = random.choice(at)
    return message[:i] + random.choice([b"\r\n", b"\n", b"\r"]) + message[i:]


def _aim(random: Random, message: bytes) -> bytes:
    """Another target."""
    line, end, rest = message.partition(b"\r\n")
    words = line.split(b" ")
    if len(words) < 3 or line.startswith(b"HTTP/"):
        return message
    words[1] = random.choice(_TARGETS)
    return b" ".join(words) + end + rest


def _chunk(random: Random, message: bytes) -> bytes:
    """A strange chunk, size line, or trailer section, in front of the body or behind it."""
    head, end, body = message.partition(b"\r\n\r\n")
    trick = random.choice(_CHUNK_TRICKS)
    return head + end + random.choice([trick + body, body + trick, trick])


def _hide(random: Random, message: bytes) -> bytes:
    """A message hidden in a body, whose length is right, or wrong by a few bytes."""
    head, end, body = message.partition(b"\r\n\r\n")
    hidden = random.choice(_HIDDEN)
    if random.random() < 0.5:
        return head + end + body + hidden
    length = len(hidden) + random.choice([0, 0, 0, -1, 1, 5, -len(hidden)])
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"content-l", b"transfer-e"))]
    lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + end + hidden + random.choice([b"", *REQUESTS])


_MUTATIONS = [
    *[_add_line] * 3,
    _insert,
    _change,
    _delete,
    _double,
    _append,
    _line_again,
    _space,
    _fold,
    _aim,
    _chunk,
    _hide,
]
