"""`python -m bench.lostrouter`: one of three routers is killed under load behind nginx, and another takes its place.

Clients send GETs and POSTs at a fixed rate through the front to an app that takes its time, so that many requests are
in flight when all processes of one router are killed (SIGKILL). Then a router is started anew in its place, with an
empty run_dir: all it knows comes from the others. For each round a row:

    on it       requests that nginx had sent to this router, and that had no answer
    failed      of those begun before its port was closed, of those begun after it: asked is 0 after it
    normal      milliseconds until windows of 100 ms are as before: no failure, as many answers, as fast
    serves      seconds from the start of the new router until it knows every route
"""

import argparse
import asyncio
import http.client
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nats
import uvloop

from .behind import LOOPBACK, Site, site, until
from .errors import BenchError

ROUTERS = 3
CLIENTS, EVERY = 64, 0.08
"""Each sends a request every so many seconds, unless an answer takes longer."""
APP_SECONDS = 0.05
HOST = "takes-its-time.bench.localhost"
ROUTE = "app-{}.bench.localhost"
BEFORE, AFTER, REST = 2.0, 1.0, 7.0
"""Seconds of load before the kill, until the new router is started, and until all is as it was (`fail_timeout`)."""
WINDOW = 0.1
STEADY = 5
"""Windows in a row that are as before."""
SAMPLES = 50


@dataclass(frozen=True, slots=True)
class Request:
    """Times are monotonic seconds."""

    began: float
    ended: float
    good: bool


class Clients:
    """Connections to the front, and what came of their requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.requests: list[Request] = []
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _ask(self, number: int) -> None:
        method = ("GET", "POST")[number % 2]
        length = "Content-Length: 0\r\n" * (method == "POST")
        request = f"{method} / HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n".encode()
        await asyncio.sleep(number / CLIENTS * EVERY)
        connection = None
        while True:
            began, good = time.monotonic(), False
            try:
                connection = connection or await asyncio.open_connection(LOOPBACK, self._port)
                reader, writer = connection
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                good = head.startswith(b"HTTP/1.1 200 ")
                if good:
                    await reader.readexactly(2)
                else:
                    writer.close()
                    connection = None
            except (OSError, asyncio.IncompleteReadError):
                connection = None
            ended = time.monotonic()
            self.requests.append(Request(began, ended, good))
            await asyncio.sleep(max(0.0, began + EVERY - ended))


def normal_after(requests: list[Request], kill: float) -> float:
    """Seconds from the kill until windows are as those before it, STEADY in a row. Raises BenchError when never."""
    before = [request for request in requests if kill - BEFORE <= request.ended < kill]
    usual = len(before) / BEFORE * WINDOW
    median = statistics.median(request.ended - request.began for request in before)
    steady = 0
    for number in range(int(REST / WINDOW)):
        start = kill + number * WINDOW
        inside = [request for request in requests if start <= request.ended < start + WINDOW]
        fast = bool(inside) and statistics.median(request.ended - request.began for request in inside) < 2 * median
        well = fast and len(inside) >= 0.8 * usual and all(request.good for request in inside)
        steady = steady + 1 if well else 0
        if steady == STEADY:
            return (number + 1 - STEADY) * WINDOW
    raise BenchError(f"traffic was not as before within {REST:.0f} s")


async def routes(made: Site, app: int, count: int) -> None:
    """Register the app and so many other routes, and return when every router knows them."""
    bus = await nats.connect(f"nats://{LOOPBACK}:{made.nats}")
    for uri in (HOST, *(ROUTE.format(number) for number in range(count))):
        port = app if uri == HOST else made.backend
        message = {"host": LOOPBACK, "port": port, "uris": [uri], "app": uri, "stale_threshold_in_seconds": 3600}
        await bus.publish("router.register", json.dumps(message).encode())
    await bus.flush()
    await bus.close()
    for number in range(ROUTERS):
        await knows(made, number, count)


def _statuses(port: int, count: int) -> set[int]:
    """What a router answers for routes from all over the table; 0: it does not accept."""
    found = set()
    for number in range(0, count, max(1, count // SAMPLES)):
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
        try:
            connection.request("GET", "/small", headers={"Host": ROUTE.format(number)})
            found.add(connection.getresponse().status)
        except (OSError, http.client.HTTPException):
            return {0}
        finally:
            connection.close()
        if found != {200}:
            break
    return found


async def knows(made: Site, number: int, count: int) -> float:
    """Seconds until a router answers for every route."""
    began = time.monotonic()
    while await asyncio.to_thread(_statuses, made.routers[number], count) != {200}:
        if time.monotonic() > began + 30:
            raise BenchError(f"router {number} does not know all routes")
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def _closed(port: int) -> float:
    """The moment from which on nobody listens there."""
    while True:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            return time.monotonic()
        writer.close()
        await asyncio.sleep(0.001)


async def lose(made: Site, number: int, count: int) -> tuple[str, bool]:
    """Kill a router under load and start another; gives the row, and whether all was well."""
    clients = Clients(made.port)
    await asyncio.sleep(BEFORE + 0.5)
    child = made.router(number)
    faults_before = made.faults()
    kill = time.monotonic()
    os.killpg(child.process.pid, signal.SIGKILL)
    gone = await _closed(made.routers[number])
    await child.ended
    await asyncio.sleep(AFTER)
    shutil.rmtree(made.run_dir(number))
    started = time.monotonic()
    servers = made.family.servers
    servers[servers.index(child)] = await made.start_router(number)
    await knows(made, number, count)
    serves = time.monotonic() - started
    await asyncio.sleep(max(0.0, kill + REST + 0.5 - time.monotonic()))
    await clients.stop()
    faults = made.faults() - faults_before
    on_it = faults["closed before an answer"] + faults["reset"]
    failed = [request for request in clients.requests if not request.good]
    late = sum(request.began > gone for request in failed)
    normal = normal_after(clients.requests, kill)
    figures = len(clients.requests), on_it, len(failed) - late, late, round(normal * 1000), round(serves, 2)
    row = f"| router {number} | {' | '.join(map(str, figures))} |"
    return row, late == 0 and len(failed) <= on_it and normal <= 1.0


async def bench(folder: Path, rounds: int, count: int) -> int:
    """Everything; gives the exit status."""
    well = True
    async with site(folder, ROUTERS) as made:
        argv = (sys.executable, "-m", "bench.slow_backends", str(APP_SECONDS))
        app = await made.family.start("slow-app", *argv)
        made.family.servers.append(app)
        await until(app.output.read_text, "an app that takes its time")
        await routes(made, int(app.output.read_text()), count)
        rate, milliseconds = CLIENTS / EVERY, APP_SECONDS * 1000
        print(f"{count:,} routes; {rate:.0f} requests a second of {milliseconds:.0f} ms, half of them POST\n")
        print("| killed | requests | on it | failed, begun before | begun after | normal, ms | the new one serves, s |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for number in range(rounds):
            row, good = await lose(made, number % ROUTERS, count)
            print(row, flush=True)
            well = well and good
    return 0 if well else 1


def main() -> int:
    """Gives the exit status: 1 when more was lost than the requests on the killed router."""
    parser = argparse.ArgumentParser(prog="python -m bench.lostrouter", description="One of three routers is killed.")
    parser.add_argument("--rounds", type=int, default=6, help="(%(default)s)")
    parser.add_argument("--routes", type=int, default=5000, help="in the table (%(default)s)")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="router-lost-") as folder:
            return uvloop.run(bench(Path(folder), given.rounds, given.routes))
    except BenchError as error:
        print(f"lostrouter: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
