"""Route services, with real ones over TLS (contract §10): there, back, and everything that must not pass."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from router.http.message import BadMessage
from router.http.signature import sign, signature_key
from router.messages import Explain, RouteServices
from router.proxy.explain import explain
from router.proxy.route_services import parse
from tests.support import certs
from tests.support.h2_client import H2Client
from tests.support.wire import OK, Backend, Bench, Client, Script, answering, request, serving, until

KEY = signature_key("secret")
OLD = signature_key("older")
ON = RouteServices(KEY, OLD, tls=certs.back())
WEBSOCKET = ("Connection: Upgrade", "Upgrade: websocket")
FORBIDDEN = b"Websocket requests are not supported for routes bound to Route Services."


def header(head: bytes, name: str) -> str:
    """Value of a header, empty if there is none."""
    for line in head.decode().split("\r\n")[1:]:
        key, _, value = line.partition(": ")
        if key.lower() == name.lower():
            return value
    return ""


def signed(url: str = "http://bound.test/", age: float = 0.0, key: bytes = KEY) -> list[str]:
    """The headers that a route service sends back."""
    signature, metadata = sign(key, url, int((time.time() - age) * 1e9))
    return [
        f"X-CF-Forwarded-Url: {url}",
        f"X-CF-Proxy-Signature: {signature.decode()}",
        f"X-CF-Proxy-Metadata: {metadata.decode()}",
    ]


@asynccontextmanager
async def bound(
    app: Script, service: Script | None, settings: RouteServices | None = ON, path: str = "/in?a=b", **other: Any
) -> AsyncIterator[tuple[Bench, Backend | None]]:
    """`bound.test` is an app with a route service, `app.test` the same app without. No service: nobody is there."""
    there = Backend(service or answering(OK), tls=certs.server(certs.issued("localhost")))
    await there.start()
    if service is None:
        await there.stop()
    try:
        async with serving(app, route_services=settings, **other) as (bench, (backend,)):
            bench.route("bound.test", backend.port, route_service_url=f"https://localhost:{there.port}{path}")
            yield bench, there if service is not None else None
            if bench.plane.route_services is not None and settings is not None:
                bench.plane.route_services.configure(settings)  # closes what is idle
    finally:
        if service is not None:
            await there.stop()


def passing_on(bench: list[Bench], heads: list[bytes]) -> Script:
    """A route service that sends every request on to where it says, and the answer back."""

    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            heads.append(head)
            body = await client.exactly(int(header(head, "Content-Length") or 0))
            onward = await Client.to(bench[0].port)
            url = header(head, "X-CF-Forwarded-Url")
            host, _, path = url.partition("://")[2].partition("/")
            first, _, rest = head.partition(b"\r\nHost: ")
            rest = rest.partition(b"\r\n")[2]
            method = first.split(b" ")[0]
            await onward.send(b"%b /%b HTTP/1.1\r\nHost: %b\r\n" % (method, path.encode(), host.encode()) + rest + body)
            _, answer, payload = await onward.response(method)
            onward.close()
            await client.send(answer + payload)

    return script


async def test_a_request_goes_through_the_route_service_to_the_app() -> None:
    heads: list[bytes] = []
    seen: list[bytes] = []
    way: list[Bench] = []
    async with bound(answering(OK, heads=seen, body=4), passing_on(way, heads)) as (bench, there):
        way.append(bench)
        client = await bench.client()
        for _ in range(2):
            lines = ("Content-Length: 4", "X-CF-Forwarded-Url: http://evil", "X-Own: 1")
            await client.send(request("Bound.test:80", "/path?q=1", *lines, method="POST"), b"body")
            assert (await client.response())[::2] == (200, b"ok")
        assert there is not None
        assert len(there.connections) == 1
        head = heads[0]
        assert head.startswith(b"POST /in?a=b HTTP/1.1\r\nHost: localhost:%d\r\n" % there.port)
        assert header(head, "X-CF-Forwarded-Url") == "http://Bound.test/path?q=1"
        assert head.lower().count(b"x-cf-forwarded-url:") == 1
        assert header(head, "X-Forwarded-For") == "127.0.0.1"
        assert header(head, "X-Own") == "1"
        assert not header(head, "X-CF-ApplicationID")
        app = seen[0]
        assert app.startswith(b"POST /path?q=1 HTTP/1.1\r\nHost: Bound.test\r\n")
        assert app.endswith(b"body")
        assert header(app, "X-CF-ApplicationID") == "app-guid"
        assert header(app, "X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
        for name in ("X-CF-Forwarded-Url", "X-CF-Proxy-Signature", "X-CF-Proxy-Metadata"):
            assert not header(app, name)


async def test_a_client_that_speaks_http_2() -> None:
    heads: list[bytes] = []
    way: list[Bench] = []
    front = {"listeners": ("https",), "front_tls": certs.front("bound.test", "app.test")}
    seen: list[bytes] = []
    async with bound(answering(OK, heads=seen), answering(OK, heads=heads), **front) as (bench, _):
        way.append(bench)
        client = await H2Client.to(bench.port)
        client.conn.send_headers(1, client.fields(host="bound.test", path="/x"), end_stream=True)
        await client.flush()
        assert (await client.response(1))[::2] == (200, b"ok")
        assert header(heads[0], "X-CF-Forwarded-Url") == "http://bound.test/x"
        assert not seen
        back = client.fields(host="bound.test", path="/x")
        for line in signed("https://bound.test/x"):
            name, _, value = line.partition(": ")
            back.append((name.lower(), value))
        client.conn.send_headers(3, back, end_stream=True)
        await client.flush()
        assert (await client.response(3))[::2] == (200, b"ok")
        assert len(seen) == 1
        client.close()


async def test_nothing_goes_around_without_a_secret() -> None:
    seen: list[bytes] = []
    async with bound(answering(OK, heads=seen), answering(OK), None) as (bench, _):
        client = await bench.client()
        for lines in ((), signed()):
            status, head, body = await client.get("bound.test", "/", *lines)
            assert (status, header(head, "X-Cf-RouterError")) == (502, "route_service_unsupported")
            assert b"Support for route services is disabled." in body
    assert not seen


@pytest.mark.parametrize("row", range(7))
async def test_who_comes_back(row: int) -> None:
    """What is signed, the status, what the client reads (contract §6 rows 12, 13, §10.4)."""
    failed = "Failed to validate Route Service Signature: "
    lines, status, text = [
        (signed(), 200, "ok"),
        (signed(key=OLD), 200, "ok"),
        (signed("http://bound.test/other/path?x", age=-600), 200, "ok"),
        (signed(age=61), 504, failed + "route service request expired"),
        (signed()[:2], 502, failed + "No metadata found"),
        (
            signed("http://app.test/"),
            502,
            failed + "route service forwarded URL bound.test/ does not match the original request URL http://app.test/",
        ),
        (signed("http://gone.test/x"), 502, failed + "original request URL http://gone.test/x does not exist in the"),
    ][row]
    seen: list[bytes] = []
    away: list[bytes] = []
    async with bound(answering(OK, heads=seen), answering(OK, heads=away)) as (bench, _):
        client = await bench.client()
        got, head, body = await client.get("bound.test", "/", *lines)
        assert got == status
        assert text in body.decode()
        assert not header(head, "X-Cf-RouterError")
        assert ("signature-validation-failed" in bench.log.names()) is (status != 200)
        assert len(seen) == (status == 200)
        assert not away


@pytest.mark.parametrize(
    ("strict", "made", "status", "error"),
    [
        (False, partial(signed, key=signature_key("x")), 200, ""),
        (True, partial(signed, key=signature_key("x")), 400, "invalid_route_service_signature"),
        (True, partial(signed, age=61), 504, "expired_route_service_signature"),
        (True, signed, 200, ""),
    ],
)
async def test_a_signature_on_a_route_without_a_service(
    strict: bool, made: Callable[[], list[str]], status: int, error: str
) -> None:
    """Contract §10.5: it reaches the backend untouched."""
    lines = made()
    seen: list[bytes] = []
    settings = RouteServices(KEY, strict=strict, tls=certs.back())
    async with bound(answering(OK, heads=seen), answering(OK), settings) as (bench, _):
        client = await bench.client()
        got, head, _ = await client.get("app.test", "/", *lines)
        assert (got, header(head, "X-Cf-RouterError")) == (status, error)
        if status == 200:
            assert all(line.encode() in seen[0] for line in lines)


async def test_a_service_that_is_down() -> None:
    async with bound(answering(OK), None, RouteServices(KEY, max_attempts=3, tls=certs.back())) as (bench, _):
        client = await bench.client()
        status, head, body = await client.get("bound.test")
        assert (status, body) == (502, b"502 Bad Gateway: Registered endpoint failed to handle the request.\n")
        assert "connect: connection refused" in header(head, "X-Cf-RouterError")
        assert bench.log.names().count("route-service-connection-failed") == 3
        assert (await client.get("app.test"))[0] == 200, "no backend is blamed for it"


async def test_a_service_nobody_vouches_for() -> None:
    for verify, status in ((True, 526), (False, 200)):
        tls = certs.back(authorities="", verify=verify)
        async with bound(answering(OK), answering(OK), RouteServices(KEY, tls=tls)) as (bench, _):
            assert (await (await bench.client()).get("bound.test"))[0] == status


async def test_what_a_service_says_itself_passes() -> None:
    no = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"
    async with bound(answering(OK), answering(no)) as (bench, there):
        assert there is not None
        assert (await (await bench.client()).get("bound.test"))[::2] == (401, b"no")
        assert bench.log.events[-1] == (
            "route-service-response",
            {"route-service-endpoint": f"localhost:{there.port}", "status-code": 401},
        )


async def test_a_url_that_is_none() -> None:
    async with serving(answering(OK), route_services=ON) as (bench, (backend,)):
        bench.route("bound.test", backend.port, route_service_url="https:///path")
        status, _, body = await (await bench.client()).get("bound.test")
        assert (status, body) == (500, b"500 Internal Server Error: Route service request failed.\n")


@pytest.mark.parametrize("url", ["https://", "https:///x", "http://a/", "https://a b/", "https://u@a/", "https://a:x/"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises((ValueError, BadMessage)):
        parse(url)


async def test_a_websocket_is_refused_unless_wanted() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    for wanted in (False, True):
        settings = RouteServices(KEY, websockets=wanted, tls=certs.back())
        async with bound(answering(OK), answering(switch), settings) as (bench, _):
            client = await bench.client()
            await client.send(request("bound.test", "/", *WEBSOCKET))
            if wanted:
                assert (await client.head()).startswith(b"HTTP/1.1 101")
                assert await client.exactly(5) == b"hello"
            else:
                status, head, body = await client.response()
                assert (status, header(head, "X-Cf-RouterError")) == (503, "route_service_unsupported")
                assert FORBIDDEN in body


async def test_a_websocket_that_comes_back_reaches_the_app() -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    settings = RouteServices(KEY, websockets=True, tls=certs.back())
    seen: list[bytes] = []
    async with bound(answering(switch, heads=seen), answering(OK), settings) as (bench, _):
        client = await bench.client()
        await client.send(request("bound.test", "/", *WEBSOCKET, *signed()))
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        assert await client.exactly(5) == b"hello"
        assert not header(seen[0], "X-CF-Proxy-Signature")
        # Signed, but not for this route: the tunnel must not open.
        other = await bench.client()
        await other.send(request("bound.test", "/", *WEBSOCKET, *signed("http://app.test/")))
        assert (await other.response())[0] == 502
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("settings", "lines", "proto"),
    [
        ({"sanitize_forwarded_proto": True}, ["X-Forwarded-Proto: https"], "https"),
        ({"force_forwarded_proto_https": True}, ["X-Forwarded-Proto: http"], "http"),
        ({"sanitize_forwarded_proto": True}, [], "http"),
    ],
)
async def test_forwarded_proto_of_who_comes_back(settings: dict[str, Any], lines: list[str], proto: str) -> None:
    """Contract §5.3: as it was when the request first came."""
    seen: list[bytes] = []
    async with bound(answering(OK, heads=seen), answering(OK), **settings) as (bench, _):
        assert (await (await bench.client()).get("bound.test", "/", *signed(), *lines))[0] == 200
        assert header(seen[0], "X-Forwarded-Proto") == proto


@pytest.mark.parametrize(
    ("mode", "secure", "passes"),
    [
        ("always_forward", False, True),
        ("forward", True, False),
        ("sanitize_set", True, True),
        ("sanitize_set", False, False),
    ],
)
async def test_forwarded_client_cert_of_who_comes_back(mode: str, secure: bool, passes: bool) -> None:
    """Contract §9.3, last column."""
    seen: list[bytes] = []
    settings: dict[str, Any] = {"forwarded_client_cert": mode}
    if secure:
        settings |= {"listeners": ("https",), "front_tls": certs.front()}
    async with bound(answering(OK, heads=seen), answering(OK), **settings) as (bench, _):
        client = await bench.client(certs.client() if secure else None)
        assert (await client.get("bound.test", "/", "X-Forwarded-Client-Cert: abc", *signed()))[0] == 200
        assert header(seen[0], "X-Forwarded-Client-Cert") == ("abc" if passes else "")


async def test_explained_and_the_signature_not_given_away() -> None:
    async with bound(answering(OK), answering(OK)) as (bench, there):
        assert there is not None
        head = b"GET /x HTTP/1.1\r\nHost: bound.test\r\n\r\n"
        report = explain(bench.plane, Explain(1, "10.0.0.1", False, head))
        assert report["route"]["key"] == "bound.test"
        assert report["route_service"] == f"https://localhost:{there.port}/in?a=b"
        assert report["picked"] == f"localhost:{there.port}"
        assert "Signature" not in str(report["headers"])


# ---------------------------------------------------------------- a route service that is a route of ours


INTERNAL = RouteServices(KEY, internal=True, tls=certs.back())


@asynccontextmanager
async def within(
    app: Script, service: Script, settings: RouteServices = INTERNAL, **other: Any
) -> AsyncIterator[Bench]:
    async with serving(app, service, route_services=settings, **other) as (bench, (one, two)):
        bench.route("bound.test", one.port, route_service_url="https://rs.apps.test/in?a=b")
        bench.route("rs.apps.test", two.port, app="the-service")
        yield bench


async def test_a_service_of_our_own_is_served_within_the_worker() -> None:
    heads: list[bytes] = []
    way: list[Bench] = []
    seen: list[bytes] = []
    async with within(answering(OK, heads=seen, body=4), passing_on(way, heads)) as bench:
        way.append(bench)
        client = await bench.client()
        await client.send(request("bound.test", "/path", "Content-Length: 4", method="POST"), b"body")
        assert (await client.response())[::2] == (200, b"ok")
        head = heads[0]
        assert head.startswith(b"POST /in?a=b HTTP/1.1\r\nHost: rs.apps.test\r\n")
        assert header(head, "X-Forwarded-For") == "127.0.0.1, 127.0.0.1"
        assert header(head, "X-CF-ApplicationID") == "the-service"
        assert header(head, "X-CF-Forwarded-Url") == "http://bound.test/path"
        assert seen[0].endswith(b"body")
        assert not bench.plane.route_services.hairpins  # type: ignore[union-attr]


async def test_bodies_without_a_known_length_within_the_worker() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = 1 << 22

    async def script(client: Client) -> None:
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        got = b""
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += await client.reader.read(1 << 16)
        await client.send(chunked)
        await client.send(b"%x\r\n" % size, b"x" * size, b"\r\n0\r\n\r\n")

    async with within(answering(OK), script) as bench:
        client = await bench.client()
        await client.send(request("bound.test", "/", "Transfer-Encoding: chunked", method="POST"))
        await client.send(b"10000\r\n", b"y" * 0x10000, b"\r\n0\r\n\r\n")
        status, _, body = await client.response()
        assert (status, len(body)) == (200, size)


async def test_a_client_that_leaves_takes_both_requests_with_it() -> None:
    async def silent(client: Client) -> None:
        await client.rest()

    async with within(answering(OK), silent) as bench:
        client = await bench.client()
        await client.send(request("bound.test"))
        await until(lambda: len(bench.plane.backends) == 1)
        assert len(bench.plane.route_services.hairpins) == 1  # type: ignore[union-attr]
        client.reset()
        await until(lambda: not bench.plane.backends)
        assert not bench.plane.route_services.hairpins  # type: ignore[union-attr]


async def test_a_service_of_our_own_that_is_cut_off_in_its_answer() -> None:
    async def script(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with within(answering(OK), script) as bench:
        client = await bench.client()
        await client.send(request("bound.test"))
        assert (await client.rest()).endswith(b"half")


async def test_errors_of_the_way_within() -> None:
    async with serving(answering(OK), route_services=INTERNAL) as (bench, (one,)):
        bench.route("bound.test", one.port, route_service_url="https://rs.apps.test/")
        bench.route("rs.apps.test", 1)
        client = await bench.client()
        status, head, _ = await client.get("bound.test")
        assert (status, "connection refused" in header(head, "X-Cf-RouterError")) == (502, True)
        assert (await client.get("bound.test", "/", *WEBSOCKET))[0] == 503
        # A service bound to a route that is itself bound to it: one turn, and an end.
        bench.route("loop.test", one.port, route_service_url="https://loop.apps.test/")
        bench.route("loop.apps.test", one.port, route_service_url="https://loop.test/")
        assert (await client.get("loop.test"))[0] == 502


@pytest.mark.parametrize(
    ("allowed", "internal"),
    [((), True), (("rs.apps.test",), True), (("*.apps.test",), True), (("*.test",), False), (("other.test",), False)],
)
async def test_which_services_are_served_within(allowed: tuple[str, ...], internal: bool) -> None:
    settings = RouteServices(KEY, internal=True, internal_hosts=allowed, tls=certs.back())
    async with within(answering(OK), answering(OK), settings) as bench:
        services = bench.plane.route_services
        assert services is not None
        assert services._is_internal("https://rs.apps.test/in") is internal
        assert not services._is_internal("https://elsewhere.test/")
