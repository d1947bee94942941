"""HTTP/2 to backends (RFC 9113, contract §8.7), from clients of both versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import TrailersReceived

from router.messages import EndpointSpec, PutEndpoint, PutPool, PutRoute
from tests.support import certs
from tests.support.h2_client import H2Client
from tests.support.h2_server import Call, H2Backend, Script
from tests.support.wire import OK, Backend, Bench, Client, answering, request, serving, until
from tests.support.wire import Script as WireScript

BIG = 1 << 20
MIXED: dict[str, Any] = {"listeners": ("https",), "front_tls": certs.front(), "backend_tls": certs.back()}


@asynccontextmanager
async def to_h2(
    script: Script, *, secure: bool = False, streams: int | None = None, late: bool = False, **settings: Any
) -> AsyncIterator[tuple[Bench, H2Backend]]:
    """A data plane with one HTTP/2 backend; `secure`: clients speak TLS too."""
    async with (
        H2Backend(script, streams=streams, late=late) as backend,
        serving(**{**(MIXED if secure else {"backend_tls": certs.back()}), **settings}) as (
            bench,
            _,
        ),
    ):
        bench.route("app.test", backend.port, tls=True, protocol="http2", server_cert_domain_san="instance-1")
        try:
            yield bench, backend
        finally:
            for endpoint in bench.plane.table.endpoints.values():
                if endpoint.connections is not None:
                    endpoint.connections.close()


@asynccontextmanager
async def registered(script: WireScript, *protocols: str, tls: bool = True) -> AsyncIterator[tuple[Bench, Backend]]:
    """A data plane with a backend that is registered for HTTP/2, and agrees to these `protocols` or speaks no TLS."""
    context = certs.server(certs.issued("instance-1")) if tls else None
    if context is not None and protocols:
        context.set_alpn_protocols(list(protocols))
    backend = Backend(script, context)
    await backend.start()
    async with serving(backend_tls=certs.back()) as (bench, _):
        bench.route("app.test", backend.port, tls=True, protocol="http2", server_cert_domain_san="instance-1")
        yield bench, backend
        await backend.stop()


async def says_ok(call: Call) -> None:
    await call.ended.wait()
    call.head(200, ("content-length", "2"), ("x-from", "h2"))
    await call.data(b"ok", end=True)


async def test_a_request_from_http1() -> None:
    async with to_h2(says_ok) as (bench, backend):
        client = await bench.client()
        status, head, body = await client.get("app.test", "/a?b", "X-One: 1", "Connection: X-Two", "X-Two: 2")
        assert (status, body) == (200, b"ok")
        assert b"\r\nx-from: h2\r\n" in head
        fields = backend.calls[0].fields
        assert fields[b":method"] == b"GET"
        assert fields[b":path"] == b"/a?b"
        assert fields[b":authority"] == b"app.test"
        assert fields[b"x-one"] == b"1"
        assert fields[b"x-cf-instanceid"] == b"instance-0"
        assert b"x-two" not in fields
        assert b"host" not in fields
        assert b"connection" not in fields


async def test_many_requests_share_one_connection() -> None:
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        await says_ok(call)

    async with to_h2(waits) as (bench, backend):
        first = await bench.client()
        await first.send(request())
        await until(lambda: len(backend.calls) == 1)
        others = [await bench.client() for _ in range(20)]
        for client in others:
            await client.send(request())
        await until(lambda: len(backend.calls) == 21)
        go.set()
        for client in (first, *others):
            assert (await client.response())[0] == 200
        assert len(backend.connections) == 1


def waiting(bench: Bench) -> int:
    """Requests that wait for a connection under way."""
    found = [endpoint.connections for endpoint in bench.plane.table.endpoints.values()]
    return sum(len(one.dialling._waiting) for one in found if one is not None and one.dialling is not None)


async def asking(bench: Bench, count: int) -> list[Client]:
    """Clients whose requests wait for one connection."""
    clients = [await bench.client() for _ in range(count)]
    for client in clients:
        await client.send(request())
    await until(lambda: waiting(bench) == count)
    return clients


@pytest.mark.parametrize(("streams", "connections"), [(None, 1), (100, 1), (7, 3), (1, 20)])
async def test_first_requests_wait_for_one_connection(streams: int | None, connections: int) -> None:
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        await says_ok(call)

    async with to_h2(waits, streams=streams, late=True) as (bench, backend):
        clients = await asking(bench, 20)
        await backend.open()
        await until(lambda: len(backend.calls) == 20)
        assert len(backend.connections) == connections
        go.set()
        for client in clients:
            assert (await client.response())[0] == 200
        assert not waiting(bench)


async def test_who_leaves_takes_the_connection_from_nobody() -> None:
    async with to_h2(says_ok, late=True) as (bench, backend):
        first, second, third = await asking(bench, 3)
        first.reset()
        await until(lambda: waiting(bench) == 2)
        third.reset()
        await until(lambda: waiting(bench) == 1)
        await backend.open()
        assert (await second.response())[0] == 200
        assert (len(backend.connections), len(backend.calls)) == (1, 1)


async def test_when_all_have_left_nobody_waits_for_the_dial() -> None:
    async with to_h2(says_ok, late=True) as (bench, backend):
        for client in await asking(bench, 2):
            client.reset()
        await until(lambda: not bench.plane.frontends)
        assert not waiting(bench)
        await backend.open()
        assert (await (await bench.client()).get())[0] == 200
        await until(lambda: len(backend.connections) == 1)


async def test_a_dial_that_fails_fails_for_all_who_wait() -> None:
    dials = []

    async def script(client: Client) -> None:
        dials.append(client)
        await client.send(b"HTTP/1.1 400 this is no TLS\r\n\r\n")

    async with registered(script, tls=False) as (bench, _):
        clients = await asking(bench, 5)
        for client in clients:
            status, head, _ = await client.response()
            assert status == 525
            assert b"tls: first record does not look like a TLS handshake" in head
        assert len(dials) == 1


async def test_a_connection_that_ends_before_the_settings_came() -> None:
    async def script(client: Client) -> None:
        client.writer.close()

    async with registered(script, "h2") as (bench, _):
        for client in await asking(bench, 5):
            status, head, _ = await client.response()
            assert status == 502
            assert b"endpoint_failure (EOF)" in head
        assert not waiting(bench)


@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_and_trailers_from_http1(chunked: bool) -> None:
    async with to_h2(says_ok) as (bench, backend):
        client = await bench.client()
        if chunked:
            await client.send(request("app.test", "/", "Transfer-Encoding: chunked", method="POST"))
            await client.send(b"5\r\nhello\r\n", b"0\r\nX-Sum: 1\r\n\r\n")
        else:
            await client.send(request("app.test", "/", "Content-Length: 5", method="POST"), b"hello")
        assert (await client.response())[0] == 200
        call = backend.calls[0]
        assert call.body == b"hello"
        assert call.fields.get(b"content-length") == (None if chunked else b"5")
        assert b"transfer-encoding" not in call.fields
        assert call.trailers == ([(b"x-sum", b"1")] if chunked else [])


async def test_from_http2_to_http2_with_trailers_both_ways() -> None:
    async def script(call: Call) -> None:
        await call.ended.wait()
        call.head(200, ("content-type", "application/grpc"))
        await call.data(call.body)
        call.end(("grpc-status", "0"))

    async with to_h2(script, secure=True) as (bench, backend):
        client = await H2Client.to(bench.port)
        id = await client.ask("POST", "/service/method", b"x" * 1000, te="trailers", content_type="application/grpc")
        status, _, body = await client.response(id)
        assert (status, body) == (200, b"x" * 1000)
        (trailers,) = client.of(TrailersReceived, id)
        assert trailers.headers == [(b"grpc-status", b"0")]  # type: ignore[attr-defined]
        assert backend.calls[0].fields[b"te"] == b"trailers"
        client.close()


async def test_a_conversation_in_both_directions() -> None:
    async def echoes(call: Call) -> None:
        call.head(200)
        told = 0
        while not call.ended.is_set() or told < len(call.body):
            if told < len(call.body):
                piece, told = call.body[told:], len(call.body)
                await call.data(piece)
            await asyncio.sleep(0)
        call.end()

    async with to_h2(echoes, secure=True) as (bench, _):
        client = await H2Client.to(bench.port)
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields("POST"))
        await client.flush()
        said = b""
        for number in range(50):
            word = b"word %d;" % number
            said += word
            client.conn.send_data(id, word)
            await client.flush()
            while client.bodies[id] != said:
                await client.more()
        client.conn.end_stream(id)
        await client.flush()
        assert (await client.response(id))[2] == said
        client.close()


async def test_answers_without_a_body() -> None:
    async def script(call: Call) -> None:
        call.head(int(call.fields[b":path"][1:]), end=True)

    async with to_h2(script) as (bench, _):
        client = await bench.client()
        for status in (204, 304, 200):
            found, head, body = await client.get("app.test", f"/{status}")
            assert (found, body) == (status, b"")
            assert (b"\r\nContent-Length: 0\r\n" in head) is (status == 200)


async def test_interim_responses() -> None:
    async def script(call: Call) -> None:
        call.connection.conn.send_headers(call.id, [(":status", "103"), ("link", "</a>")])
        await says_ok(call)

    async with to_h2(script) as (bench, _):
        client = await bench.client()
        await client.send(request())
        assert (await client.head()).startswith(b"HTTP/1.1 103 ")
        assert (await client.response())[0] == 200


async def test_a_large_answer_to_a_slow_client_is_held_back() -> None:
    async def script(call: Call) -> None:
        call.head(200, ("content-length", str(8 * BIG)))
        await call.data(b"x" * (8 * BIG), end=True)

    async with to_h2(script) as (bench, backend):
        client = await bench.client()
        client.writer.transport.pause_reading()
        await client.send(request())
        await until(lambda: bool(backend.calls))
        connection = backend.calls[0].connection
        await until(lambda: connection.conn.local_flow_control_window(backend.calls[0].id) == 0)
        client.writer.transport.resume_reading()
        assert len((await client.response())[2]) == 8 * BIG


async def test_clients_that_are_slow_hold_up_nobody_else_on_a_shared_connection() -> None:
    async def script(call: Call) -> None:
        size = 4 * BIG if call.fields[b":path"] == b"/large" else 2
        call.head(200, ("content-length", str(size)))
        await call.data(b"x" * size, end=True)

    async with to_h2(script) as (bench, backend):
        assert (await (await bench.client()).get())[0] == 200
        slow = [await bench.client() for _ in range(10)]  # together they could fill the window of the connection
        for client in slow:
            client.writer.transport.pause_reading()
            await client.send(request("app.test", "/large"))
        await until(lambda: len(backend.calls) == 11)
        for call in backend.calls[1:]:
            conn = call.connection.conn
            await until(lambda conn=conn, id=call.id: conn.local_flow_control_window(id) == 0)  # type: ignore[misc]
        assert (await (await bench.client()).get())[0] == 200
        assert len(backend.connections) == 1
        for client in slow:
            client.writer.transport.resume_reading()
        for client in slow:
            assert len((await client.response())[2]) == 4 * BIG


async def test_a_large_request_to_a_slow_backend_waits() -> None:
    async def script(call: Call) -> None:
        call.acknowledge = False
        await until(lambda: len(call.body) >= 65535)
        call.acknowledge = True
        call.connection.conn.acknowledge_received_data(len(call.body), call.id)
        call.connection.flush()
        await says_ok(call)

    async with to_h2(script) as (bench, backend):
        client = await bench.client()
        await client.send(request("app.test", "/", f"Content-Length: {BIG}", method="POST"), b"x" * BIG)
        assert (await client.response())[0] == 200
        assert len(backend.calls[0].body) == BIG


async def test_a_client_that_leaves_resets_its_stream_only() -> None:
    async def script(call: Call) -> None:
        if call.fields[b":path"] == b"/never":
            await call.ended.wait()
            await asyncio.Event().wait()
        await says_ok(call)

    async with to_h2(script) as (bench, backend):
        client, other = await bench.client(), await bench.client()
        assert (await other.get())[0] == 200
        await client.send(request("app.test", "/never"))
        await until(lambda: len(backend.calls) == 2)
        client.reset()
        await until(lambda: backend.calls[1].code == ErrorCodes.CANCEL)
        assert (await other.get())[0] == 200
        assert len(backend.connections) == 1


@pytest.mark.parametrize(
    ("code", "status", "calls"),
    [(ErrorCodes.REFUSED_STREAM, 200, 2), (ErrorCodes.INTERNAL_ERROR, 502, 1), (ErrorCodes.ENHANCE_YOUR_CALM, 502, 1)],
)
async def test_streams_that_the_backend_resets(code: ErrorCodes, status: int, calls: int) -> None:
    async def script(call: Call) -> None:
        if len(call.connection.server.calls) == 1:
            call.reset(code)
        else:
            await says_ok(call)

    async with to_h2(script, max_attempts=3) as (bench, backend):
        found, head, _ = await (await bench.client()).get()
        assert (found, len(backend.calls)) == (status, calls)
        if status == 502:
            assert b"X-Cf-RouterError: endpoint_failure (stream error: stream ID 1; " in head


async def test_goaway_lets_requests_end_and_repeats_those_not_seen() -> None:
    async def script(call: Call) -> None:
        server = call.connection.server
        if len(server.connections) == 1 and len(server.calls) == 2:
            conn = call.connection.conn
            frame = b"\0\0\x08\x07\0\0\0\0\0" + (1).to_bytes(4, "big") + bytes(4)  # GOAWAY, last stream 1
            call.connection.transport.write(conn.data_to_send() + frame)  # type: ignore[attr-defined]
            await says_ok(server.calls[0])
        elif len(server.calls) > 1:
            await says_ok(call)

    async with to_h2(script, max_attempts=3) as (bench, backend):
        first, second = await bench.client(), await bench.client()
        await first.send(request())
        await until(lambda: len(backend.calls) == 1)
        await second.send(request())
        assert (await first.response())[0] == 200
        assert (await second.response())[0] == 200
        assert len(backend.connections) == 2


async def test_a_backend_that_breaks_off_mid_response_cuts_the_client() -> None:
    async def script(call: Call) -> None:
        call.head(200, ("content-length", "100"))
        await call.data(b"half")
        call.reset(ErrorCodes.INTERNAL_ERROR)

    async with to_h2(script) as (bench, _):
        client = await bench.client()
        await client.send(request())
        assert (await client.rest()).endswith(b"\r\n\r\nhalf")


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"\0\0\x01\0\x01%bx", b"a body before its head"),
        (b"\0\0\x01\x01\x05%b\x88", b""),
        (b"\0\0\x01\x01\x05%b\xbe", b"no table"),
        (b"\0\0\x05\x01\x05%b\x08\x03103", b"interim response that ends the stream"),
    ],
)
async def test_answers_that_break_the_rules(frame: bytes, error: bytes) -> None:
    async def script(call: Call) -> None:
        await call.ended.wait()
        call.connection.transport.write(frame % call.id.to_bytes(4, "big"))  # type: ignore[attr-defined]

    async with to_h2(script) as (bench, _):
        status, head, _ = await (await bench.client()).get()
        assert status == (502 if error else 200)
        assert error in head


@pytest.mark.parametrize("late", [False, True])
async def test_headers_that_are_too_large_end_their_response_and_no_other(late: bool) -> None:
    async def script(call: Call) -> None:
        large = ("x-large", "x" * 6000)
        if call.fields[b":path"] == b"/":
            await says_ok(call)
        elif late:
            call.head(200)
            call.end(large)
        else:
            call.head(200, large, end=True)

    async with to_h2(script, max_response_head=4096) as (bench, backend):
        client = await bench.client()
        for _ in range(2):
            await client.send(request("app.test", "/large"))
            if late:
                assert (await client.rest()).endswith(b"Transfer-Encoding: chunked\r\n\r\n")
                client = await bench.client()
            else:
                status, head, _ = await client.response()
                assert status == 502
                assert b"exceeded 4096 bytes; aborted" in head
            assert (await client.get())[0] == 200
        assert len(backend.connections) == 1


async def test_a_response_of_another_length_than_it_should_have_is_cut() -> None:
    async def script(call: Call) -> None:
        await call.ended.wait()
        block = b"\x88\x0f\x0d\x014"  # 200, Content-Length: 4
        id = call.id.to_bytes(4, "big")
        frames = b"\0\0\x05\x01\x04%b%b\0\0\x02\0\x01%bno" % (id, block, id)
        call.connection.transport.write(frames)  # type: ignore[attr-defined]

    async with to_h2(script) as (bench, backend):
        client = await bench.client()
        await client.send(request())
        assert (await client.rest()).endswith(b"\r\nContent-Length: 4\r\n\r\n")
        await until(lambda: backend.calls[0].code == ErrorCodes.PROTOCOL_ERROR)


async def test_http_rewrite() -> None:
    rules = {"add_response_headers": (("X-Added", "1"),), "remove_response_headers": ("X-From",)}
    async with to_h2(says_ok, **rules) as (bench, _):
        status, head, _ = await (await bench.client()).get()
        assert status == 200
        assert b"\r\nX-Added: 1\r\n" in head
        assert b"x-from" not in head


async def test_a_backend_that_agrees_to_http1_only() -> None:
    async with registered(answering(OK), "http/1.1") as (bench, backend):
        client = await bench.client()
        for _ in range(2):
            assert (await client.get())[0] == 200
        assert len(backend.connections) == 1


async def test_a_backend_that_agrees_to_http1_only_gets_a_connection_for_each_who_waits() -> None:
    go = asyncio.Event()

    async def script(client: Client) -> None:
        await client.head()
        await go.wait()
        await client.send(OK)

    async with registered(script, "http/1.1") as (bench, backend):
        clients = await asking(bench, 5)
        await until(lambda: len(backend.connections) == 5)
        clients.append(await bench.client())
        await clients[-1].send(request())
        await until(lambda: len(backend.connections) == 6)
        assert not waiting(bench)
        go.set()
        for client in clients:
            assert (await client.response())[0] == 200


async def test_a_plain_endpoint_gets_http1_whatever_it_registers() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads)) as (bench, backends):
        spec = EndpointSpec("127.0.0.1", backends[0].port, protocol="http2")
        bench.plane.table.apply(
            [PutPool("h2.test", "/", "round-robin"), PutEndpoint.of(50, 50, spec), PutRoute("h2.test", 50)]
        )
        assert (await (await bench.client()).get("h2.test"))[0] == 200
    assert heads[0].startswith(b"GET / HTTP/1.1\r\n")


async def test_a_websocket_to_an_http2_endpoint_goes_over_http1() -> None:
    async def script(client: Client) -> None:
        await client.head()
        await client.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await client.send(await client.exactly(3))

    async with registered(script) as (bench, _):
        client = await bench.client()
        await client.send(request("app.test", "/", "Connection: Upgrade", "Upgrade: websocket"))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        await client.send(b"abc")
        assert await client.exactly(3) == b"abc"
