"""HTTP/2 at the front door, to HTTP/1.1 backends (RFC 9113, contract §8.7): a decent client, and the known floods."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import InformationalResponseReceived, StreamEnded, TrailersReceived, WindowUpdated
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, SettingsFrame, WindowUpdateFrame

from router.observe.counters import Counter
from tests.support import certs
from tests.support.h2_client import H2Client
from tests.support.wire import OK, Client, answering, serving, until

H2: dict[str, Any] = {"listeners": ("https",), "front_tls": certs.front()}
BIG = 1 << 20
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + b"x" * BIG


async def test_requests_over_one_connection() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        ids = [await client.ask(path=f"/{number}", user_agent="test") for number in range(20)]
        for id in ids:
            status, fields, body = await client.response(id)
            assert (status, body) == (200, b"ok")
            assert fields[b"content-length"] == b"2"
            assert len(fields[b"x-vcap-request-id"]) == 36
        client.close()
    assert min(heads).startswith(b"GET /0 HTTP/1.1\r\nHost: app.test\r\n")
    assert b"\r\nuser-agent: test\r\n" in heads[0]
    assert b"\r\nX-Forwarded-Proto: https\r\n" in heads[0]
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in heads[0]
    assert sorted(head.split(b" ")[1] for head in heads) == sorted(b"/%d" % n for n in range(20))


async def test_a_body_of_known_length_and_one_of_unknown() -> None:
    seen: list[bytes] = []

    async def script(client: Client) -> None:
        while True:
            head = await client.head()
            if b"transfer-encoding: chunked" in head.lower():
                body = await client.reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                body = await client.exactly(5)
            seen.append(body)
            await client.send(OK)

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        assert (await client.response(await client.ask("POST", body=b"hello", content_length="5")))[0] == 200
        assert (await client.response(await client.ask("POST", body=b"hello")))[0] == 200
        client.close()
    assert seen == [b"hello", b"5\r\nhello\r\n0\r\n\r\n"]


async def test_answers_without_a_body_end_with_their_head() -> None:
    async with serving(answering(b"HTTP/1.1 204 No Content\r\n\r\n"), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        status, fields, body = await client.response(await client.ask())
        assert (status, body, b"content-length" in fields) == (204, b"", False)
        client.close()


async def test_head() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4711\r\n\r\n"), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        status, fields, body = await client.response(await client.ask("HEAD"))
        assert (status, fields[b"content-length"], body) == (200, b"4711", b"")
        client.close()


async def test_interim_responses_and_trailers() -> None:
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n"
        b"2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n"
    )
    async with serving(answering(answer), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        id = await client.ask(te="trailers")
        status, _, body = await client.response(id)
        assert (status, body) == (200, b"ok")
        (interim,) = client.of(InformationalResponseReceived, id)
        assert (b"link", b"</a.css>") in interim.headers  # type: ignore[attr-defined]
        (trailers,) = client.of(TrailersReceived, id)
        assert trailers.headers == [(b"grpc-status", b"0")]  # type: ignore[attr-defined]
        client.close()


async def test_cookies_are_put_together_again() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, [*client.fields(), ("cookie", "a=1"), ("cookie", "b=2")], end_stream=True)
        await client.flush()
        await client.response(id)
        client.close()
    assert b"\r\ncookie: a=1; b=2\r\n" in heads[0]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(":method", "CONNECT"), (":authority", "app.test")], 405),
        ([(":method", "GET"), (":scheme", "https"), (":path", "/a b"), (":authority", "app.test")], 400),
        ([(":method", "GET"), (":scheme", "https"), (":path", "/#a"), (":authority", "app.test")], 400),
        ([(":method", "GET"), (":scheme", "https"), (":path", "a"), (":authority", "app.test")], 400),
        ([(":method", "G T"), (":scheme", "https"), (":path", "/"), (":authority", "app.test")], 400),
        ([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "user@app.test")], 400),
        ([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "app.test/x")], 400),
        ([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "nobody.test")], 404),
    ],
)
async def test_requests_that_are_refused_one_by_one(fields: list[tuple[str, str]], status: int) -> None:
    async with serving(answering(OK), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        client.conn.config.validate_outbound_headers = False
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, fields, end_stream=True)
        await client.flush()
        assert (await client.response(id))[0] == status
        assert (await client.response(await client.ask()))[0] == 200
        client.close()


async def test_a_head_that_is_too_large_is_refused_and_no_other() -> None:
    async with serving(answering(OK), **H2, max_request_head=8192) as (bench, _):
        client = await H2Client.to(bench.port)
        value = "x" * 3000
        for more in ({"x_one": value, "x_two": value, "x_three": value, "x_four": value, "x_five": value}, {}):
            for _ in range(2):
                status, _, _ = await client.response(await client.ask(**more))
                assert status == (431 if more else 200)
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields("POST", **{f"x_{number}": "y" * 15000 for number in range(3)}))
        await client.flush()
        assert (await client.response(id))[0] == 431
        assert await client.reset_code(id) == ErrorCodes.NO_ERROR
        assert (await client.response(await client.ask()))[0] == 200
        assert bench.plane.counters[Counter.UNREADABLE] == 3
        client.close()


async def test_trailers_that_are_too_large_reset_the_stream() -> None:
    async with serving(answering(OK), **H2, max_request_head=8192) as (bench, _):
        client = await H2Client.to(bench.port)
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields("POST"))
        client.conn.send_headers(id, [("x-large", "x" * 15000)], end_stream=True)
        await client.flush()
        assert await client.reset_code(id) == ErrorCodes.PROTOCOL_ERROR
        assert (await client.response(await client.ask()))[0] == 200
        client.close()


@pytest.mark.parametrize(
    "field",
    [
        ("x", "a\r\nb: c"),
        ("x", "a\0"),
        ("X", "upper"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
    ],
)
async def test_what_could_be_smuggled_never_reaches_a_backend(field: tuple[str, str]) -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        client.conn.config.validate_outbound_headers = False
        client.conn.config.normalize_outbound_headers = False
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, [*client.fields(), field], end_stream=True)
        await client.flush()
        while await client.more():
            if client.of(StreamEnded, id):
                assert (await client.response(id))[0] == 400
                break
        client.close()
    assert not heads


async def test_a_large_answer_to_a_client_with_a_small_window() -> None:
    async with serving(answering(LARGE), **H2) as (bench, _):
        client = await H2Client.to(bench.port, window=0)
        id = await client.ask()
        while len(client.bodies[id]) < 65535:
            await client.more()
        (frontend,) = bench.plane.frontends
        (stream,) = frontend.streams.values()  # type: ignore[union-attr]
        await until(lambda: stream.full)
        assert stream.out_size < 512 * 1024  # bounded, whatever the size of the answer
        client.automatic = True
        client.conn.increment_flow_control_window(BIG)
        client.conn.increment_flow_control_window(BIG, id)
        await client.flush()
        assert len((await client.response(id))[2]) == BIG
        client.close()


async def test_a_window_that_opens_by_a_byte_at_a_time() -> None:
    body = bytes(range(256)) * 300
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with serving(answering(answer), **H2) as (bench, _):
        client = await H2Client.to(bench.port, window=0)
        id = await client.ask()
        while len(client.bodies[id]) < 65535:
            await client.more()
        for more in [1] * 50 + [len(body) - 65535 - 50]:
            have = len(client.bodies[id])
            client.conn.increment_flow_control_window(more)
            client.conn.increment_flow_control_window(more, id)
            await client.flush()
            while len(client.bodies[id]) < have + more:
                await client.more()
        assert (await client.response(id))[2] == body
        client.close()


async def test_a_large_request_to_a_slow_backend_waits() -> None:
    read = asyncio.Event()

    async def script(client: Client) -> None:
        await client.head()
        await read.wait()
        await client.exactly(BIG)
        await client.send(OK)

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields("POST", content_length=str(BIG)))
        left = BIG
        while left:
            room = min(client.conn.local_flow_control_window(id), client.conn.max_outbound_frame_size, left)
            if room:
                client.conn.send_data(id, b"x" * room, end_stream=left == room)
                left -= room
                await client.flush()
            elif not read.is_set() and len(client.of(WindowUpdated, id)) > 0:
                read.set()
            else:
                read.set()
                await client.more()
        assert (await client.response(id))[0] == 200
        client.close()


async def test_readers_that_are_slow_hold_up_nobody_else_on_their_connection() -> None:
    go = asyncio.Event()

    async def script(client: Client) -> None:
        while True:
            if (await client.head()).startswith(b"POST"):
                await go.wait()
                await client.exactly(BIG)
            await client.send(OK)

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        slow = []
        for _ in range(12):  # together they could fill the window of the connection
            id = client.conn.get_next_available_stream_id()
            client.conn.send_headers(id, client.fields("POST", content_length=str(BIG)))
            slow.append(id)
        left = dict.fromkeys(slow, BIG)

        async def send() -> bool:
            moved = False
            for id in slow:
                room = min(client.conn.local_flow_control_window(id), client.conn.max_outbound_frame_size, left[id])
                if room:
                    client.conn.send_data(id, b"x" * room, end_stream=left[id] == room)
                    left[id] -= room
                    moved = True
            await client.flush()
            return moved

        while await send():  # as much as their own windows allow at once
            pass
        assert (await client.response(await client.ask()))[0] == 200
        go.set()
        while any(left.values()):
            if not await send():
                await client.more()
        for id in slow:
            assert (await client.response(id))[0] == 200
        client.close()


async def test_answers_take_turns_at_the_window_of_their_connection() -> None:
    async with serving(answering(LARGE), **H2) as (bench, _):
        client = await H2Client.to(bench.port, window=0)
        client.conn.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 4 * BIG})
        ids = [await client.ask() for _ in range(3)]
        for _ in range(12):
            while sum(len(client.bodies[id]) for id in ids) % 65535 or not client.bodies:
                await client.more()
            seen = sum(len(client.bodies[id]) for id in ids)
            client.conn.increment_flow_control_window(65535)
            await client.flush()
            while sum(len(client.bodies[id]) for id in ids) == seen:
                await client.more()
        assert min(len(client.bodies[id]) for id in ids) > 65535
        client.close()


@pytest.mark.parametrize("length", [4, 6])
async def test_a_body_of_another_length_than_it_should_have_reaches_no_backend_whole(length: int) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(client: Client) -> None:
        await client.head()
        asked.set()
        assert len(await client.reader.read()) < length
        gone.set()

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields("POST", content_length=str(length)))
        await client.flush()
        await asked.wait()
        client.conn.send_data(id, b"hello", end_stream=True)
        await client.flush()
        assert await client.reset_code(id) == ErrorCodes.PROTOCOL_ERROR
        async with asyncio.timeout(10):
            await gone.wait()
        client.close()


async def test_trailers_with_a_pseudo_header_reset_the_stream() -> None:
    async with serving(answering(OK), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        client.conn.config.validate_outbound_headers = False
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields("POST"))
        client.conn.send_headers(id, [(":path", "/other")], end_stream=True)
        await client.flush()
        assert await client.reset_code(id) == ErrorCodes.PROTOCOL_ERROR
        assert (await client.response(await client.ask()))[0] == 200
        client.close()


@pytest.mark.parametrize("path", ["/", "/nowhere"])
async def test_http_rewrite(path: str) -> None:
    rules = {
        "add_response_headers": (("X-Added", "1"), ("Server", "router")),
        "remove_response_headers": ("X-Powered-By", "X-Vcap-Request-Id", "X-Cf-RouterError"),
    }
    answer = b"HTTP/1.1 200 OK\r\nServer: app\r\nX-Powered-By: x\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answering(answer), **H2, **rules) as (bench, _):
        client = await H2Client.to(bench.port)
        status, fields, _ = await client.response(
            await client.ask() if path == "/" else await client.ask(host="nobody.test")
        )
        assert status == (200 if path == "/" else 404)
        assert fields[b"x-added"] == b"1"
        assert fields[b"server"] == (b"app" if path == "/" else b"router")
        assert not fields.keys() & {b"x-powered-by", b"x-vcap-request-id", b"x-cf-routererror"}
        client.close()


async def test_a_client_that_resets_takes_its_backend_request_with_it() -> None:
    gone = asyncio.Event()

    async def script(client: Client) -> None:
        await client.head()
        await client.reader.read()
        gone.set()

    async with serving(script, **H2) as (bench, backends):
        client = await H2Client.to(bench.port)
        id = await client.ask()
        await until(lambda: bool(backends[0].connections))
        client.conn.reset_stream(id, ErrorCodes.CANCEL)
        await client.flush()
        async with asyncio.timeout(10):
            await gone.wait()
        assert bench.plane.counters[Counter.CLIENT_GONE] == 1
        client.close()


async def test_a_backend_that_breaks_off_resets_the_stream() -> None:
    async def script(client: Client) -> None:
        await client.head()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        assert await client.reset_code(await client.ask()) == ErrorCodes.INTERNAL_ERROR
        client.close()


async def test_drain_says_goaway_and_answers_what_is_under_way() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def script(client: Client) -> None:
        await client.head()
        asked.set()
        await go.wait()
        await client.send(OK)

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        id = await client.ask()
        await asked.wait()
        stopping = asyncio.create_task(bench.plane.stop(10.0))
        while not client.last_streams:
            await client.more()
        late = await client.ask()  # it was on its way
        go.set()
        assert (await client.response(id))[0] == 200
        assert (await client.response(late))[0] == 200
        assert await client.end() == ErrorCodes.NO_ERROR
        assert client.last_streams == [2**31 - 1, late]
        await stopping


async def test_too_many_requests_at_once() -> None:
    async def script(client: Client) -> None:
        await client.reader.read()

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        while not client.events:
            await client.more()
        assert client.conn.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 128
        client.conn.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
        client.conn.remote_settings.acknowledge()
        for _ in range(129):
            await client.ask()
        assert await client.end() == ErrorCodes.PROTOCOL_ERROR


async def test_too_many_requests_of_a_client_that_could_not_know() -> None:
    async def script(client: Client) -> None:
        await client.reader.read()

    async with serving(script, **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        ids = [client.conn.get_next_available_stream_id() + 2 * number for number in range(130)]
        for id in ids:
            client.conn.send_headers(id, client.fields(), end_stream=True)
        await client.flush()
        for id in ids[128:]:
            assert await client.reset_code(id) == ErrorCodes.REFUSED_STREAM
        client.close()


# ---------------------------------------------------------------- floods: (what is sent, the code that ends it)


def frame(kind: Any, **about: Any) -> bytes:
    return kind(**about).serialize()  # type: ignore[no-any-return]


async def rapid_reset(client: H2Client) -> None:
    for _ in range(400):
        id = client.conn.get_next_available_stream_id()
        client.conn.send_headers(id, client.fields(), end_stream=True)
        client.conn.reset_stream(id, ErrorCodes.CANCEL)
    await client.flush()


async def pings(client: H2Client) -> None:
    await client.raw(frame(PingFrame, stream_id=0, opaque_data=b"12345678") * 1000)


async def settings(client: H2Client) -> None:
    await client.raw(frame(SettingsFrame, stream_id=0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}) * 300)


async def empty_data(client: H2Client) -> None:
    id = client.conn.get_next_available_stream_id()
    client.conn.send_headers(id, client.fields("POST"))
    await client.flush()
    await client.raw(frame(DataFrame, stream_id=id, data=b"") * 1000)


async def unknown(client: H2Client) -> None:
    await client.raw(b"\0\0\0\xee\0\0\0\0\0" * 2000)


async def on_closed_streams(client: H2Client) -> None:
    id = await client.ask()
    await client.response(id)
    await client.raw(frame(DataFrame, stream_id=id, data=b"x") * 300)


async def windows(client: H2Client) -> None:
    await client.response(await client.ask())
    await client.raw(WindowUpdateFrame(0, window_increment=1).serialize() * 1500)


async def windows_of_a_stream(client: H2Client) -> None:
    id = await client.ask()
    await client.raw(WindowUpdateFrame(id, window_increment=1).serialize() * 1500)


async def continuation(client: H2Client) -> None:
    block = client.conn.encoder.encode(client.fields())
    first = HeadersFrame(1, data=block)
    first.flags.add("END_STREAM")
    await client.raw(first.serialize() + frame(ContinuationFrame, stream_id=1, data=b"") * 200)


async def header_bomb(client: H2Client) -> None:
    value = "x" * 4000
    block = client.conn.encoder.encode([*client.fields(), ("x-bomb", value)])
    block += b"\xbe" * 500  # the same entry of the dynamic table, 500 times
    head = HeadersFrame(1, data=block)
    head.flags |= {"END_STREAM", "END_HEADERS"}
    await client.raw(head.serialize())


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        (rapid_reset, ErrorCodes.ENHANCE_YOUR_CALM),
        (pings, ErrorCodes.ENHANCE_YOUR_CALM),
        (settings, ErrorCodes.ENHANCE_YOUR_CALM),
        (empty_data, ErrorCodes.ENHANCE_YOUR_CALM),
        (unknown, ErrorCodes.ENHANCE_YOUR_CALM),
        (on_closed_streams, ErrorCodes.ENHANCE_YOUR_CALM),
        (windows, ErrorCodes.ENHANCE_YOUR_CALM),
        (windows_of_a_stream, ErrorCodes.ENHANCE_YOUR_CALM),
        (continuation, ErrorCodes.PROTOCOL_ERROR),
        (header_bomb, ErrorCodes.ENHANCE_YOUR_CALM),
    ],
)
async def test_floods_end_with_a_reason(flood: Any, code: ErrorCodes) -> None:
    async with serving(answering(OK), **H2) as (bench, _):
        client = await H2Client.to(bench.port)
        try:
            await flood(client)
        except ConnectionError:
            pass  # cut off in the middle of it
        assert await client.end() == code
        other = await H2Client.to(bench.port)
        assert (await other.response(await other.ask()))[0] == 200
        other.close()


async def dribble(client: H2Client) -> None:
    """Make us send a body in frames of one byte."""
    id = await client.ask()
    while len(client.bodies[id]) < 65535:
        await client.more()
    for _ in range(1000):
        client.conn.increment_flow_control_window(1)
        client.conn.increment_flow_control_window(1, id)
        await client.flush()


async def test_a_window_opened_by_crumbs_without_an_end_is_a_flood() -> None:
    async with serving(answering(LARGE), **H2) as (bench, _):
        client = await H2Client.to(bench.port, window=0)
        try:
            await dribble(client)
        except ConnectionError:
            pass
        assert await client.end() == ErrorCodes.ENHANCE_YOUR_CALM


async def test_a_download_whose_windows_are_opened_often_is_none() -> None:
    async with serving(answering(LARGE), **H2) as (bench, _):
        client = await H2Client.to(bench.port, window=0)
        id = await client.ask()
        seen = 0
        while seen < BIG:  # after every KB, both windows: 2,000 of them
            while len(client.bodies[id]) - seen < min(1024, BIG - seen):
                await client.more()
            step = len(client.bodies[id]) - seen
            seen += step
            for _ in range(0, step if seen < BIG else 0, 1024):
                client.conn.increment_flow_control_window(1024)
                client.conn.increment_flow_control_window(1024, id)
            await client.flush()
        assert (await client.response(id))[0] == 200
        client.close()


# ---------------------------------------------------------------- other people's clients


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(tmp_path: Any) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(certs.pem(certs.authority()))
    async with serving(answering(OK), **H2) as (bench, _):
        for version in ("--http2", "--http1.1"):
            process = await asyncio.create_subprocess_exec(
                *("curl", "-sS", version, "--cacert", str(authority), "-w", " %{http_version}"),
                *("--connect-to", f"app.test:443:127.0.0.1:{bench.port}", "https://app.test/"),
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await process.communicate()
            assert out.decode() == ("ok 2" if version == "--http2" else "ok 1.1")
