"""HTTP/1.0 on either side (RFC 9112 §9.3, RFC 9110 §7.8 and §15.2): no chunks, no interim responses, no upgrades."""

from __future__ import annotations

import pytest

from tests.support.wire import OK, answering, request, serving

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

CLIENTS = [
    # lines, backend's answer, what the client's head says, body
    ("", OK, b"Connection: close\r\n"),
    ("Connection: keep-alive", OK, b"Connection: keep-alive\r\n"),
    ("Connection: keep-alive", CHUNKED, b"Connection: close\r\n"),
    ("Connection: keep-alive, close", OK, b"Connection: close\r\n"),
    ("", HINTS + OK, b"Content-Length: 2\r\n"),
    ("TE: trailers", CHUNKED, b"Connection: close\r\n"),
    ("Connection: Upgrade\r\nUpgrade: websocket", OK, b"Content-Length: 2\r\n"),
]


@pytest.mark.parametrize(("lines", "answer", "says"), CLIENTS)
async def test_clients(lines: str, answer: bytes, says: bytes) -> None:
    heads: list[bytes] = []
    async with serving(answering(answer, heads=heads)) as (bench, _):
        client = await bench.client()
        ask = request("app.test", "/", *filter(None, [lines])).replace(b"HTTP/1.1", b"HTTP/1.0")
        await client.send(ask)
        head = await client.head()
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert says in head
        assert b"Transfer-Encoding" not in head
        assert await client.exactly(2) == b"ok"
        if b"close" in says:
            assert await client.rest() == b""
    assert heads[0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"pgrade" not in heads[0]


BACKENDS = [
    # answer, body, its connection is used again
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, False),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, True),
    (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        502,
        False,
    ),
]


@pytest.mark.parametrize(("answer", "status", "kept"), BACKENDS)
async def test_backends(answer: bytes, status: int, kept: bool) -> None:
    async with serving(answering(answer)) as (bench, (backend,)):
        client = await bench.client()
        for _ in range(2):
            got, head, _ = await client.get()
            assert (got, head[:9]) == (status, b"HTTP/1.1 ")
        assert len(backend.connections) == (1 if kept else 2)
