"""`python -m bench.control`: what registrations cost, over a real nats-server, with as many endpoints as asked for.

- One process publishes, as fast as NATS takes it; a second is what control hears with (bus, registry, directory of
  apps, events; no admin server), on a core of its own; a third is a worker's table, fed with control's frames.
- The first round is a burst of registrations that are all new, the later ones are heartbeats that change nothing. In
  the second none is known by its hash, as after a warm start; from the third on all are.
- CPU is of the whole hearing process, NATS client included; memory is the growth of the resident set.
"""

import asyncio
import ctypes
import gc
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Annotated

import typer

from router import in_flight
from router.control.bulk import collect_seldom
from router.control.bus.client import Bus, BusSettings
from router.control.bus.embedded import EmbeddedNats
from router.control.bus.identity import Identity
from router.control.bus.repeats import Repeats
from router.control.feed import table_frames
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.frames import Splitter
from router.in_flight import InFlight
from router.messages import Table, TableOp, ToWorker
from router.observe.log import Log
from router.observe.varz import Figures
from router.proxy.plane import Plane
from router.table.routes import RouteTable

from .accounting import cpu_of, rss_of
from .processes import Cores, pinned

INSTANCES = 4
"""Endpoints of one route."""
PATIENCE = 120.0
ROUNDS = ("burst, all new", "heartbeats, unknown", "heartbeats, known")


def heartbeat(number: int) -> bytes:
    """What a platform's route emitter says of one instance: about 600 bytes."""
    app, instance = str(uuid.UUID(int=number // INSTANCES)), str(uuid.UUID(int=number + (1 << 100)))
    message = {
        "host": f"10.{number >> 14 & 255}.{number >> 6 & 255}.{number >> 22 & 255}",
        "port": 61000 + number % 64,
        "tls_port": 0,
        "uris": [f"app-{number // INSTANCES}.apps.example.com"],
        "app": app,
        "private_instance_id": instance,
        "private_instance_index": str(number % INSTANCES),
        "server_cert_domain_san": instance,
        "tags": {
            "app_id": app,
            "component": "route-emitter",
            "instance_id": str(number % INSTANCES),
            "process_instance_id": instance,
            "source_id": app,
        },
        "stale_threshold_in_seconds": 120,
        "availability_zone": "z1",
        "isolation_segment": "",
    }
    return json.dumps(message).encode()


def publish(port: int, count: int) -> None:
    """Publish `count` registrations whenever a line comes in; say how long it took until NATS had them."""
    payloads = map(heartbeat, range(count))
    wire = b"".join(b"PUB router.register %d\r\n%b\r\n" % (len(payload), payload) for payload in payloads)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1"}\r\n')
        print("ready", flush=True)
        for _ in sys.stdin:
            began = time.monotonic()
            connection.sendall(wire + b"PING\r\n")
            while b"PONG" not in connection.recv(65536):
                pass
            print(time.monotonic() - began, flush=True)


async def _empty_table() -> RouteTable:
    """As a worker has it, with its strategies."""
    return Plane(asyncio.get_running_loop(), InFlight(in_flight.create()), Log(level="error")).new_table()


def worker() -> None:
    """Build the table of the frames that come in; print the bytes it takes."""
    import msgspec

    decode = msgspec.msgpack.Decoder(ToWorker).decode
    splitter = Splitter()
    table = asyncio.run(_empty_table())
    before = rss_of([os.getpid()])
    while data := sys.stdin.buffer.read1(1 << 20):
        for payload in splitter.split(data):
            message = decode(payload)
            assert isinstance(message, Table)
            table.apply(message.ops)
    gc.collect()
    print(rss_of([os.getpid()]) - before)


async def hear(endpoints: int, rounds: int) -> Iterator[str]:
    """Run everything; gives the lines of the report."""
    collect_seldom()  # as control's process does
    cores = Cores.of_this_machine()
    lines = []
    ops = 0

    def changed(these: list[TableOp]) -> None:
        nonlocal ops
        ops += len(these)
        figures.directory.apply(these)

    log = Log(level="error")
    figures = Figures()
    log.ring = figures.events
    server = EmbeddedNats()
    await server.start()
    os.sched_setaffinity(server.pid, cores.load)
    publisher = subprocess.Popen(
        pinned([sys.executable, "-m", "bench.control", "publish", str(server.port), str(endpoints)], cores.load),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert publisher.stdin is not None
    assert publisher.stdout is not None
    try:
        os.sched_setaffinity(0, cores.proxy)
        up = asyncio.Event()
        registry = Registry(RegistrySettings(), changed, log)
        bus = Bus(
            BusSettings((("127.0.0.1", server.port),)),
            Identity(0, "127.0.0.1", 20, 120),
            log,
            on_register=lambda told, heard: registry.register(told.spec, told.uris, heard),
            on_unregister=lambda told, heard: None,
            on_repeat=registry.refresh,
            on_change=lambda connected: up.set(),
        )
        bus.start()
        async with asyncio.timeout(PATIENCE):
            await up.wait()
            await asyncio.to_thread(publisher.stdout.readline)
        pids = [os.getpid()]
        gc.collect()
        rss = rss_of(pids)
        for number in range(rounds):
            if number == 1:
                bus._repeats = Repeats()
            heard, before, cpu, began = bus.received["router.register"], ops, cpu_of(pids), time.monotonic()
            publisher.stdin.write("\n")
            publisher.stdin.flush()
            waiting = most = 0
            async with asyncio.timeout(PATIENCE):
                while bus.received["router.register"] + bus.dropped < heard + endpoints:
                    waiting = bus.pending
                    most = max(most, waiting)
                    await asyncio.sleep(0.01)
            took, spent = time.monotonic() - began, cpu_of(pids) - cpu
            sent = float(await asyncio.to_thread(publisher.stdout.readline))
            lines.append(
                f"| {ROUNDS[min(number, 2)]} | {endpoints:,} | {endpoints / sent:,.0f} | "
                f"{endpoints / took:,.0f} | {spent.total / endpoints * 1e6:.1f} | {most:,} | {bus.dropped:,} | "
                f"{ops - before:,} |"
            )
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the backlog took is not the table's
        grown = rss_of(pids) - rss
        table = subprocess.Popen(
            [sys.executable, "-m", "bench.control", "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert table.stdin is not None
        for frame in table_frames(list(registry.snapshot())):
            table.stdin.write(frame)
        taken = int(table.communicate()[0])
        lines.append("")
        lines.append(f"control: {grown / endpoints:,.0f} bytes an endpoint, worker: {taken / endpoints:,.0f}")
        await bus.stop()
    finally:
        publisher.kill()
        publisher.wait()
        server.kill()
    return iter(lines)


def main(
    endpoints: Annotated[int, typer.Option(help="Endpoints, each registered once a round.")] = 400_000,
    rounds: Annotated[int, typer.Option(help="Rounds; the first one is all new.")] = 3,
) -> None:
    """Measure what registrations cost."""
    import uvloop

    print(f"{INSTANCES} endpoints a route, messages of {len(heartbeat(123456))} bytes")
    print("| round | messages | NATS took/s | taken in/s | CPU µs each | most waiting | lost | table operations |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for line in uvloop.run(hear(endpoints, rounds)):
        print(line, flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["publish", port, count]:
            publish(int(port), int(count))
        case ["worker"]:
            worker()
        case _:
            typer.run(main)
