"""`python -m bench.health`: what clients notice of backends that die, err, or stop answering.

A router with two workers and its default settings, routes from its configuration, backends and clients in this process.
Requests are sent at a fixed rate whatever becomes of those before (open loop), each with a connection of its own or one
left over; so nothing is hidden by a client that waits.

- One backend of five dies, another answers 500 to everything; later both are well again.
- One of three accepts and never answers, clients give up after 2 s.
- All of three close every connection without an answer: how many attempts that makes of the requests.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from .errors import BenchError
from .processes import Cores, free_port, server, wait_until_listening
from .proxies.router import ROOT
from .scenarios import HOST

WORKERS = 2
PATIENCE = 2.0
"""Seconds after which a client gives up."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad"
REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


class Backend:
    """A backend whose health is set from here: `ok`, `error`, `silent` or `closing`; `stop` kills it."""

    def __init__(self) -> None:
        self.port = 0
        self.mode = "ok"
        self.requests = 0
        self.first_good = 0.0
        """When it first answered well since it was healed (set to 0 then)."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: the port is closed, every connection reset or ended."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                if self.mode == "closing":
                    return
                if self.mode == "silent":
                    await reader.read()
                    return
                if self.mode == "ok" and not self.first_good:
                    self.first_good = time.monotonic()
                writer.write(OK if self.mode == "ok" else ERROR)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Clients:
    """Sends requests at a rate, and remembers how each went: (when it was sent, whether it was answered well)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.results: list[tuple[float, bool]] = []
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, rate: float, seconds: float) -> None:
        """So many requests a second, for so long; returns when all are over."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                delay = began + number / rate - time.monotonic()
                if delay > 0:
                    await asyncio.sleep(delay)
                group.create_task(self._one())

    async def _one(self) -> None:
        sent = time.monotonic()
        connection = self._idle.pop() if self._idle else None
        try:
            async with asyncio.timeout(PATIENCE):
                if connection is None:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                reader, writer = connection
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.results.append((sent, False))
            if connection is not None:
                connection[1].transport.abort()
            return
        self.results.append((sent, b" 200 " in head[:16]))
        self._idle.append(connection)

    def lost(self, since: float, until: float) -> tuple[int, int]:
        """Requests sent in this time that failed, and all."""
        chosen = [good for sent, good in self.results if since <= sent < until]
        return len(chosen) - sum(chosen), len(chosen)


@asynccontextmanager
async def routed(count: int, algorithm: str) -> AsyncIterator[tuple[list[Backend], Clients]]:
    """A router in front of so many backends."""
    backends = [Backend() for _ in range(count)]
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="router-bench-") as name:
        directory, port = Path(name), free_port()
        for each in backends:
            await each.start()
        endpoints = [{"host": "127.0.0.1", "port": each.port} for each in backends]
        settings = {
            "port": port,
            "inet": "127.0.0.1",
            "workers": WORKERS,
            "run_dir": name,
            "nats": None,
            "balancing_algorithm": algorithm,
            "status": {"port": free_port(), "routes": {"port": free_port()}},
            "logging": {"level": "warn"},
            "routes": [{"name": "bench", "uris": [HOST], "endpoints": endpoints}],
        }
        (directory / "router.yml").write_text(json.dumps(settings))
        argv = [sys.executable, "-m", "router.cli.main", "run", "-c", str(directory / "router.yml")]
        output = directory / "router.out"
        with server(argv, cores.proxy, output, {"PYTHONPATH": str(ROOT)}) as process:
            await asyncio.to_thread(wait_until_listening, process, port, output)
            clients = Clients(port)
            await clients.send(50, 1)
            if clients.lost(0, time.monotonic())[0]:
                raise BenchError(f"the router loses requests while all is well\n{output.read_text()[-2000:]}")
            yield backends, clients
        for each in backends:
            await each.stop()


async def dead_and_erring(rate: float, algorithm: str) -> list[str]:
    """One dead and one erroring backend of five, then both healed."""
    async with routed(5, algorithm) as (backends, clients):
        dead, erring = backends[0], backends[1]
        began = time.monotonic()
        await dead.stop()
        erring.mode = "error"
        sending = asyncio.create_task(clients.send(rate, 16))
        await asyncio.sleep(11)
        healed = time.monotonic()
        dead.first_good = erring.first_good = 0.0
        await dead.start()
        erring.mode = "ok"
        await sending
        returned = [each.first_good - healed if each.first_good else float("inf") for each in (dead, erring)]
    early, late = clients.lost(began, began + 5), clients.lost(began + 5, began + 16)
    return [
        f"lost in the first 5 s: {early[0]} of {early[1]}",
        f"lost after that: {late[0]} of {late[1]}",
        f"back {returned[0]:.1f} s (dead) and {returned[1]:.1f} s (erring) after they were healed",
    ]


async def silent(rate: float, algorithm: str) -> list[str]:
    """One of three accepts and never answers."""
    async with routed(3, algorithm) as (backends, clients):
        backends[0].mode = "silent"
        began = time.monotonic()
        await clients.send(rate, 20)
        lost, count = clients.lost(began, began + 20)
    return [f"lost in 20 s: {lost} of {count}, {lost / count:.2%}"]


async def outage(rate: float, algorithm: str) -> list[str]:
    """Nobody answers: what the backends get to feel of the retries."""
    async with routed(3, algorithm) as (backends, clients):
        for each in backends:
            each.mode = "closing"
            each.requests = 0
        await clients.send(rate, 10)
        attempts, count = sum(each.requests for each in backends), int(rate * 10)
    return [f"attempts for {count} requests: {attempts}, {attempts / count:.2f} each"]


CASES = {"dead-and-erring": dead_and_erring, "silent": silent, "outage": outage}


def main(
    case: Annotated[list[str], typer.Option(help=f"One of: {', '.join(CASES)}.")] = list(CASES),  # noqa: B006
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 300,
    algorithm: Annotated[str, typer.Option(help="Balancing strategy.")] = "round-robin",
) -> None:
    """Measure what clients notice of ailing backends."""
    try:
        for name in case:
            if name not in CASES:
                raise typer.BadParameter(f"no {name!r}; there are {', '.join(CASES)}")
            for line in asyncio.run(CASES[name](rate, algorithm)):
                print(f"{name}, {rate:.0f}/s, {algorithm}: {line}", flush=True)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.health")
