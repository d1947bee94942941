"""`python -m bench.warm`: how soon a new router serves the table of a running one.

A party on the bus holds the table and answers as a running router does. The new router is the whole program, with one
worker. Its first and its last route are asked for again and again, until they are known: nobody listens at the
endpoints, so a known route answers 502 and an unknown one 404. Then nobody else is there, and the router starts again,
from the snapshot that it wrote at its end.
"""

import asyncio
import http.client
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from router.control.bus.client import Bus, BusSettings
from router.control.bus.embedded import EmbeddedNats
from router.control.bus.identity import Identity
from router.control.bus.warm_start import WarmStart
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.messages import EndpointSpec
from router.observe.log import Log

from .accounting import cpu_of, tree
from .processes import free_port

HOST = "app-{}.apps.example.com"
LIMIT = 30.0


def fill(endpoints: int) -> Registry:
    """A table of so many endpoints, one a route."""
    registry = Registry(RegistrySettings(), lambda ops: None, Log(level="error"))
    for number in range(endpoints):
        address = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        tags = (("component", "route-emitter"), ("source_id", f"{number:036d}"))
        spec = EndpointSpec(address, 9, app=f"{number:036d}", instance_id=f"{number:036d}", tags=tags, stale_after=0)
        registry.register(spec, [HOST.format(number)])
    return registry


def status(port: int, number: int) -> int:
    """What the router answers for this route; 0 = nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/", headers={"Host": HOST.format(number)})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def until_known(port: int, number: int, began: float) -> float:
    """Seconds until this route is known."""
    while time.monotonic() < began + LIMIT:
        if status(port, number) == 502:
            return time.monotonic() - began
        time.sleep(0.01)
    raise SystemExit(f"the route was not known within {LIMIT:.0f} s")


async def measure(endpoints: int) -> str:
    """Start everything; gives the line of the report."""
    server = EmbeddedNats()
    await server.start()
    registry = fill(endpoints)
    up = asyncio.Event()
    identity = Identity(0, "127.0.0.1", 20, 120)
    bus = Bus(
        BusSettings((("127.0.0.1", server.port),)),
        identity,
        Log(level="error"),
        on_register=lambda told, heard: None,
        on_unregister=lambda told, heard: None,
        on_change=lambda connected: up.set(),
    )
    WarmStart(bus, registry, identity.id, Log(level="error"), lambda: True)
    bus.start()
    await up.wait()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="router-bench-") as folder:
        config = Path(folder, "router.yml")
        config.write_text(
            f"port: {port}\ninet: 127.0.0.1\nworkers: 1\nrun_dir: {folder}\nindex: 1\n"
            f"status: {{port: 0, routes: {{port: 0}}}}\nlogging: {{level: error}}\n"
            f"nats: {{hosts: [{{hostname: 127.0.0.1, port: {server.port}}}]}}\n"
        )
        try:
            found = [("from another router", await asyncio.to_thread(known_after, config, port, endpoints))]
            await bus.stop()
            found.append(("from a snapshot", await asyncio.to_thread(known_after, config, port, endpoints)))
        finally:
            await bus.stop()
            server.kill()
    heading = f"{endpoints:,} endpoints, seconds from the start of the program"
    rows = [f"| {name} | " + " | ".join(f"{value:.2f}" for value in row) + " |" for name, row in found]
    return "\n".join([f"| {heading} | first route | last route | CPU |", "|---|---:|---:|---:|", *rows])


def known_after(config: Path, port: int, endpoints: int) -> tuple[float, float, float]:
    """Run the router until its first and its last route are known: seconds from its start, and of CPU in all."""
    began = time.monotonic()
    router = subprocess.Popen([sys.executable, "-m", "router", "run", "-c", str(config)])
    try:
        first, last = until_known(port, 0, began), until_known(port, endpoints - 1, began)
        return first, last, cpu_of(tree(router.pid)).total
    finally:
        router.terminate()
        router.wait()


def main(endpoints: Annotated[int, typer.Option(help="Endpoints, one a route.")] = 100_000) -> None:
    """Measure how soon a new router knows the table of a running one."""
    print(asyncio.run(measure(endpoints)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    typer.run(main)
