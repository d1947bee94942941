"""Request bodies on their way to a backend: framing, trailers, repetition (contract §5.2, §7.2; RFC 9112 §6, §7)."""

from __future__ import annotations

import pytest

from router.messages import DropRoute
from tests.proxy.test_failures import port_of_nobody
from tests.support.wire import OK, Client, request, serving

CHUNKED = request("app.test", "/", "Transfer-Encoding: chunked", "Trailer: X-Sum", method="POST")

BODIES = [
    ("no body", request(method="POST"), b"Content-Length: 0\r\n", b""),
    ("length", request("app.test", "/", "Content-Length: 5", method="PUT") + b"hello", b"Content-Length: 5", b"hello"),
    ("chunked", CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ("chunked, empty", CHUNKED + b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
    (
        "chunked, extensions, trailers (RFC 9110 §6.5.1)",
        CHUNKED + b'5;a="b"\r\nhello\r\n0;last\r\nX-Sum: 1\r\nHost: evil\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n',
        b"Trailer: X-Sum\r\n",
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("name", "sent", "line", "body"), BODIES, ids=[row[0] for row in BODIES])
async def test_a_body_arrives_in_one_framing_also_when_it_is_repeated(
    name: str, sent: bytes, line: bytes, body: bytes
) -> None:
    async def script(client: Client) -> None:
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert line in head
            assert await client.reader.readexactly(len(body)) == body
            await client.send(OK)

    async with serving(script, max_attempts=3) as (bench, (backend,)):
        bench.route("app.test", port_of_nobody())
        client = await bench.client()
        for _ in range(2):  # one of the two is repeated on the second endpoint
            await client.send(sent)
            assert (await client.response())[0] == 200
        assert len(backend.connections) == 1


async def test_a_route_with_a_route_service_is_never_served_without_it() -> None:
    """Contract §10.1: without the feature 502, row 10; one endpoint of several that asks for it is enough."""
    async with serving() as (bench, _):
        bench.route("app.test", port_of_nobody())
        bench.route("app.test", port_of_nobody(), route_service_url="https://service.test/")
        client = await bench.client()
        status, head, body = await client.get()
        assert (status, b"X-Cf-RouterError: route_service_unsupported\r\n" in head) == (502, True)
        assert body == b"502 Bad Gateway: Support for route services is disabled.\n"
        assert not any(endpoint.connections for endpoint in bench.plane.table.endpoints.values())
        bench.plane.table.apply([DropRoute("app.test", 2)])
        assert (await client.get())[1].find(b"connection refused") > 0  # none asks for it any more: plain proxying
