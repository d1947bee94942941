"""Active health checks: which routes, which results, and what workers are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from router.config.backends import HealthCheck
from router.control.health_checks import HealthChecks, Target, _names
from router.control.local import LocalKeeper
from router.messages import DropEndpoint, DropPool, DropRoute, EndpointSpec, PutEndpoint, PutRoute, SetHealth, TableOp
from tests.support.router import loaded, router
from tests.support.wire import TIMEOUT, RecordingLog, until

NAMES = [
    # routes of the check, a route's key, does it hold
    ([], "a.com", True),
    (["a.com"], "a.com", True),
    (["A.com/"], "a.com", True),
    (["a.com"], "b.a.com", False),
    (["a.com"], "a.com/path", False),
    (["a.com/path"], "a.com/path", True),
    (["*.a.com"], "b.a.com", True),
    (["*.a.com"], "b.a.com/path", True),
    (["*.a.com"], "a.com", False),
    (["*.a.com"], "*.a.com", True),
    (["x.com", "a.com"], "a.com", True),
]


@pytest.mark.parametrize(("routes", "key", "holds"), NAMES)
def test_which_routes_a_check_is_for(routes: list[str], key: str, holds: bool) -> None:
    assert _names(HealthCheck(routes=routes), key) is holds


def test_results_change_a_state_when_they_are_enough() -> None:
    target = Target(EndpointSpec("h", 1), HealthCheck(unhealthy_after=3, healthy_after=2))
    told = [target.result("" if well else "no") for well in (1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1)]
    assert [number for number, changed in enumerate(told) if changed] == [6, 11]


class Backend:
    """An HTTP server that answers checks as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []

    async def __aenter__(self) -> Backend:
        async def answer(request: web.Request) -> web.Response:
            self.asked.append((request.path, request.headers.get("Host")))
            return web.Response(status=self.status)

        self._runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def check(**settings: object) -> HealthCheck:
    return HealthCheck(**{"interval": 0.02, "timeout": 5.0, "unhealthy_after": 1, "healthy_after": 1, **settings})  # type: ignore[arg-type]


async def test_workers_hear_of_changes_for_every_route_and_newcomers_of_what_stands() -> None:
    told: list[TableOp] = []
    async with Backend() as backend:
        checks = HealthChecks([check(type="http", path="/up")], told.extend, RecordingLog())
        spec = EndpointSpec("127.0.0.1", backend.port)
        checks.apply([PutEndpoint.of(7, 1, spec), PutRoute("a.com", 7), PutRoute("b.com", 7)])
        try:
            await until(lambda: len(backend.asked) >= 2)
            assert backend.asked[0] == ("/up", "a.com")
            assert not told
            backend.status = 503
            reason = "a check was answered with 503"
            await until(lambda: bool(told))
            assert told == [SetHealth("a.com", 7, reason), SetHealth("b.com", 7, reason)]
            assert sorted(checks.standing(), key=lambda op: op.key) == told  # type: ignore[union-attr]
            told.clear()
            # Another registration of the same address is no news about its health.
            checks.apply([PutEndpoint.of(8, 1, EndpointSpec("127.0.0.1", backend.port, app="x"))])
            checks.apply([PutRoute("a.com", 8, 7), DropRoute("b.com", 7), DropEndpoint(7)])
            assert told == [SetHealth("a.com", 8, reason)]
            told.clear()
            backend.status = 200
            await until(lambda: bool(told))
            assert told == [SetHealth("a.com", 8, "")]
            assert not list(checks.standing())
            checks.apply([DropPool("a.com")])
            assert not checks._targets
        finally:
            await checks.stop()


async def test_other_checks_after_a_reload() -> None:
    told: list[TableOp] = []
    async with Backend() as backend:
        backend.status = 503
        reason = "a check was answered with 503"
        table: list[TableOp] = [PutEndpoint.of(7, 1, EndpointSpec("127.0.0.1", backend.port))]
        table += [PutRoute("a.com", 7), PutRoute("b.com", 7)]
        stays = check(type="http", path="/a", routes=["a.com"])
        goes = check(type="http", path="/b", routes=["b.com"])
        checks = HealthChecks([], told.extend, RecordingLog())
        try:
            checks.apply(table)
            checks.reconfigure([goes, stays], table)
            await until(lambda: len(told) == 2)
            told.clear()
            checks.reconfigure([stays], table)
            assert told == [SetHealth("a.com", 7, reason), SetHealth("b.com", 7, "")]
            told.clear()
            asked = len(backend.asked)
            await until(lambda: len(backend.asked) > asked + 2)
            assert {path for path, _ in backend.asked[asked + 1 :]} == {"/a"}
            checks.reconfigure([check(type="http", path="/other")], table)
            assert told == [SetHealth("a.com", 7, "")]
            checks.reconfigure([], table)
            assert not checks._targets
        finally:
            await checks.stop()


@pytest.mark.parametrize(("kind", "reason"), [("tcp", "check failed: "), ("http", "check failed: ")])
async def test_a_closed_port_is_found_out(kind: str, reason: str) -> None:
    told: list[TableOp] = []
    async with Backend() as backend:
        port = backend.port
    checks = HealthChecks([check(type=kind)], told.extend, RecordingLog())
    checks.apply([PutEndpoint.of(1, 1, EndpointSpec("127.0.0.1", port)), PutRoute("a.com", 1)])
    try:
        await until(lambda: bool(told))
        assert isinstance(told[0], SetHealth)
        assert told[0].reason.startswith(reason)
    finally:
        await checks.stop()


async def test_silence_is_no_answer() -> None:
    told: list[TableOp] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    checks = HealthChecks([check(type="http", timeout=0.05)], told.extend, RecordingLog())
    spec = EndpointSpec("127.0.0.1", server.sockets[0].getsockname()[1])
    checks.apply([PutEndpoint.of(1, 1, spec), PutRoute("a.com", 1)])
    try:
        await until(lambda: bool(told))
        assert told == [SetHealth("a.com", 1, "no answer to a check within 0.05 s")]
    finally:
        await checks.stop()
        server.close()


async def test_from_the_configuration_to_the_worker(tmp_path: Path) -> None:
    async with Backend() as one, Backend() as two:
        one.status = 500
        endpoints = [{"host": "127.0.0.1", "port": backend.port} for backend in (one, two)]
        config = {
            "nats": None,
            "workers": 0,
            "routes": [{"name": "a", "uris": ["a.com"], "endpoints": endpoints}],
            "backends": {"health_checks": [{"type": "http", "interval": "20ms", "unhealthy_after": 1}]},
        }
        async with router(tmp_path, **config) as control:
            assert isinstance(control.keeper, LocalKeeper)
            plane = control.keeper.worker.plane
            assert plane is not None
            first, second = plane.table.pools["a.com"].endpoints
            await until(lambda: first.state == ("unhealthy", "a check was answered with 500"))
            assert (first.available, second.available) == (False, True)
            one.status = 204
            async with asyncio.timeout(TIMEOUT):
                await until(lambda: first.state[0] == "in")
            config["backends"]["health_checks"][0]["path"] = "/other"  # type: ignore[index]
            await control.reload(loaded(tmp_path, **config))
            await until(lambda: ("/other", "a.com") in two.asked)
