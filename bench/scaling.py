"""`python -m bench.scaling`: how far one bus goes, up to 100 routers with 1,000,000 endpoints.

What a message costs nats-server is measured here and now, and so is what a router's word on its table costs another.
What a heartbeat costs control is given, from `make bench-control` (RESULTS.md). From that, for fleets of growing size:

- by arithmetic: heartbeats and bytes a second, cores for NATS, the share of a core for control, memory;
- by simulation: how long until the last router has applied a change that was published among the heartbeats. Platforms
  send heartbeats in bursts, a cell's instances at once. The bus is a queue that serves one message after another; so is
  every control, which pauses now and then. A step of the simulation is one message.

A cluster of NATS servers is taken as: clients spread evenly; each server passes what its clients publish to each other
server once (at the cost of a delivery) and delivers everything to its own share of the routers. It uses all its cores.
"""

import argparse
import asyncio
import heapq
import json
import random
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from router.control.bus.embedded import EmbeddedNats
from router.control.bus.fleet import About, Fleet
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.observe.log import Log

from .accounting import cpu_of
from .errors import BenchError

INTERVAL = 20.0
"""Seconds between heartbeats of an endpoint: what routers ask for."""
ANNOUNCED = 2.0
"""Seconds between announcements of a router: `fleet.interval`."""
BURST = 100
"""Endpoints of a cell, whose heartbeats are sent at once."""
MESSAGE = 612
"""Bytes of a registration, as in `make bench-control`."""
CONTROL_BYTES, WORKER_BYTES = 1169, 1012
"""Memory for an endpoint, measured there."""
PAUSE, PAUSE_EVERY = 0.01, 5.0
"""Seconds that a control does something else (a report, a scrape, the garbage collector), and how often on average."""
SIZES = ((3, 10_000), (5, 50_000), (10, 100_000), (20, 250_000), (50, 500_000), (100, 1_000_000))
SIMULATED = 10.0
"""Seconds."""
WATCHED = 10
"""Routers that are simulated one by one; more hardly move the slowest."""
MEASURED = 100_000
"""Messages."""
SUBSCRIBERS = (1, 4, 8)


