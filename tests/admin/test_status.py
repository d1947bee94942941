"""The status server over HTTP (contract §11.1, §11.2)."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.admin.ports import Ports, StatusError, port_of
from router.admin.status import ALIVE, StatusServer
from router.messages import EndpointSpec, RouteOptions
from tests.support.wire import Client

RIGHT = "Basic " + b64encode(b"u:p").decode()
ROUTES = [
    ("a.com", [EndpointSpec("10.0.0.1", 80, tags=(("component", "c"),), instance_id="inst1")]),
    (
        'b.com/"x',
        [
            EndpointSpec(
                "10.0.0.2",
                443,
                tls=True,
                protocol="http2",
                app="app",
                instance_index="1",
                server_cert_domain_san="san",
                isolation_segment="seg",
                availability_zone="z1",
                route_service_url="https://rs",
                options=RouteOptions(asked="dice"),
                stale_after=30,
            ),
            EndpointSpec("10.0.0.3", 80),
        ],
    ),
    ("empty.com", []),
]


class House:
    def __init__(self, deprecated: bool) -> None:
        self.reason = ""
        self.routes = ROUTES
        self.port = self.routes_port = 0
        self.server = StatusServer(
            health=lambda: self.reason,
            varz=lambda: {"b": 1, "a": 2},
            routes=lambda: iter(self.routes),
            credentials=("u", "p"),
            deprecated=deprecated,
        )

    async def ask(self, path: str, authorization: str = "", port: int = 0, method: str = "GET") -> tuple[int, str, str]:
        """Status, head in lower case, body."""
        client = await Client.to(port or self.port)
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: x",
            *([f"Authorization: {authorization}"] if authorization else []),
        ]
        await client.send("\r\n".join([*lines, "", ""]).encode())
        status, head, body = await client.response(method.encode())
        client.close()
        return status, head.decode().lower(), body.decode()


@asynccontextmanager
async def house(deprecated: bool = False) -> AsyncIterator[House]:
    made = House(deprecated)
    ports = Ports("127.0.0.1", 0, 0)
    made.port, made.routes_port = port_of(ports.status), port_of(ports.routes)
    await made.server.start(ports)
    try:
        yield made
    finally:
        await made.server.stop()


@pytest.mark.parametrize("deprecated", [False, True])
async def test_health(deprecated: bool) -> None:
    async with house(deprecated) as h:
        for path in ("/health", "/healthz"):
            status, head, body = await h.ask(path)
            assert (status, body) == (200, "ok\n")
            assert "cache-control: private, max-age=0\r\n" in head
            assert "\r\nexpires: 0\r\n" in head
        h.reason = "not connected to NATS"
        status, head, body = await h.ask("/health", method="POST")
        assert (status, body) == (503, "not connected to NATS\n")
        assert "cache-control: private, max-age=0\r\n" in head
        assert (await h.ask("/readyz"))[0] == 503
        assert (await h.ask("/healthz"))[0] == (503 if deprecated else 200)  # alive, which is all that it says


@pytest.mark.parametrize(("deprecated", "status"), [(False, 200), (True, 404)])
async def test_is_process_alive(deprecated: bool, status: int) -> None:
    async with house(deprecated) as h:
        h.reason = "unwell"
        assert (await h.ask(ALIVE))[0] == status


@pytest.mark.parametrize("path", ["/varz", "/routes"])
@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (RIGHT, 200),
        ("", 401),
        ("Basic", 401),
        ("Basic !!!", 401),
        ("Basic " + b64encode(b"u").decode(), 401),
        ("Basic " + b64encode(b"u:").decode(), 401),
        ("Basic " + b64encode(b":p").decode(), 401),
        ("Basic " + b64encode(b"u:P").decode(), 401),
        ("Basic " + b64encode("u:ü".encode()).decode(), 401),
        (RIGHT.lower(), 401),
        ("Bearer p", 401),
    ],
)
async def test_what_shows_figures_and_routes_needs_the_password(path: str, authorization: str, status: int) -> None:
    async with house() as h:
        got, head, body = await h.ask(path, authorization)
        assert got == status
        assert "content-type: application/json" in head if status == 200 else body == "401 Unauthorized\n"
        assert ("www-authenticate: basic\r\n" in head) == (status == 401)


@pytest.mark.parametrize(
    ("deprecated", "on_routes", "authorization", "status"),
    [
        (False, False, "", 404),
        (True, False, "", 401),
        (True, False, RIGHT, 404),
        (False, True, "", 401),
        (False, True, RIGHT, 404),
    ],
)
async def test_unknown_paths(deprecated: bool, on_routes: bool, authorization: str, status: int) -> None:
    async with house(deprecated) as h:
        port = h.routes_port if on_routes else h.port
        got, _, body = await h.ask("/nothing", authorization, port)
        assert got == status
        assert body == ("404 page not found\n" if status == 404 else "401 Unauthorized\n")


async def test_routes() -> None:
    async with house() as h:
        for port in (h.port, h.routes_port):
            status, head, body = await h.ask("/routes", RIGHT, port)
            assert status == 200
            assert "connection: close\r\n" in head
            assert body == (
                '{"a.com":[{"address":"10.0.0.1:80","availability_zone":"","protocol":"http1","tls":false,"ttl":120,'
                '"tags":{"component":"c"},"private_instance_id":"inst1"}],'
                '"b.com/\\"x":[{"address":"10.0.0.2:443","availability_zone":"z1","protocol":"http2","tls":true,'
                '"ttl":30,"route_service_url":"https://rs","tags":null,"isolation_segment":"seg",'
                '"server_cert_domain_san":"san","load_balancing_algorithm":"dice"},'
                '{"address":"10.0.0.3:80","availability_zone":"","protocol":"http1","tls":false,"ttl":120,"tags":null}],'
                '"empty.com":[]}\n'
            )


async def test_tables_of_any_size_are_one_object() -> None:
    async with house() as h:
        h.routes = [(f"{number:05}.com", [EndpointSpec("10.0.0.1", 80)]) for number in range(1501)]
        _, _, body = await h.ask("/routes", RIGHT)
        assert list(json.loads(body)) == [key for key, _ in h.routes]
        h.routes = []
        assert (await h.ask("/routes", RIGHT))[2] == "{}\n"


async def test_varz_is_sorted() -> None:
    async with house() as h:
        assert (await h.ask("/varz", RIGHT))[2] == '{"a":2,"b":1}\n'


async def test_a_port_in_use_is_named_with_its_key() -> None:
    taken: Any = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    for ports, key in (((port, 0), "status.port"), ((0, port), "status.routes.port")):
        with pytest.raises(StatusError, match=f"{key}: port {port} on 127.0.0.1 is in use") as caught:
            Ports("127.0.0.1", *ports)
        assert f"set `{key}` to another port" in str(caught.value)
    taken.close()
