"""`python -m bench.websocket`: what an echoed WebSocket message costs in the proxy, in this router and in its peers.

Client and backend are one uvloop process on the load's cores: 64 tunnels, each sends a masked frame, waits for its
echo, and sends the next. The backend echoes frames as they are; a proxy looks at no byte of them.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Annotated

import typer
import uvloop

from . import machine
from .__main__ import known, start_all
from .accounting import cpu_of
from .errors import BenchError
from .processes import Cores
from .proxies import BASIS, PROXIES
from .proxies.base import Running
from .scenarios import HOST

DEFAULT_PROXIES = ["router", BASIS, "haproxy+log"]
TUNNELS, PAYLOAD = 64, 128
START_SECONDS = 10.0
FRAME = b"\x82" + (bytes([0x80 | 126]) + PAYLOAD.to_bytes(2, "big")) + os.urandom(4 + PAYLOAD)
OPEN = (
    f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
OPENED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Echo(asyncio.Protocol):
    """The backend: 101 for /ws, 200 for anything else; after a 101 what comes goes back."""

    def __init__(self) -> None:
        self._open = False
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._open:
            self._transport.write(data)
            return
        self._data += data
        head, found, early = self._data.partition(b"\r\n\r\n")
        if found:
            self._data = b""
            self._open = head.startswith(b"GET /ws ")
            self._transport.write(OPENED + early if self._open else OK)


class Client(asyncio.Protocol):
    """One tunnel: a frame out, its echo in, over and over."""

    def __init__(self, tally: list[int]) -> None:
        self._tally = tally
        self._left = 0
        self.opened = False
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(OPEN)

    def data_received(self, data: bytes) -> None:
        if not self.opened:
            self._data += data
            head, found, _ = self._data.partition(b"\r\n\r\n")
            if found:
                self.opened = head.startswith(b"HTTP/1.1 101 ")
                self._next()
            return
        self._left -= len(data)
        if self._left <= 0:
            self._tally[0] += 1
            self._next()

    def _next(self) -> None:
        self._left = len(FRAME)
        self.transport.write(FRAME)


@contextmanager
def echo_server() -> Iterator[int]:
    """The backend, in a thread with a loop of its own; gives its port."""
    loop = uvloop.new_event_loop()
    ports: list[int] = []
    ready = Event()

    async def serve() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    Thread(target=run, daemon=True).start()
    if not ready.wait(START_SECONDS):
        raise BenchError("the echo server did not start")
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)


async def echoes(running: Running, seconds: float) -> tuple[int, float]:
    """Messages echoed through a proxy, and microseconds of its CPU for each."""
    tally = [0]
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for _ in range(TUNNELS):
        _, client = await loop.create_connection(lambda: Client(tally), "127.0.0.1", running.port)
        clients.append(client)
    await asyncio.sleep(1.0)
    if not all(client.opened for client in clients):
        raise BenchError("a tunnel was not opened")
    workers = running.data_plane()
    before, begun = cpu_of(workers), tally[0]
    await asyncio.sleep(seconds)
    spent, count = cpu_of(workers) - before, tally[0] - begun
    for client in clients:
        client.transport.abort()
    if not count:
        raise BenchError("no message came back")
    return count, spent.total * 1e6 / count


def main(
    proxy: Annotated[list[str], typer.Option(help=f"One of: {', '.join(PROXIES)}.")] = DEFAULT_PROXIES,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Times each run is repeated.")] = 3,
    seconds: Annotated[int, typer.Option(min=1, max=600, help="Length of a run.")] = 2,
) -> None:
    """Measure what an echoed WebSocket message costs."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    names = known(PROXIES, proxy)
    cores = Cores.of_this_machine()
    facts = machine.facts()
    os.sched_setaffinity(0, cores.load)  # for this thread, and for that of the echo server
    runs: dict[str, list[tuple[int, float]]] = {}
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-bench-")))
            started = start_all(names, stack.enter_context(echo_server()), directory, cores, stack)
            for _ in range(rounds):
                for name, running in started.items():
                    runs.setdefault(name, []).append(uvloop.run(echoes(running, seconds)))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    print(", ".join(f"{name} {value}" for name, value in facts.items()) + f"; medians of {rounds} rounds.\n")
    print(f"**websocket**: {PAYLOAD}-byte messages echoed, {TUNNELS} tunnels\n")
    print(f"| proxy | messages/s | CPU µs/message | range | × {BASIS} |\n|---|---:|---:|---:|---:|")
    basis = median(cost for _, cost in runs[BASIS]) if BASIS in runs else 0.0
    for name, group in runs.items():
        costs = [cost for _, cost in group]
        rate = median(count for count, _ in group) / seconds
        ratio = f"{median(costs) / basis:.2f}" if basis else ""
        print(f"| {name} | {rate:,.0f} | {median(costs):.1f} | {min(costs):.1f}–{max(costs):.1f} | {ratio} |")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.websocket")
