"""Backends that misbehave, clients that leave, requests that can't be routed or read (contract §6, §7)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from router.messages import DropEndpoint, DropRoute, PutPool
from tests.support.wire import OK, Client, Script, answering, request, serving, until

GET = request()
POST = request("app.test", "/", "Content-Length: 2", method="POST") + b"hi"


def port_of_nobody() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---------------------------------------------------------------- answers of the router's own

EMPTY_HOST = "400 Bad Request: Request had empty Host header\n"
ANSWERS = [
    ("GET / HTTP/1.1\r\nHost: nope.test:99\r\n\r\n", 404, "unknown_route", "route ('nope.test:99') does not exist."),
    ("GET / HTTP/1.0\r\n\r\n", 400, "empty_host", EMPTY_HOST),
    ("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, "empty_host", EMPTY_HOST),
    ("GET / HTTP/1.1\r\nHost: empty.test\r\n\r\n", 404, "unknown_route", "route ('empty.test') does not exist."),
    (
        "GET / HTTP/1.1\r\nHost: app.test\r\nX-CF-App-Instance: x\r\n\r\n",
        400,
        "invalid_cf_app_instance_header",
        "400 Bad Request: Invalid X-CF-App-Instance Header\n",
    ),
]


@pytest.mark.parametrize(("sent", "status", "reason", "text"), ANSWERS)
async def test_answers_of_our_own(sent: str, status: int, reason: str, text: str) -> None:
    async with serving(answering(OK)) as (bench, _):
        bench.plane.table.apply([PutPool("empty.test", "/", "round-robin")])
        client = await bench.client()
        await client.send(sent.encode())
        got, head, body = await client.response()
        assert got == status
        assert f"X-Cf-RouterError: {reason}\r\n".encode() in head
        assert text.encode() in body
        assert b"X-Content-Type-Options: nosniff\r\n" in head
        assert b"X-Vcap-Request-Id" not in head


async def test_an_empty_pool_is_503_when_so_configured() -> None:
    async with serving(empty_pool_503=True) as (bench, _):
        bench.plane.table.apply([PutPool("empty.test", "/", "round-robin")])
        client = await bench.client()
        status, head, body = await client.get("empty.test")
        assert (status, b"X-Cf-RouterError: no_endpoints\r\n" in head) == (503, True)
        assert body == b"503 Service Unavailable: Requested route ('empty.test') has no available endpoints.\n"


async def test_the_connection_limit_is_503() -> None:
    release = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await release.wait()
        await client.send(OK)

    async with serving(script, max_conns=1) as (bench, _):
        first, second = await bench.client(), await bench.client()
        await first.send(request())
        await until(lambda: bench.plane.own_lane[1] == 1)
        status, head, body = await second.get()
        assert (status, b"X-Cf-RouterError: Connection Limit Reached\r\n" in head) == (503, True)
        assert body.endswith(b"Requested route ('app.test') has reached the connection limit.\n")
        release.set()
        assert (await first.response())[0] == 200


UNREADABLE = [
    (b"GARBAGE\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: app.test\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    (b"GET / HTTP/2.0\r\nHost: app.test\r\n\r\n", 505),
    (b"CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n", 405),
    (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: app.test\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: app.test\r\nX: " + b"x" * (1 << 20) + b"y" * 8192, 431),
]


@pytest.mark.parametrize(("sent", "status"), UNREADABLE, ids=lambda value: repr(value)[:50])
async def test_what_cannot_be_read_is_refused_and_the_connection_closed(sent: bytes, status: int) -> None:
    async with serving(answering(OK)) as (bench, (backend,)):
        client = await bench.client()
        await client.send(sent)
        got, head, _ = await client.response()
        assert got == status
        assert b"Connection: close\r\n" in head
        assert await client.rest() == b""
        assert backend.connections == []


async def test_a_broken_chunk_never_looks_complete_to_the_backend() -> None:
    begun, got = asyncio.Event(), list[bytes]()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        begun.set()
        got.append(await client.rest())

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await until(begun.is_set)
        await client.send(b"zz\r\n")
        assert (await client.response())[0] == 400
        await until(lambda: bool(got))
        assert b"0\r\n\r\n" not in got[0]


# ---------------------------------------------------------------- attempts


async def test_a_refused_connection_is_502_with_its_reason() -> None:
    async with serving() as (bench, _):
        port = port_of_nobody()
        bench.route("app.test", port)
        client = await bench.client()
        status, head, body = await client.get()
        assert status == 502
        assert body == b"502 Bad Gateway: Registered endpoint failed to handle the request.\n"
        text = f"X-Cf-RouterError: endpoint_failure (dial tcp 127.0.0.1:{port}: connect: connection refused)\r\n"
        assert text.encode() in head
        assert bench.log.names() == ["backend-endpoint-failed", "endpoint-marked-as-ineligible"]
        told = bench.log.events[0][1]
        assert [told["got-connection"], told["dns-lookup-time"], told["tls-handshake-time"]] == [False, -1.0, -1.0]
        assert (await client.get())[0] == 502  # the mark is forgotten when nothing else is left


async def test_a_refused_connection_is_tried_elsewhere_body_and_all() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads, body=2), max_attempts=3) as (bench, (backend,)):
        bench.route("two.test", port_of_nobody(), backend.port, port_of_nobody())
        client = await bench.client()
        for _ in range(6):
            await client.send(POST.replace(b"app.test", b"two.test"))
            assert (await client.response())[0] == 200
        assert all(head.endswith(b"\r\n\r\nhi") for head in heads)


async def closing(client: Client) -> None:
    await client.reader.readuntil(b"\r\n\r\n")


async def resetting(client: Client) -> None:
    await client.reader.readuntil(b"\r\n\r\n")
    client.reset()


STATUS = b"HTTP/1.1 200 OK\r\n"
FAILURES: list[tuple[str, Script, str]] = [
    ("closed", closing, r"EOF"),
    ("reset", resetting, r"read tcp \S+->\S+: read: connection reset by peer"),
    ("garbage", answering(b"SSH-2.0-x\r\n\r\n"), r"net/http: .*malformed HTTP response.*"),
    ("no http", answering(b"\x00\x01\x02"), r"net/http: .*malformed HTTP response.*"),
    ("CL and TE", answering(STATUS + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), r".*malformed.*"),
    ("101", answering(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), r".*not asked for"),
    ("half a head", answering(b"HTTP/1.1 200 OK\r\nX: "), r"context deadline exceeded"),
    ("long head", answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000), r".*exceeded 4096 bytes; aborted"),
    ("many headers", answering(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20 + b"\r\n"), r"Too many response headers"),
]


EVENTS = {"half a head": ("backend-request-timeout",), "many headers": ("backend-too-many-response-headers",)}
"""What has an event of its own besides (contract §12.5)."""


@pytest.mark.parametrize(("name", "script", "reason"), FAILURES, ids=[row[0] for row in FAILURES])
async def test_a_backend_that_fails_is_502(name: str, script: Script, reason: str) -> None:
    limits = {"max_response_head": 4096, "max_response_headers": 10, "endpoint_timeout": 0.3}
    async with serving(script, **limits) as (bench, _):
        client = await bench.client()
        status, head, _ = await client.get()
        assert status == 502
        assert re.search(rb"X-Cf-RouterError: endpoint_failure \(" + reason.encode() + rb"\)\r\n", head), head
        assert (await client.get())[0] == 502  # the client's connection lives on
        events = [event for event in bench.log.names() if event.startswith("backend-")]
        assert events[: len(events) // 2] == [*EVENTS.get(name, ()), "backend-endpoint-failed"]


async def test_a_closed_idle_connection_costs_a_get_nothing() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(OK)
        await client.reader.readuntil(b"\r\n\r\n")  # the second request is read, and the connection closed

    async with serving(script) as (bench, (backend,)):
        client = await bench.client()
        assert (await client.get())[0] == 200
        assert (await client.get())[0] == 200
        assert len(backend.connections) == 2


async def test_a_post_is_not_repeated_when_it_may_have_been_read() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.reader.readexactly(2)

    async with serving(script, script, max_attempts=3) as (bench, backends):
        client = await bench.client()
        await client.send(POST)
        assert (await client.response())[0] == 502
        assert sum(len(backend.connections) for backend in backends) == 1


async def test_bytes_after_a_response_answer_nothing() -> None:
    async with serving(answering(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")) as (bench, (backend,)):
        client = await bench.client()
        for _ in range(3):
            assert (await client.get())[2] == b"ok"
        assert len(backend.connections) == 3


async def test_bytes_on_an_idle_connection_answer_nothing() -> None:
    stray = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(OK)
        await stray.wait()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await client.rest()

    async with serving(script) as (bench, (backend,)):
        client = await bench.client()
        assert (await client.get())[2] == b"ok"
        stray.set()
        await until(lambda: not bench.plane.backends)
        assert (await client.get())[2] == b"ok"
        assert len(backend.connections) == 2


CUT = [
    ("length", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
    ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
]


@pytest.mark.parametrize(("name", "answer"), CUT, ids=[row[0] for row in CUT])
async def test_half_a_response_is_never_made_whole(name: str, answer: bytes) -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(answer)

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(request())
        await client.head()
        rest = await client.rest()
        assert not rest.endswith(b"0\r\n\r\n")
        assert len(rest) < 15


async def test_a_client_that_leaves_ends_its_backend_request(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.rest()
        gone.set()

    log = tmp_path / "access.log"
    async with serving(script, access_log_file=str(log)) as (bench, (backend,)):
        client = await bench.client()
        await client.send(request())
        await until(lambda: bool(backend.connections))
        client.close()
        async with asyncio.timeout(5):
            await gone.wait()
    assert '"GET / HTTP/1.1" 499 0 0' in log.read_text()
    assert 'x_cf_routererror:"endpoint_failure (context canceled)"' in log.read_text()


async def test_an_early_answer_while_the_body_is_still_coming() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await client.rest()

    async with serving(script) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Content-Length: 1000", method="POST") + b"x" * 10)
        assert (await client.response())[0] == 413
        await client.send(b"x" * 990)  # the rest of a short body is read, and the connection kept
        assert (await client.get("nope.test"))[0] == 404


async def test_an_endpoint_that_is_dropped_finishes_its_request() -> None:
    release = asyncio.Event()

    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await release.wait()
        await client.send(OK)
        assert await client.rest() == b""

    async with serving(script) as (bench, (backend,)):
        client = await bench.client()
        await client.send(request())
        await until(lambda: bool(backend.connections))
        bench.plane.table.apply([DropRoute("app.test", 1), DropEndpoint(1)])
        release.set()
        assert (await client.response())[0] == 200
        assert (await client.get())[0] == 404


async def test_a_strategy_that_raises_loses_the_pool_and_no_request() -> None:
    class Broken:
        def pick(self, pool: object, request: object) -> None:
            raise ZeroDivisionError("oops")

    async with serving(answering(OK)) as (bench, _):
        bench.plane.table.pools["app.test"].strategy = Broken()
        client = await bench.client()
        assert (await client.get())[0] == 200
        assert bench.log.events[0][0] == "balancing-strategy-failed"
        assert bench.log.events[0][1]["error"] == "oops"


@pytest.mark.parametrize(("message", "status"), [(GET, 200), (POST, 502)])
async def test_a_reset_before_the_answer_is_repeated_where_that_is_safe(message: bytes, status: int) -> None:
    """A killed instance resets connections that its system had accepted for it (docs/decisions/0004)."""

    async def first(client: Client) -> None:
        await client.head()
        client.reset()

    async with serving(first, answering(OK, body=0), max_attempts=3) as (bench, _):
        (pool,) = bench.plane.table.pools.values()
        pool.strategy.position = 0  # the first one's turn
        client = await bench.client()
        await client.send(message)
        assert (await client.response())[0] == status


async def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    async def half(client: Client) -> None:
        await client.head()
        await client.send(b"HTTP/1.1 200 OK\r\nX: ")

    async with serving(half, half, max_attempts=3) as (bench, backends):
        assert (await (await bench.client()).get())[0] == 502
        assert sum(len(backend.connections) for backend in backends) == 1
