"""The commands that ask the running router, and those that speak on the bus: whole routers, a real NATS server."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from router.cli.doctor import skew_of
from router.cli.main import app
from router.control.app import Control
from router.control.bus.embedded import EmbeddedNats
from tests.support.processes import free_port
from tests.support.router import router
from tests.support.workers import TIMEOUT, backend, get


async def run(*arguments: str) -> Result:
    """A command, in a thread while the router serves here. Wide enough for every table."""
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, app, list(arguments), prog_name="router")


def at(control: Control) -> tuple[str, str]:
    return "--url", f"http://me:secret@127.0.0.1:{control.routes_port}"


def route(uri: str, *ports: int, **more: Any) -> dict[str, Any]:
    return {"uris": [uri], "endpoints": [{"host": "127.0.0.1", "port": port} for port in ports], **more}


@asynccontextmanager
async def nats_server():
    server = EmbeddedNats()
    await server.start()
    try:
        yield server
    finally:
        server.kill()


async def until(condition: Any) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


async def test_routes_of_one_host(tmp_path: Path) -> None:
    async with router(tmp_path, routes=[route("a.test/x", 81), route("b.test", 82)]) as control:
        assert "a.test/x" in (await run("routes", "-c", str(tmp_path / "router.yml"))).stdout
        told = await run("routes", "--host", "B.test", "--json", *at(control))
        assert list(json.loads(told.stdout)) == ["b.test"]
        told = await run("routes", "--host", "c.test", *at(control))
        assert told.exit_code == 1
        assert "c.test has no route; `router history c.test` may know why" in told.stderr


@pytest.mark.parametrize("workers", [0, 1])
async def test_explain_is_what_a_worker_would_do(tmp_path: Path, workers: int) -> None:
    async with backend(lambda head: head) as port:
        options = {"loadbalancing": "least-connection", "max_conns": 7}
        routes = [route("*.test/api", port, options=options)]
        async with router(tmp_path, routes=routes, workers=workers) as control:
            question = ("explain", "http://shop.test/api/x?y", "-H", "X-Request-Start: 1", "-H", "Connection: close")
            told = await run(*question, "--json", *at(control))
            report = json.loads(told.stdout)
            assert report["route"]["key"] == "*.test/api"
            assert report["route"]["why"] == (
                "*.test is the nearest wildcard that covers shop.test, and /api is the longest of its paths that "
                "leads there"
            )
            assert report["route"]["strategy"] == "least-connection"
            assert report["route"]["options"] == options
            assert report["picked"] == f"127.0.0.1:{port}"
            assert [(e["available"], e["picked"], e["source"]) for e in report["endpoints"]] == [(True, True, "file")]
            assert report["headers_removed"] == ["connection"]
            how = {header["name"]: header["how"] for header in report["headers"]}
            assert how["X-Forwarded-For"] == "added"
            assert how["X-Request-Start"] == "as it came"

            # The same lines reach the backend: ids and times apart.
            _, head = await get(control.port, "shop.test", "/api/x?y")
            sent = {line.partition(b":")[0].decode() for line in head.split(b"\r\n")[1:] if line}
            assert set(how) <= sent

            shown = await run("explain", "shop.test/api", *at(control))
            assert shown.exit_code == 0
            assert f"picked    127.0.0.1:{port}, by the strategy" in shown.stdout


async def test_explain_without_a_way(tmp_path: Path) -> None:
    dead = free_port()
    async with router(tmp_path, routes=[route("a.test", dead)], backends={"max_attempts": 1}) as control:
        assert (await get(control.port, "a.test"))[0] == 502
        report = json.loads((await run("explain", "a.test", "--json", *at(control))).stdout)
        (endpoint,) = report["endpoints"]
        assert endpoint["available"] is False
        assert endpoint["why"][0].startswith(f"failed: dial tcp 127.0.0.1:{dead}: connect: connection refused")
        assert report["picked"] == endpoint["address"]  # better a doubtful one than none
        told = await run("explain", "b.test", *at(control))
        assert told.exit_code == 1
        assert "Registered hosts that come near: a.test" in told.stdout
        assert "answer    404 by the router itself: unknown_route" in told.stdout
        told = await run("explain", "a.test", "-H", "no colon", *at(control))
        assert "'no colon' is no header, expected `Name: value`" in told.stderr
        told = await run("explain", "http://a b/", *at(control))
        assert told.exit_code == 1


async def test_register_unregister_and_history(tmp_path: Path) -> None:
    async with nats_server() as server, backend() as port:
        bus = {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}
        async with router(tmp_path, nats=bus) as control:
            await asyncio.wait_for(control.healthy(), TIMEOUT)
            file, here = str(tmp_path / "router.yml"), f"127.0.0.1:{port}"
            said = await run("register", here, "a.test/p", "--app", "shop", "--tag", "component=x", "-c", file)
            assert (said.exit_code, said.stderr) == (0, "")
            await until(lambda: len(control.registry))
            assert await get(control.port, "a.test", "/p") == (200, b"hello")
            await run("register", here, "a.test/p", "--app", "shop2", "--nats", f"nats://127.0.0.1:{server.port}")
            await until(lambda: len(control.registry.history.of("a.test")) == 2)
            said = await run("unregister", here, "a.test/p", "-c", file, "--json")
            assert json.loads(said.stdout) == {"host": "127.0.0.1", "port": port, "uris": ["a.test/p"]}
            await until(lambda: not len(control.registry))
            told = await run("history", "A.test", "--json", *at(control))
            events = json.loads(told.stdout)["events"]
            assert [(e["what"], e["route"], e["address"]) for e in events] == [
                ("registered", "a.test/p", here),
                ("changed", "a.test/p", here),
                ("unregistered", "a.test/p", here),
            ]
            assert events[0]["why"] == "over the bus: app shop"
            assert events[1]["why"].startswith("app: 'shop' → 'shop2'")
            assert "unregistered" in (await run("history", "a.test", *at(control))).stdout
            assert (await run("history", "other.test", *at(control))).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("register", "10.0.0.1", "a.test"), "10.0.0.1: expected HOST:PORT of the backend, such as 10.0.0.5:8080"),
        (("register", "10.0.0.1:99999", "a.test"), "expected HOST:PORT"),
        (("register", "h:1", "http://a"), "http://a: expected a host or host/path"),
        (("register", "h:1", "a.test", "--tag", "x"), "--tag x: expected NAME=VALUE"),
        (("register", "127.0.0.1:1", "a.test", "--nats", "10.9.9.9:4222"), "set `allow_loopback: true`"),
        (("register", "h:1", "a.test", "--nats", "127.0.0.1:1"), "can't be reached: Connection refused; name another"),
    ],
)
async def test_what_cannot_be_registered(arguments: tuple[str, ...], message: str) -> None:
    said = await run(*arguments)
    assert said.exit_code == 1
    assert said.stdout == ""
    assert said.stderr.startswith("router register: ")
    assert message in said.stderr


async def test_doctor(tmp_path: Path) -> None:
    async with router(tmp_path, routes=[route("a.test", 81)], frontend_idle_timeout="30s") as control:
        told = await run("doctor", *at(control))
        assert told.exit_code == 0
        assert "warning: frontend_idle_timeout is 30s" in told.stdout
        assert "  remedy: make it longer" in told.stdout
        found = json.loads((await run("doctor", "--json", *at(control))).stdout)["findings"]
        assert [finding["check"] for finding in found] == ["keep-alive"]


def test_clocks_that_differ() -> None:
    assert skew_of(100.5, 100.0, 101.0) == 0
    assert skew_of(90.0, 100.0, 101.0) == 10
    assert skew_of(111.0, 100.0, 101.0) == 10


async def test_who_is_not_let_in_and_who_is_not_there(tmp_path: Path) -> None:
    async with router(tmp_path) as control:
        told = await run("history", "a", "--url", f"http://me:wrong@127.0.0.1:{control.routes_port}")
        assert told.exit_code == 1
        assert "does not let us in, user or password is wrong: give status.user and status.pass" in told.stderr
        told = await run("history", "a", "--url", f"http://127.0.0.1:{control.routes_port}")
        assert "does not let us in, it wants user and password: give status.user and status.pass" in told.stderr
    for command in (("doctor",), ("explain", "a.test"), ("history", "a.test"), ("routes",)):
        told = await run(*command, "-c", str(tmp_path / "router.yml"))
        assert told.exit_code == 1
        assert "no router runs on port 0" in told.stderr
    told = await run("doctor", "--url", "http://127.0.0.1:1")
    assert "(Connection refused); is it the status port of a router?" in told.stderr
    told = await run("doctor", "--url", "ftp://x")
    assert "--url: expected http://USER:PASSWORD@HOST:PORT" in told.stderr
