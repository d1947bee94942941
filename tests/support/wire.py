"""Raw ends of the wire: a data plane in this process, a scripted backend, a client that sends and reads bytes.

What a test says is what goes over the wire. Nothing here interprets more HTTP than it must to find a message's end.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from router import in_flight
from router.in_flight import InFlight
from router.messages import EndpointSpec, PutEndpoint, PutPool, PutRoute, WorkerSettings
from router.observe.log import Log
from router.proxy.plane import Plane

TIMEOUT = 10.0
STRATEGIES = {
    "round-robin": "router.balance.round_robin:RoundRobin",
    "least-connection": "router.balance.least_connection:LeastConnection",
}


class RecordingLog(Log):
    """Keeps events instead of writing them."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        super().__init__("router", "debug")
        self.events: list[tuple[str, dict[str, Any]]] = []

    def _write(self, level: int, event: str, data: dict[str, Any]) -> None:
        self.events.append((event, data))

    def names(self) -> list[str]:
        return [event for event, _ in self.events]


class Client:
    """A client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int, tls: ssl.SSLContext | None = None, name: str = "app.test") -> Client:
        options = {"ssl": tls, "server_hostname": name} if tls is not None else {}
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 26, **options))

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def head(self) -> bytes:
        """Bytes up to the next empty line."""
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything until the peer closes; a reset counts as an end."""
        async with asyncio.timeout(TIMEOUT):
            data = b""
            try:
                while piece := await self.reader.read(1 << 16):
                    data += piece
            except ConnectionResetError:
                pass
            return data

    async def response(self, method: bytes = b"GET") -> tuple[int, bytes, bytes]:
        """Status, head and payload of the next final response."""
        while True:
            head = await self.head()
            status = int(head[9:12])
            if status >= 200:
                break
        if method == b"HEAD" or status in (204, 304):
            return status, head, b""
        if b"transfer-encoding: chunked" in head.lower():
            body = b""
            while True:
                async with asyncio.timeout(TIMEOUT):
                    size = int(await self.reader.readuntil(b"\r\n"), 16)
                if not size:
                    while (await self.reader.readuntil(b"\r\n")) != b"\r\n":
                        pass
                    return status, head, body
                body += (await self.exactly(size + 2))[:-2]
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        return status, head, await self.exactly(int(length[1])) if length else await self.rest()

    async def get(self, host: str = "app.test", path: str = "/", *lines: str) -> tuple[int, bytes, bytes]:
        await self.send(request(host, path, *lines))
        return await self.response()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """End the connection as a crash would."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


def request(host: str = "app.test", path: str = "/", *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode()


Script = Callable[[Client], Awaitable[None]]


class Backend:
    """A server whose every connection runs `script`; connections are counted, and end with the script."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        self.connections: list[Client] = []
        self.heads: list[bytes] = []
        self.changed = asyncio.Event()
        self.port = 0
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=1 << 26, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self.connections:
            connection.writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        self.connections.append(client)
        self._note()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(client)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _note(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


def answering(*answers: bytes, heads: list[bytes] | None = None, body: int = 0) -> Script:
    """A script that reads a head (and `body` bytes) and gives the next answer; the last one repeats."""

    async def script(client: Client) -> None:
        number = 0
        while True:
            head = await client.reader.readuntil(b"\r\n\r\n")
            data = await client.reader.readexactly(body) if body else b""
            if heads is not None:
                heads.append(head + data)
            await client.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


OK = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"


class Bench:
    """A data plane and what is around it."""

    def __init__(self, plane: Plane, port: int, log: RecordingLog) -> None:
        self.plane = plane
        self.port = port
        self.log = log
        self._next = 1
        self._clients: list[Client] = []

    def route(
        self, key: str, *ports: int, algorithm: str = "round-robin", host: str = "127.0.0.1", **spec: Any
    ) -> None:
        """Register endpoints on these ports for a route key."""
        self.plane.table.apply([PutPool(key, "/", algorithm)])
        for number, port in enumerate(ports):
            about = {"app": "app-guid", "instance_id": f"instance-{number}", "instance_index": str(number), **spec}
            endpoint = EndpointSpec(host, port, **about)
            self.plane.table.apply([PutEndpoint.of(self._next, self._next, endpoint), PutRoute(key, self._next)])
            self._next += 1

    async def client(self, tls: ssl.SSLContext | None = None, name: str = "app.test") -> Client:
        client = await Client.to(self.port, tls, name)
        self._clients.append(client)
        return client

    async def quiet(self) -> None:
        """Wait until nothing is under way; then nothing may be left over."""
        for client in self._clients:
            client.close()
        await until(lambda: not self.plane.frontends and not self.plane.tunnels)
        await until(lambda: not any(self.plane.own_lane[:64]))
        for endpoint in self.plane.table.endpoints.values():
            if endpoint.connections is not None:
                endpoint.connections.close()
        await until(lambda: not self.plane.backends)


async def until(predicate: Callable[[], bool]) -> None:
    """Wait for something that happens in this loop."""
    async with asyncio.timeout(TIMEOUT):
        while not predicate():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(*scripts: Script, **settings: Any) -> AsyncIterator[tuple[Bench, list[Backend]]]:
    """A data plane with the route `app.test` to one backend per script. Checks that nothing leaks at the end."""
    loop = asyncio.get_running_loop()
    fd = in_flight.create(1024)
    log = RecordingLog()
    plane = Plane(loop, InFlight(fd), log)
    plane.configure(WorkerSettings(**{"strategies": STRATEGIES, **settings}))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        await plane.listen([sock])
        bench = Bench(plane, sock.getsockname()[1], log)
        backends = [Backend(script) for script in scripts]
        for backend in backends:
            await backend.start()
        if backends:
            bench.route("app.test", *(backend.port for backend in backends))
        try:
            yield bench, backends
            await bench.quiet()
        finally:
            await plane.stop(0)
            for backend in backends:
                await backend.stop()
