"""Backends that close connections under the router's hands, and one that is killed: what of it clients see."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .. import backend, load
from ..processes import Cores
from ..scenarios import HOST, SCENARIOS
from .router import Row, router

REQUESTS, CLIENTS = 50_000, 32
CLOSING_SHARE, CLOSING_SECONDS = 1 / 3, 0.003
MOST_FAILED_POSTS = 0.005
KILL_SECONDS, KILL_AT = 5, 2.0


class Closing(asyncio.Protocol):
    """A backend that closes a third of its idle connections, within 3 ms of its answer. Counts what it is given."""

    def __init__(self, given: Counter[bytes]) -> None:
        self._given = given
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found or (head.startswith(b"POST ") and len(body) < 2):
            return
        self._data = b""
        self._given[head.partition(b" HTTP/")[0]] += 1
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # type: ignore[attr-defined]
        if random.random() < CLOSING_SHARE:
            delay = random.random() * CLOSING_SECONDS
            asyncio.get_running_loop().call_later(delay, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self._transport.close()


async def ask_all(port: int, method: str, failed: Counter[str]) -> None:
    """All the requests over some keep-alive connections; what fails is counted by its kind."""
    numbers = iter(range(REQUESTS))
    body = "hi" if method == "POST" else ""
    length = f"Content-Length: {len(body)}\r\n" if body else ""

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            writer.write(f"{method} /{number} HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n{body}".encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
                await reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                failed["cut"] += 1
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            if head[9:12] != b"200":
                failed[head[9:12].decode()] += 1
        writer.close()

    async with asyncio.timeout(120):
        await asyncio.gather(*(client() for _ in range(CLIENTS)))


def closing(directory: Path) -> Iterator[Row]:
    """50,000 GETs and 50,000 POSTs to the backend that closes."""
    seen: dict[str, tuple[Counter[str], int]] = {}

    async def run() -> None:
        given: Counter[bytes] = Counter()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Closing(given), "127.0.0.1", 0, backlog=1024)
        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            ports = [server.sockets[0].getsockname()[1]]
            started = router(directory, ports)
            running = await loop.run_in_executor(pool, stack.enter_context, started)
            for method in ("GET", "POST"):
                given.clear()
                failed: Counter[str] = Counter()
                await ask_all(running.port, method, failed)
                twice = sum(number > 1 for request, number in given.items() if request.startswith(method.encode()))
                seen[method] = failed, twice
            await loop.run_in_executor(pool, stack.close)
        server.close()

    asyncio.run(run())
    for method, target in (("GET", "0 errors"), ("POST", f"at most {MOST_FAILED_POSTS:.1%} errors, none given twice")):
        failed, twice = seen[method]
        count = sum(failed.values())
        kinds = ", ".join(f"{kind} {number}" for kind, number in failed.items())
        yield Row(
            f"{REQUESTS:,} {method}s, a third of the idle connections closed within 3 ms",
            target,
            f"{count} errors ({count / REQUESTS:.2%}{'; ' + kinds if kinds else ''}), {twice} given twice",
            count == 0 if method == "GET" else count <= REQUESTS * MOST_FAILED_POSTS and not twice,
        )


def killed(directory: Path) -> Iterator[Row]:
    """One of three backends killed under load."""
    cores = Cores.of_this_machine()
    for name, scenario in (("GET", SCENARIOS["small"]), ("POST", SCENARIOS["post"])):
        with ExitStack() as stack:
            place = directory / name
            backends = []
            for number in range(3):
                one = place / f"backend-{number}"
                one.mkdir(parents=True)
                backends.append(stack.enter_context(backend.process(one, [], cores)))
            running = stack.enter_context(router(place, [port for _, port in backends]))
            load.run(scenario, running.port, 1, cores.load)
            with ThreadPoolExecutor(1) as pool:
                result = pool.submit(load.run, scenario, running.port, KILL_SECONDS, cores.load)
                time.sleep(KILL_AT)
                os.killpg(backends[0][0].pid, signal.SIGKILL)
                seen = result.result()
        errors = sum(seen.errors.values())
        most = 0 if name == "GET" else scenario.connections
        yield Row(
            f"one of three backends killed, {name}s at {scenario.connections} connections",
            "0 errors" if not most else f"at most those in flight ({most})",
            f"{errors} errors of {seen.requests:,}",
            errors <= most,
        )
