"""A real router process with a real NATS: what it promises its users."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import free_port
from tests.support.routers import RouterProcess, nats_server, party, router, running, until
from tests.support.wire import Client
from tests.support.workers import backend

HOSTS = [f"app-{number}.test" for number in range(50)]


async def test_a_plain_client_of_nats_makes_and_unmakes_a_route(tmp_path: Path) -> None:
    async with running(tmp_path) as (r, other), backend(lambda head: head) as port:
        status, head, body = await r.get("my.app")
        assert status == 404
        assert b"x-cf-routererror: unknown_route" in head.lower()
        assert b"'my.app'" in body
        await other.say("register", port, "My.App/", "other.app/path", app="guid", private_instance_id="i")
        await r.answers("my.app", 200)
        status, _, received = await r.get("MY.APP:80", "/where?to=1")
        assert status == 200
        assert received.startswith(b"GET /where?to=1 HTTP/1.1\r\n")
        assert b"X-CF-InstanceID: i\r\n" in received
        assert (await r.get("other.app", "/path/on"))[0] == 200
        assert (await r.get("other.app", "/elsewhere"))[0] == 404
        await other.say("unregister", port, "my.app")
        await r.answers("my.app", 404)
        assert (await r.get("other.app", "/path"))[0] == 200


async def test_unregistered_and_registered_again_in_one_breath_it_stays(tmp_path: Path) -> None:
    async with running(tmp_path) as (r, other), backend() as port:
        await other.say("register", port, "a.test")
        await r.answers("a.test", 200)
        for _ in range(20):
            for subject in ("unregister", "register"):
                await other.client.publish(
                    f"router.{subject}", json.dumps({"host": "127.0.0.1", "port": port, "uris": ["a.test"]}).encode()
                )
        await other.say("register", port, "last.test")
        await r.answers("last.test", 200)
        assert (await r.get("a.test"))[0] == 200


async def test_bad_requests_and_backends_that_are_down_have_their_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as (r, other):
        client = await Client.to(r.port)
        await client.send(b"NONSENSE\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        client = await Client.to(r.port)
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.rest()
        assert b" 400 " in answer.splitlines()[0]
        assert b"empty_host" in answer
        await other.say("register", free_port(), "down.test")
        await r.answers("down.test", 502)
        assert b"X-Cf-RouterError: endpoint_failure (" in (await r.get("down.test"))[1]
        assert await r.health() == (200, "ok\n")


async def test_an_orderly_stop(tmp_path: Path) -> None:
    async with running(tmp_path, workers=2) as (r, _):
        workers = r.workers()
        assert len(workers) == 2
        r.process.terminate()
        assert await asyncio.wait_for(r.process.wait(), 20) == 0
        assert not any(worker.alive for worker in workers)


# ---------------------------------------------------------------- kill -9


class Load:
    """Clients that ask without a pause, each over one connection as long as that lasts."""

    def __init__(self, r: RouterProcess) -> None:
        self.r = r
        self.answered = [0] * 8
        self.wrong: list[int] = []
        self.failed = [0] * 8
        """Connections that were lost, by client."""

    async def client(self, number: int) -> None:
        while True:
            client = await Client.to(self.r.port)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    status, _, _ = await client.get(HOSTS[self.answered[number] % len(HOSTS)])
                    if status != 200:
                        self.wrong.append(status)
                    self.answered[number] += 1
            self.failed[number] += 1
            client.close()

    async def goes_on(self) -> None:
        """Return when every client has had answers for every host, from now on."""
        wanted = [answered + len(HOSTS) for answered in self.answered]
        await until(lambda: all(now >= then for now, then in zip(self.answered, wanted, strict=True)))


@asynccontextmanager
async def under_load(tmp_path: Path, workers: int) -> AsyncIterator[tuple[RouterProcess, Any, Load, int]]:
    async with running(tmp_path, workers=workers) as (r, other), backend() as port:
        await other.say("register", port, *HOSTS)
        await r.answers(HOSTS[-1], 200)
        load = Load(r)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(load.client(number)) for number in range(8)]
            try:
                await load.goes_on()
                yield r, other, load, port
            finally:
                for task in tasks:
                    task.cancel()


async def test_a_killed_worker_costs_what_was_in_flight_on_it_and_nothing_else(tmp_path: Path) -> None:
    async with under_load(tmp_path, workers=2) as (r, _, load, _):
        first, second = r.workers()
        os.kill(first.pid, signal.SIGKILL)
        await r.logged("worker-started", 3)
        await load.goes_on()
        assert load.wrong == []  # the new worker never lacked a route
        assert max(load.failed) <= 1  # only connections to the killed worker, each once
        assert [worker.pid for worker in r.workers() if worker.alive].count(second.pid) == 1


async def test_a_killed_control_costs_nothing_and_the_next_takes_up_where_it_was(tmp_path: Path) -> None:
    async with under_load(tmp_path, workers=2) as (r, other, load, port):
        before = r.workers()
        r.process.kill()
        await r.process.wait()
        await r.logged("control-lost", 2)
        await load.goes_on()
        await r.start()
        await r.logged("router.started", 2)
        assert r.events("table-taken-over") == [{"routes": len(HOSTS)}]
        assert r.workers() == before
        assert all(worker.alive for worker in before)
        await load.goes_on()
        assert (load.wrong, sum(load.failed)) == ([], 0)
        await other.say("register", port, "new.test")
        await r.answers("new.test", 200)
        await other.say("unregister", port, "new.test")
        await r.answers("new.test", 404)
        os.kill(before[0].pid, signal.SIGKILL)  # the new control looks after workers that it did not start
        await r.logged("worker-started", 3)
        await load.goes_on()
        assert load.wrong == []


# ---------------------------------------------------------------- without the bus


async def test_nats_down_at_the_start(tmp_path: Path) -> None:
    port = free_port()
    async with router(tmp_path, port) as r, backend() as app:
        tried = await r.logged("nats-connection-still-disconnected")
        assert tried["servers"] == f"nats://127.0.0.1:{port}"
        await r.logged("serving-without-nats")
        await r.logged("router.started")
        status, why = await r.health()
        assert status == 503
        assert why.startswith("not connected to NATS since ")
        assert (await r.get("a.test", "/", "User-Agent: HTTP-Monitor/1.1"))[0] == 503
        assert (await r.get("a.test"))[0] == 404
        async with nats_server(port) as server, party(server) as other:
            await r.logged("Successfully-connected-to-nats")
            await other.say("register", app, "a.test")
            await r.answers("a.test", 200)
            assert await r.health() == (200, "ok\n")
        # The bus goes again: what is known stays known.
        await r.logged("nats-connection-disconnected")
        assert await r.health() == (200, "ok\n")
        assert (await r.get("a.test"))[0] == 200


# ---------------------------------------------------------------- bad configuration


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"prot": 80}, ["prot", "did you mean", "port"]),
        ({"port": 70000}, ["port", "70000"]),
        ({"balancing_algorithm": "dice"}, ["balancing_algorithm", "dice", "round-robin"]),
        ({"nats": {"hosts": [{"hostname": "x", "port": "y"}]}}, ["nats.hosts", "y"]),
        ({"workers": 33}, ["workers", "32"]),
    ],
)
async def test_a_bad_configuration_is_reported_and_starts_nothing(
    tmp_path: Path, config: dict[str, Any], words: list[str]
) -> None:
    async with router(tmp_path, 4222, **config) as r:
        assert await asyncio.wait_for(r.process.wait(), 20) == 1
        said = (tmp_path / "output").read_text()
        assert [word for word in words if word not in said] == []
        assert "Traceback" not in said
        assert r.workers() == []


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with router(tmp_path, 4222, port=port) as r:
        assert await asyncio.wait_for(r.process.wait(), 20) == 1
        said = (tmp_path / "output").read_text()
        assert f"port: {port} is in use" in said
        assert "Traceback" not in said
    server.close()


# ---------------------------------------------------------------- what a worker is made of


TELL_TALE = """
import atexit, os, sys
atexit.register(lambda: open(f"{os.path.dirname(__file__)}/{os.getpid()}", "w").write(" ".join(sys.modules)))
"""


async def test_a_worker_that_has_served_has_loaded_nothing_that_it_need_not(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELL_TALE)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    async with running(tmp_path, environment={"PYTHONPATH": path}) as (r, other), backend() as port:
        await other.say("register", port, "a.test")
        await r.answers("a.test", 200)
        (worker,) = r.workers()
        r.process.terminate()
        await asyncio.wait_for(r.process.wait(), 20)
    of_worker, of_control = (set((tmp_path / str(pid)).read_text().split()) for pid in (worker.pid, r.process.pid))
    heavy = {"aiohttp", "nats", "pydantic", "rich", "typer", "yaml", "click", "cryptography"}
    assert heavy & of_worker == set()
    assert {"aiohttp", "nats", "pydantic"} <= of_control  # so the tell-tale tells
