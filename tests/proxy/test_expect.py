"""`Expect: 100-continue` in all its cases (contract §8.5, RFC 9110 §10.1.1): a row is a transcript of both sides."""

from __future__ import annotations

import pytest

from router.proxy import attempts
from tests.support.wire import OK, Client, answering, request, serving

ASK = request("app.test", "/", "Content-Length: 2", "Expect: 100-continue", method="POST")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "CONTINUE_WAIT", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_late_100_is_not_passed_on_after_our_own() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(2) == b"hi"
        await client.send(CONTINUE + OK)

    async with serving(script, endpoint_timeout=20.0, read_header_timeout=0.2) as (bench, _):
        client = await bench.client()
        await client.send(ASK)
        assert await client.head() == CONTINUE
        await client.send(b"hi")
        assert (await client.head()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_final_answer_without_100_is_delivered_and_the_connection_closed() -> None:
    """The client may or may not send its body now: nothing after this answer can be read for sure."""
    async with serving(answering(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")) as (bench, (backend,)):
        client = await bench.client()
        await client.send(ASK)
        status, head, body = await client.response()
        assert (status, body, b"Connection: close\r\n" in head) == (401, b"no", True)
        await client.send(request())  # is a body, or nothing
        assert await client.rest() == b""
        assert len(backend.connections) == 1


async def test_an_error_of_our_own_comes_without_100() -> None:
    async with serving() as (bench, _):
        client = await bench.client()
        await client.send(ASK.replace(b"app.test", b"nope.test"))
        status, head, _ = await client.response()
        assert (status, b"Connection: close\r\n" in head) == (404, True)
        assert await client.rest() == b""


EXPECTATIONS = [
    # lines, status, Expect reaches the backend
    (b"HTTP/1.1", "Expect: 100-Continue", 200, True),
    (b"HTTP/1.1", "Expect: something", 417, False),
    (b"HTTP/1.1", "Expect: 100-continue, something", 417, False),
    (b"HTTP/1.0", "Expect: 100-continue", 200, False),  # RFC 9110 §10.1.1: not in HTTP/1.0
    (b"HTTP/1.0", "Expect: something", 200, False),
]


@pytest.mark.parametrize(("version", "line", "status", "passed"), EXPECTATIONS)
async def test_expectations(version: bytes, line: str, status: int, passed: bool) -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads, body=2)) as (bench, _):
        client = await bench.client()
        ask = request("app.test", "/", "Content-Length: 2", line, "Connection: close", method="POST") + b"hi"
        await client.send(ask.replace(b"HTTP/1.1", version))
        assert int((await client.rest()).split(b" ")[1]) == status
        assert any(b"\r\nExpect: " in head for head in heads) is passed


@pytest.mark.parametrize(("keep", "line"), [(False, True), (True, False)])
async def test_the_backends_connection(keep: bool, line: bool) -> None:
    """`keep_alive_100_continue_requests`: without it such a request is the last on its connection."""

    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert (b"Connection: close\r\n" in head) is (line and b"Expect" in head)
            if b"Expect" in head:
                await client.send(CONTINUE)
                await client.reader.readexactly(2)
            await client.send(OK)

    async with serving(script, keep_alive_100_continue=keep) as (bench, (backend,)):
        client = await bench.client()
        await client.send(ASK)
        assert await client.head() == CONTINUE
        await client.send(b"hi")
        assert (await client.response())[0] == 200
        assert (await client.get())[0] == 200
        assert len(backend.connections) == 1 + line


@pytest.mark.usefixtures("impatient")
async def test_early_hints_do_not_invite_the_body() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await client.reader.readexactly(2)
        await client.send(OK)

    async with serving(script, read_header_timeout=0.2) as (bench, _):
        client = await bench.client()
        await client.send(ASK)
        assert (await client.head()).startswith(b"HTTP/1.1 103 ")
        assert await client.head() == CONTINUE  # ours, after the wait
        await client.send(b"hi")
        assert (await client.response())[0] == 200