NATS_CORES = 4
"""Of the machine of a NATS server."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of CPU."""

    publish: float
    """For nats-server, to take a message."""
    deliver: float
    """For nats-server, to hand it to one subscriber."""
    heartbeat: float
    """For a control."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A fleet on a bus of `servers`."""

    routers: int
    endpoints: int
    servers: int
    costs: Costs

    @property
    def rate(self) -> float:
        """Heartbeats a second."""
        return self.endpoints / INTERVAL

    @property
    def service(self) -> float:
        """Seconds of the busiest NATS server for one message that is published anywhere."""
        costs, servers = self.costs, self.servers
        passed_on = (servers - 1) / servers * costs.deliver
        return costs.publish + passed_on + -(-self.routers // servers) * costs.deliver

    @property
    def bus_cores(self) -> float:
        """Of the busiest server."""
        return self.rate * self.service

    @property
    def control(self) -> float:
        """Share of a core."""
        return self.rate * self.costs.heartbeat


# ---------------------------------------------------------------- what a message costs NATS


def _subscriber(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(b'CONNECT {"verbose":false}\r\nSUB router.register 1\r\nPING\r\n')
    data = b""
    while b"PONG" not in data:
        data += sock.recv(65536)
    return sock


def _drain(sock: socket.socket, wanted: int) -> None:
    while wanted > 0:
        data = sock.recv(1 << 20)
        if not data:
            raise BenchError("nats-server cut a subscriber")
        wanted -= len(data)


def _nats_seconds(pid: int, port: int, subscribers: int) -> float:
    """CPU of nats-server for a message."""
    message = json.dumps({"host": "10.0.0.1", "port": 80, "uris": ["x"]}).ljust(MESSAGE).encode()
    wire = b"PUB router.register %d\r\n%b\r\n" % (MESSAGE, message)
    received = len(b"MSG router.register 1 %d\r\n" % MESSAGE) + MESSAGE + 2
    sinks = [_subscriber(port) for _ in range(subscribers)]
    readers = [threading.Thread(target=_drain, args=(sink, received * MEASURED), daemon=True) for sink in sinks]
    publisher = socket.create_connection(("127.0.0.1", port))
    publisher.sendall(b'CONNECT {"verbose":false}\r\n')
    before = cpu_of([pid]).total
    for reader in readers:
        reader.start()
    batch = 50
    for _ in range(MEASURED // batch):
        publisher.sendall(wire * batch)
    for reader in readers:
        reader.join(60)
        if reader.is_alive():
            raise BenchError("nats-server did not deliver everything within a minute")
    spent = cpu_of([pid]).total - before
    for sock in (publisher, *sinks):
        sock.close()
    return spent / MEASURED


async def measured(heartbeat: float) -> Costs:
    """What nats-server here needs, as a straight line over subscribers."""
    server = EmbeddedNats()
    await server.start()
    try:
        seconds = [await asyncio.to_thread(_nats_seconds, server.pid, server.port, number) for number in SUBSCRIBERS]
    finally:
        server.kill()
    line = statistics.linear_regression(SUBSCRIBERS, seconds)
    return Costs(max(0.0, line.intercept), line.slope, heartbeat)


# ---------------------------------------------------------------- what routers tell one another


def announcement() -> tuple[int, float]:
    """Its bytes, and the seconds that another router needs for it."""
    log = Log(level="error")
    registry = Registry(RegistrySettings(), lambda ops: None, log)
    one, other = (
        Fleet(registry, About(name, "1.0", "10.0.0.1:80", "all"), lambda subject, data: None, log, ANNOUNCED)
        for name in ("one", "other")
    )
    payload = one.announcement()
    times = 1000
    began = time.process_time()
    for _ in range(times):
        other.heard(payload)
    return len(payload), (time.process_time() - began) / times


# ---------------------------------------------------------------- how long a change takes


def _arrivals(rate: float, chance: random.Random) -> Iterator[float]:
    """Moments at which cells begin to send their heartbeats."""
    at = 0.0
    while at < SIMULATED:
        yield at
        at += chance.expovariate(rate / BURST)


def _pauses(chance: random.Random) -> list[float]:
    found, at = [], chance.expovariate(1 / PAUSE_EVERY)
    while at < SIMULATED:
        found.append(at)
        at += chance.expovariate(1 / PAUSE_EVERY)
    return found


def _left(arrivals: list[float], service: float, pauses: list[float]) -> list[float]:
    """When each message leaves a queue that serves one after another and does something else meanwhile."""
    left, free, waiting = [], 0.0, list(pauses)
    heapq.heapify(waiting)
    for arrival in arrivals:
        start = max(arrival, free)
        while waiting and waiting[0] <= start:
            start = max(start, heapq.heappop(waiting) + PAUSE)
        free = start + service
        left.append(free)
    return left


def convergence(plan: Plan, seed: int) -> list[float]:
    """Seconds from a message's publication until the last router has applied it, sorted."""
    chance = random.Random(seed)
    published = [start for start in _arrivals(plan.rate, chance) for _ in range(BURST)]
    delivered = _left(published, plan.service / NATS_CORES, [])
    watched = min(plan.routers, WATCHED)
    applied = [_left(delivered, plan.costs.heartbeat, _pauses(chance)) for _ in range(watched)]
    return sorted(max(times) - start for start, *times in zip(published, *applied, strict=True))


# ---------------------------------------------------------------- the report


def row(plan: Plan, seed: int) -> str:
    """One fleet."""
    bits = plan.rate * MESSAGE * 8
    if plan.bus_cores < NATS_CORES and plan.control < 1:
        times = convergence(plan, seed)
        took = " | ".join(f"{times[int(share * (len(times) - 1))] * 1000:.1f}" for share in (0.5, 0.99, 1.0))
    else:
        took = "never | never | never"
    return (
        f"| {plan.routers} | {plan.endpoints:,} | {plan.servers} | {plan.rate:,.0f} | {bits / 1e6:,.0f} "
        f"| {bits * plan.routers / 1e9:,.2f} | {plan.bus_cores:.2f} | {plan.control:.1%} "
        f"| {plan.endpoints * CONTROL_BYTES / 1e6:,.0f} | {plan.endpoints * WORKER_BYTES / 1e6:,.0f} | {took} |"
    )


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description="How far one bus goes.")
    parser.add_argument("--heartbeat-us", type=float, default=4.0, help="CPU of control for one (%(default)s)")
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 3, 5], help="of a NATS cluster (1 3 5)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    try:
        costs = asyncio.run(measured(given.heartbeat_us / 1e6))
    except BenchError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    for what, seconds in (
        (f"nats-server, to take a message of {MESSAGE} bytes", costs.publish),
        ("nats-server, to hand it to a router", costs.deliver),
        (f"control, for a heartbeat, of which each endpoint sends one every {INTERVAL:.0f} s", costs.heartbeat),
    ):
        print(f"- {what}: {seconds * 1e6:.2f} µs")
    print(f'\nA NATS server has {NATS_CORES} cores; "never" is where they don\'t do.\n')
    columns = (
        *("routers", "endpoints", "NATS servers", "heartbeats/s", "Mbit/s to a router", "Gbit/s to all"),
        *(
            "cores of a NATS server",
            "core of control",
            "MB control",
            "MB a worker",
            "change everywhere: p50 ms",
            "p99",
            "max",
        ),
    )
    print(f"| {' | '.join(columns)} |\n{'| ---: ' * len(columns)}|", flush=True)
    for routers, endpoints in SIZES:
        for servers in given.servers:
            if servers <= routers:
                print(row(Plan(routers, endpoints, servers, costs), given.seed), flush=True)
    size, seconds = announcement()
    print(
        f"\nEvery {ANNOUNCED:.0f} s a router tells of its table: {size:,} bytes, {seconds * 1e6:.0f} µs for a reader.\n"
    )
    print("| routers | announcements/s | Mbit/s to a router | core of control |\n| ---: | ---: | ---: | ---: |")
    for routers, _ in SIZES:
        rate = routers / ANNOUNCED
        print(f"| {routers} | {rate:.1f} | {rate * size * 8 / 1e6:.2f} | {rate * seconds:.2%} |")
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
