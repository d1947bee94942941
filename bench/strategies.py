"""`python -m bench.strategies`: what strategies do with one slow backend of ten, and what a pick costs.

Load is real: a router with one worker, ten backends that answer after 10 ms, one of them after 100 ms, wrk with 64
connections. Picks are timed alone, on a pool of 100 endpoints and the counts of two workers, when all endpoints are
idle and when all are busy: the best of several means.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import timeit
from pathlib import Path
from typing import Annotated, Any

import typer

from router import in_flight
from router.balance.round_robin import RoundRobin
from router.balance.strategy import load_strategy
from router.control.settings import installed_strategies
from router.in_flight import InFlight
from router.messages import EndpointSpec, PutEndpoint, RouteOptions
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool

from . import load
from .errors import BenchError
from .processes import free_port, server, wait_until_serving
from .scenarios import HOST, SCENARIOS

FAST, SLOW, BACKENDS = 0.01, 0.1, 10
ENDPOINTS, WORKERS, PICKS, REPEATS = 100, 2, 2000, 9
BACKEND = Path(__file__).with_name("slow_backends.py")
EVERYWHERE = frozenset(os.sched_getaffinity(0))


class Asked:
    """A request as strategies see it, from one of many clients."""

    attempt = 1
    scratch: Any = None
    target = b"/"

    def __init__(self) -> None:
        self.clients = [b"192.0.2.%d" % number for number in range(250)]
        self.number = 0

    @property
    def client(self) -> bytes:
        self.number = (self.number + 1) % len(self.clients)
        return self.clients[self.number]

    def header(self, name: bytes) -> bytes | None:
        return self.client


def cost(name: str, busy: bool) -> float:
    """Microseconds of a pick."""
    fd = in_flight.create(1 << 10)
    counts = InFlight(fd, 0, WORKERS)
    loads = Loads(counts)
    loads.now = 1000.0
    options = RouteOptions("hash" if name == "hash" else "", "header:tenant", 1.25)
    strategy = load_strategy(name, installed_strategies()[name])(options, RoundRobin)
    pool = Pool("bench", "/", name, strategy)
    for number in range(1, ENDPOINTS + 1):
        spec = EndpointSpec("10.0.0.1", number, instance_id=f"i{number}")
        pool.put(Endpoint(PutEndpoint.of(number, number, spec), loads), 0)
        counts.own[number] = random.randrange(1, 5) if busy else 0
    for endpoint in pool.endpoints:
        if pool.done is not None:
            pool.done(endpoint, None, random.uniform(0.01, 0.02), True)
    request = Asked()

    def pick() -> None:
        request.scratch = None
        strategy.pick(pool, request)

    for _ in range(PICKS):
        pick()
    return min(timeit.repeat(pick, number=PICKS, repeat=REPEATS)) / PICKS * 1e6


def serve(name: str, ports: list[int], directory: Path, seconds: int) -> load.Load:
    """Put load on a router that uses this strategy."""
    port = free_port()
    options = {"loadbalancing": name, **({"hash_header": "user-agent"} if name == "hash" else {})}
    path = directory / f"{name}.yml"
    endpoints = [
        {"host": "127.0.0.1", "port": p, "private_instance_id": f"i{number}"} for number, p in enumerate(ports)
    ]
    config = {
        "port": port,
        "inet": "127.0.0.1",
        "workers": 1,
        "run_dir": str(directory / name),
        "status": {"port": free_port(), "routes": {"port": free_port()}},
        "nats": None,
        "hash_key": "query:n",
        "routes": [{"uris": [HOST], "endpoints": endpoints, "options": options}],
    }
    path.write_text(json.dumps(config))
    output = directory / f"{name}.out"
    with server([sys.executable, "-m", "router.cli.main", "-c", str(path)], EVERYWHERE, output) as process:
        wait_until_serving(process, port, HOST, output)
        load.run(SCENARIOS["small"], port, 1, EVERYWHERE)
        return load.run(SCENARIOS["small"], port, seconds, EVERYWHERE)


def main(seconds: Annotated[int, typer.Option(min=1, help="Seconds of load for each strategy.")] = 4) -> None:
    """Measure all strategies but those that go by what a request says."""
    names = sorted(set(installed_strategies()))
    hashing = {"hash", "consistent-hash", "rendezvous"}
    print("| strategy | pick, idle µs | pick, busy µs |\n| --- | ---: | ---: |")
    for name in names:
        print(f"| {name} | {cost(name, False):.2f} | {cost(name, True):.2f} |", flush=True)
    delays = [str(SLOW), *[str(FAST)] * (BACKENDS - 1)]
    backends = subprocess.Popen([sys.executable, str(BACKEND), *delays], stdout=subprocess.PIPE, text=True)
    try:
        assert backends.stdout is not None
        ports = [int(text) for text in backends.stdout.readline().split()]
        rows = {}
        with tempfile.TemporaryDirectory() as directory:
            for name in names:
                if name not in hashing:
                    rows[name] = serve(name, ports, Path(directory), seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    finally:
        backends.terminate()
        backends.wait()
    basis = rows["round-robin"].p99_us
    print("\n| strategy | requests/s | p50 ms | p99 ms | p99, times better than round-robin |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, row in sorted(rows.items(), key=lambda item: item[1].p99_us):
        if sum(row.errors.values()):
            print(f"bench: {name}: errors {row.errors}", file=sys.stderr)
        rate = row.requests / row.seconds
        print(
            f"| {name} | {rate:,.0f} | {row.p50_us / 1000:.1f} | {row.p99_us / 1000:.1f} | {basis / row.p99_us:.1f} |"
        )


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="python -m bench.strategies")
