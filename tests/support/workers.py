"""For tests that run real workers: a log that can be waited on, a backend, a client, and what else control has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from router.messages import (
    EndpointSpec,
    HealthState,
    PutEndpoint,
    PutPool,
    PutRoute,
    Setup,
    Stats,
    TableOp,
    WorkerSettings,
)

TIMEOUT = 20.0
"""Seconds after which a test gives up on what it waits for."""

Event = tuple[str, dict[str, Any]]


class EventLog:
    """A log that keeps what it is told. `wait_for` returns when an event has come, also one from before."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def _take(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        self._changed.set()

    debug = info = warn = error = _take

    def tell(self, event: str, make: Any, *about: Any) -> None:
        self._take(event, **make(*about))

    def of(self, event: str) -> list[dict[str, Any]]:
        """The fields of every such event so far."""
        return [fields for name, fields in self.events if name == event]

    async def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The fields of the event that makes `count` of its kind."""
        async with asyncio.timeout(TIMEOUT):
            while len(found := self.of(event)) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[count - 1]


class FakeOffice:
    """The rest of control, as the keeper sees it."""

    def __init__(self, run_dir: str, workers: int, capacity: int, settings: WorkerSettings) -> None:
        self.health = HealthState(True)
        self.stats: list[tuple[int, Stats]] = []
        self.asked: list[str] = []
        self._setup = (capacity, run_dir, settings)

    def setup_for(self, slot: int, lane: int, lanes: list[int]) -> Setup:
        return Setup(1, slot, lane, lanes, *self._setup)

    def stats_received(self, slot: int, stats: Stats) -> None:
        self.stats.append((slot, stats))

    def worker_gone(self, slot: int) -> None:
        pass

    def hints_for(self, host: str) -> list[str]:
        self.asked.append(host)
        return [f"no {host} here"]

    def workers_changed(self) -> None:
        pass


def route(key: str, port: int, number: int = 1) -> list[TableOp]:
    """The operations that route `key` to a backend on the loopback interface."""
    return [
        PutEndpoint.of(number, number, EndpointSpec("127.0.0.1", port)),
        PutPool(key, "/", "round-robin"),
        PutRoute(key, number),
    ]


@asynccontextmanager
async def backend(
    answer: Callable[[bytes], bytes] = lambda head: b"hello",
) -> AsyncIterator[int]:
    """An HTTP server whose bodies are what `answer` makes of request heads; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = answer(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def get(port: int, host: str, path: str = "/") -> tuple[int, bytes]:
    """Status and body of one GET on a connection of its own."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    return int(head.split(b" ", 2)[1]), body
