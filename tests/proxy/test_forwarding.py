"""What goes over the wire when all is well (contract §5.2 to §5.5)."""

from __future__ import annotations

import asyncio
import hashlib
import re

import pytest

from tests.support.wire import OK, Client, answering, request, serving

ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


async def test_a_request_and_its_response_byte_for_byte() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads)) as (bench, _):
        client = await bench.client()
        await client.send(
            request(
                "App.Test:8081",
                "/a%20b?x=1",
                "Accept: */*",
                "X-Forwarded-For: 10.0.0.1",
                "X-CF-InstanceID: spoofed",
                "x-vcap-request-id: spoofed",
                "Connection: X-Gone, keep-alive",
                "X-Gone: 1",
                "Keep-Alive: 5",
            )
        )
        status, head, body = await client.response()
    assert re.fullmatch(
        rb"GET /a%20b\?x=1 HTTP/1\.1\r\nHost: App\.Test:8081\r\nAccept: \*/\*\r\n"
        rb"X-Forwarded-For: 10\.0\.0\.1, 127\.0\.0\.1\r\nX-Forwarded-Proto: http\r\nX-Request-Start: \d{13}\r\n"
        rb"X-Vcap-Request-Id: " + ID + rb"\r\nX-CF-ApplicationID: app-guid\r\nX-CF-InstanceID: instance-0\r\n"
        rb"X-CF-InstanceIndex: 0\r\n\r\n",
        heads[0],
    )
    assert (status, body) == (200, b"ok")
    assert re.fullmatch(
        rb"HTTP/1\.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
        rb"X-Vcap-Request-Id: " + ID + rb"\r\nContent-Length: 2\r\n\r\n",
        head,
    )


async def test_connections_are_kept_on_both_sides() -> None:
    async with serving(answering(OK)) as (bench, (backend,)):
        client = await bench.client()
        for _ in range(20):
            assert (await client.get())[0] == 200
        assert len(backend.connections) == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            path = head.split()[1]
            await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(b"".join(request("app.test", f"/{n}") for n in range(50)))
        assert [(await client.response())[2] for _ in range(50)] == [b"/%d" % n for n in range(50)]


REFRAMED = [
    ("length", b"Content-Length: 5\r\n\r\nhello", b"hello"),
    ("chunked", b"Transfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: 1\r\n\r\n", b"hello"),
    ("until close", b"\r\nhello", b"hello"),
    ("empty", b"Content-Length: 0\r\n\r\n", b""),
]


@pytest.mark.parametrize(("name", "answer", "body"), REFRAMED, ids=[row[0] for row in REFRAMED])
async def test_every_framing_split_at_every_byte(name: str, answer: bytes, body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + answer

    async def script(client: Client) -> None:
        head = await client.reader.readuntil(b"\r\n\r\n")
        at = int(head.split()[1][1:])
        await client.send(answer[:at])
        await asyncio.sleep(0)
        await client.send(answer[at:])

    async with serving(script) as (bench, _):
        for at in range(len(answer)):
            client = await bench.client()
            status, _, got = await client.get("app.test", f"/{at}")
            assert (status, got) == (200, body), at


UPLOADS = [
    ("length", b"Content-Length: 5\r\n\r\nhello", rb"Content-Length: 5\r\n"),
    (
        "chunked",
        b"Transfer-Encoding: chunked\r\n\r\n2;x\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        rb"Transfer-Encoding: chunked\r\n",
    ),
]


@pytest.mark.parametrize(("name", "message", "framing"), UPLOADS, ids=[row[0] for row in UPLOADS])
async def test_request_bodies_split_at_every_byte(name: str, message: bytes, framing: bytes) -> None:
    message = b"POST / HTTP/1.1\r\nHost: app.test\r\n" + message

    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert re.search(framing, head)
            if b"chunked" in head:
                body = b""
                while size := int(await client.reader.readuntil(b"\r\n"), 16):
                    body += (await client.reader.readexactly(size + 2))[:-2]
                await client.reader.readexactly(2)
            else:
                body = await client.reader.readexactly(5)
            await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with serving(script) as (bench, _):
        client = await bench.client()
        for at in range(1, len(message)):
            await client.send(message[:at])
            await asyncio.sleep(0)
            await client.send(message[at:])
            assert (await client.response())[2] == b"hello", at


NO_BODY = [
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", 200, b"Content-Length: 10"),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"Content-Length: 9"),
]


@pytest.mark.parametrize(("method", "answer", "status", "length"), NO_BODY)
async def test_responses_without_a_body(method: bytes, answer: bytes, status: int, length: bytes | None) -> None:
    async with serving(answering(answer)) as (bench, (backend,)):
        client = await bench.client()
        for _ in range(2):
            await client.send(request(method=method.decode()))
            got, head, _ = await client.response(method)
            assert got == status
            assert (length in head) if length else (b"ontent-Length" not in head)
        assert len(backend.connections) == 1


async def test_http_10_client_gets_http_10() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with serving(answering(OK, chunked)) as (bench, _):
        client = await bench.client()
        await client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n")
        head = await client.head()
        assert head.startswith(b"HTTP/1.0 200 OK\r\n")
        assert b"Connection: keep-alive\r\n" in head
        assert await client.exactly(2) == b"ok"
        await client.send(b"GET / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n")
        head = await client.head()
        assert b"Connection: close\r\n" in head
        assert b"chunked" not in head
        assert await client.rest() == b"ok"


async def test_interim_responses_are_passed_on() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK
    async with serving(answering(answer)) as (bench, _):
        client = await bench.client()
        await client.send(request())
        assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        assert (await client.response())[0] == 200


async def test_the_backends_100_lets_the_body_come() -> None:
    async def script(client: Client) -> None:
        assert b"Expect: 100-continue" in await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await client.reader.readexactly(2) == b"hi"
        await client.send(OK)

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.response())[0] == 200


