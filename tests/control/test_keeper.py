"""Real worker processes: they start, serve, die and are replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from router import in_flight
from router.control import keeper as keeper_module
from router.control import processes
from router.control.feed import Feed
from router.control.keeper import Keeper
from router.control.sockets import Address, Listeners
from router.in_flight import InFlight
from router.messages import HealthState, WorkerSettings
from tests.support.workers import EventLog, FakeOffice, backend, get, route

CAPACITY = 2048
SETTINGS = WorkerSettings(strategies={"round-robin": "router.balance.round_robin:RoundRobin"})


@dataclass
class House:
    """A keeper with all it needs."""

    keeper: Keeper
    log: EventLog
    office: FakeOffice
    feed: Feed
    in_flight: InFlight
    port: int
    table: list

    def pids(self) -> list[int]:
        return [state.pid for state in self.keeper.states()]

    async def serve(self, port: int) -> None:
        """Have workers in all seats accept connections, for `a.com` with this port."""
        self.table += route("a.com", port)
        self.keeper.start()
        await self.keeper.begin(10)


@asynccontextmanager
async def house(tmp_path: Path, workers: int = 1) -> AsyncIterator[House]:
    """A house with `workers` seats, empty so far."""
    loop = asyncio.get_running_loop()
    log = EventLog()
    listeners = Listeners(Address(socket.AF_INET, "127.0.0.1", 0))
    listeners.bind(workers)
    block = in_flight.create(CAPACITY)
    lanes = InFlight(block, workers=workers)
    office = FakeOffice(str(tmp_path), workers, CAPACITY, SETTINGS)
    table: list = []
    feed = Feed(loop, lambda: table)
    keeper = Keeper(loop, log, office, feed, lanes, [listeners], workers)
    try:
        yield House(keeper, log, office, feed, lanes, listeners.address.port, table)
    finally:
        await keeper.stop(0.1)
        os.close(block)


async def test_a_worker_starts_and_serves_only_when_told(tmp_path: Path) -> None:
    async with house(tmp_path) as h, backend() as port:
        h.table += route("a.com", port)
        h.keeper.start()
        started = await h.log.wait_for("worker-started")
        assert started["pid"] in h.pids()
        with pytest.raises(ConnectionRefusedError):
            await get(h.port, "a.com")
        assert await h.keeper.begin(10)
        assert await get(h.port, "a.com") == (200, b"hello")


async def test_changes_of_the_table_arrive(tmp_path: Path) -> None:
    async with house(tmp_path) as h, backend() as port:
        h.keeper.start()
        await h.keeper.begin(10)
        assert (await get(h.port, "a.com"))[0] == 404
        h.feed.publish(route("a.com", port))
        h.feed.broadcast(HealthState(True))
        while (await get(h.port, "a.com"))[0] != 200:
            pass
        assert await get(h.port, "a.com") == (200, b"hello")


async def test_a_killed_worker_is_back_at_once_with_the_whole_table(tmp_path: Path) -> None:
    async with house(tmp_path) as h, backend() as port:
        await h.serve(port)
        (first,) = h.pids()
        os.kill(first, signal.SIGKILL)
        # Nobody accepts just now; the connection waits for the next worker and is never refused.
        assert await get(h.port, "a.com") == (200, b"hello")
        assert h.log.of("worker-exited") == [
            {
                "slot": 0,
                "pid": first,
                "how": "killed by SIGKILL",
                "lived": pytest.approx(0.5, abs=5),
            }
        ]
        assert h.pids() != [first]


async def test_counts_of_a_dead_worker_are_forgotten(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with house(tmp_path) as h:
        await h.serve(server.sockets[0].getsockname()[1])
        _, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a.com\r\n\r\n")
        async with asyncio.timeout(10):
            while h.in_flight.total(1) != 1:
                await asyncio.sleep(0)
        os.kill(h.pids()[0], signal.SIGKILL)
        await h.log.wait_for("worker-exited")
        assert h.in_flight.slot_idle(1)
        writer.close()
    release.set()
    server.close()


async def test_a_frozen_worker_is_killed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "SILENCE", 1.6)
    async with house(tmp_path) as h:
        h.keeper.start()
        await h.keeper.begin(10)
        (frozen,) = h.pids()
        os.kill(frozen, signal.SIGSTOP)
        assert (await h.log.wait_for("worker-killed"))["pid"] == frozen
        await h.log.wait_for("worker-started", 2)
        assert (await get(h.port, "a.com"))[0] == 404


async def test_a_worker_that_keeps_dying_is_started_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_python_path", lambda: str(tmp_path))
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "__init__.py").touch()
    (tmp_path / "router" / "worker.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(keeper_module, "FIRST_DELAY", 0.05)
    async with house(tmp_path) as h:
        h.keeper.start()
        await h.log.wait_for("worker-crash-loop", 3)
        assert [fields["how"] for fields in h.log.of("worker-exited")][:4] == ["exited with status 3"] * 4
        delays = [fields["next_try_in"] for fields in h.log.of("worker-crash-loop")]
        assert delays[:3] == [0.05, 0.1, 0.2]


async def test_a_worker_without_a_word_of_its_own_is_not_needed_to_stop(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.keeper.start()
        await h.keeper.begin(10)
        pids = h.pids()
        os.kill(pids[0], signal.SIGSTOP)
        await h.keeper.stop(0.1)
        assert [Path(f"/proc/{pid}").exists() for pid in pids] == [False]


async def test_figures_come_every_second(tmp_path: Path) -> None:
    async with house(tmp_path) as h, backend() as port:
        await h.serve(port)
        await get(h.port, "a.com")
        async with asyncio.timeout(10):
            while not any(sum(stats.counters) for _, stats in h.office.stats):
                await asyncio.sleep(0.01)


async def test_several_workers_share_the_port(tmp_path: Path) -> None:
    async with house(tmp_path, workers=3) as h:
        h.keeper.start()
        assert await h.keeper.begin(10) == 3
        assert len(set(h.pids())) == 3
        for _ in range(20):
            assert (await get(h.port, "a.com"))[0] == 404


async def test_signals_to_the_whole_group_leave_workers_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.keeper.start()
        await h.keeper.begin(10)
        (pid,) = h.pids()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pid, number)
        assert (await get(h.port, "a.com"))[0] == 404
        assert h.pids() == [pid]


async def test_workers_are_replaced_without_a_gap(tmp_path: Path) -> None:
    async with house(tmp_path, 2) as h, backend() as port:
        await h.serve(port)
        before = h.pids()
        asking = True
        answers: list[int] = []

        async def ask() -> None:
            while asking:
                answers.append((await get(h.port, "a.com"))[0])

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        assert await h.keeper.replace_all(5.0)
        await h.log.wait_for("worker-left", 2)
        asking = False
        await asyncio.gather(*clients)
        assert set(answers) == {200}
        assert len(h.pids()) == 2
        assert not set(before) & set(h.pids())


async def test_a_worker_that_is_asked_to_go_waits_for_its_successor(tmp_path: Path) -> None:
    async with house(tmp_path) as h, backend() as port:
        await h.serve(port)
        (before,) = h.pids()
        os.kill(before, signal.SIGTERM)
        await h.log.wait_for("worker-left")
        assert await get(h.port, "a.com") == (200, b"hello")
        assert h.pids() != [before]
        assert h.keeper.leaving == 0
        assert not h.log.of("worker-exited")


async def test_a_worker_without_a_successor_stays_until_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h, backend() as port:
        await h.serve(port)
        with monkeypatch.context() as patch:
            patch.setattr("router.control.processes.sys.executable", "/bin/false")
            os.kill(h.pids()[0], signal.SIGTERM)
            await h.log.wait_for("worker-not-replaced")
            assert await get(h.port, "a.com") == (200, b"hello")
        os.kill(h.pids()[0], signal.SIGTERM)
        await h.log.wait_for("worker-exited")
        await h.log.wait_for("worker-started", 2)
        assert await get(h.port, "a.com") == (200, b"hello")


async def test_a_websocket_outlives_the_replacement_of_its_worker(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with house(tmp_path) as h:
        await h.serve(server.sockets[0].getsockname()[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", h.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert await h.keeper.replace_all(60.0)
        assert h.keeper.leaving == 1
        assert len(h.in_flight.lanes) == 2
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()
        await h.log.wait_for("worker-left")
        assert h.keeper.leaving == 0
        assert not h.log.of("worker-exited")
    server.close()


async def test_a_stop_while_a_successor_starts_loses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\ntouch {tmp_path}/started\nread -r _ <{tmp_path}/go\nexec {sys.executable} "$@"\n')
    slow.chmod(0o700)
    os.mkfifo(tmp_path / "go")
    async with house(tmp_path) as h, backend() as port:
        await h.serve(port)
        answers: list[int] = []

        async def ask() -> None:
            with suppress(ConnectionRefusedError):
                while True:
                    answers.append((await get(h.port, "a.com"))[0])

        monkeypatch.setattr("router.control.processes.sys.executable", str(slow))
        replacing = asyncio.create_task(h.keeper.replace_all(5.0))
        while not (tmp_path / "started").exists():
            await asyncio.sleep(0.002)
        clients = [asyncio.create_task(ask()) for _ in range(4)]
        assert await h.keeper.stop(5.0)
        await asyncio.gather(*clients)
        assert not await replacing
        assert set(answers) == {200}
        assert not h.log.of("worker-not-replaced")


async def test_a_successor_that_cannot_start_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as h, backend() as port:
        await h.serve(port)
        before = h.pids()
        monkeypatch.setattr("router.control.processes.sys.executable", "/bin/false")
        assert not await h.keeper.replace_all(5.0)
        assert await get(h.port, "a.com") == (200, b"hello")
        assert before[0] in h.pids()