async def test_a_silent_backend_gets_our_100_instead() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(2) == b"hi"
        await client.send(OK)

    async with serving(script, endpoint_timeout=20.0) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Content-Length: 2", "Expect: 100-continue", method="POST"))
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hi")
        assert (await client.response())[0] == 200


async def test_large_bodies_both_ways() -> None:
    size = 20 * 1024 * 1024
    data = hashlib.shake_128(b"x").digest(size)

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        body = await client.reader.readexactly(size)
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, body)

    async with serving(script) as (bench, _):
        client = await bench.client()
        sending = asyncio.create_task(
            client.send(request("app.test", "/", f"Content-Length: {size}", method="POST"), data)
        )
        _, _, body = await client.response()
        await sending
        assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()


TRAILERS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"2\r\nok\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n"
)


@pytest.mark.parametrize(("te", "ending"), [("TE: trailers", b"0\r\nX-Sum: 1\r\n\r\n"), ("X: y", b"0\r\n\r\n")])
async def test_safe_trailers_reach_who_takes_them(te: str, ending: bytes) -> None:
    async with serving(answering(TRAILERS)) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", te, "Connection: close, TE"))
        assert (await client.rest()).endswith(b"\r\n\r\n2\r\nok\r\n" + ending)


@pytest.mark.parametrize(
    ("te", "upgrade", "settings", "sent"),
    [
        ("TE: trailers", (), {}, [b"TE: trailers", b"Connection: TE"]),
        ("TE: gzip, trailers;q=1", (), {}, [b"TE: trailers", b"Connection: TE"]),
        ("TE: trailers", (), {"disable_keep_alives": True}, [b"TE: trailers", b"Connection: close, TE"]),
        ("TE: trailers", ("Connection: Upgrade", "Upgrade: websocket"), {}, [b"Connection: Upgrade"]),
        ("TE: gzip", (), {}, []),
        ("X: y", (), {}, []),
    ],
)
async def test_te_is_for_the_next_hop_and_named_in_connection(
    te: str, upgrade: tuple[str, ...], settings: dict[str, bool], sent: list[bytes]
) -> None:
    """RFC 9110 §10.1.4."""
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), **settings) as (bench, _):
        client = await bench.client()
        await client.get("app.test", "/", te, *upgrade)
        lines = heads[0].split(b"\r\n")
        assert [line for line in lines if line.startswith((b"TE:", b"Connection:"))] == sent


async def test_a_backend_that_speaks_http_10_is_not_kept() -> None:
    async with serving(answering(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (bench, (backend,)):
        client = await bench.client()
        assert (await client.get())[2] == b"ok"
        assert (await client.get())[2] == b"ok"
        assert len(backend.connections) == 2


async def test_one_endpoint_after_the_other() -> None:
    scripts = [answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n) for n in range(3)]
    async with serving(*scripts) as (bench, _):
        client = await bench.client()
        first = [(await client.get())[2] for _ in range(6)]
        assert sorted(first[:3]) == [b"0", b"1", b"2"]
        assert first[:3] == first[3:]
