"""`python -m bench.exact`: whether access log and metrics say exactly what was served, also when a worker is killed.

- Exactly: requests of known kinds through two workers; log and metrics must tell of each, its status and its bytes.
- Killed: the same while one worker after the other is killed (SIGKILL). Missing may be what a killed worker had
  answered in its last second; nothing may be told twice, and no counter may fall: `/metrics` is read all the time.
"""

import argparse
import asyncio
import http.client
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from . import counts
from .errors import BenchError
from .observe import BASIC, settings
from .processes import Cores, free_port, server
from .proxies.base import Place
from .proxies.router import ROOT

KILLS = 4


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, int, Path]]:
    """A router with two workers before the apps of `counts`: its port, that of its status server, its access log."""
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with counts.backend() as behind:
            place = Place(Path(folder), free_port(), behind, cores)
            ports = {"one": behind, "two": behind, "dead": free_port()}
            routes = [
                {"name": app, "uris": [f"{app}.test"], "endpoints": [{"host": "127.0.0.1", "port": port, "app": app}]}
                for app, port in ports.items()
            ]
            made = settings(place, routes, everything=True, workers=2)
            made["backends"] = {"max_attempts": 1}
            made["logging"]["level"] = "fatal"
            path, output = place.directory / "router.yml", place.directory / "router.out"
            path.write_text(json.dumps(made))
            argv = [sys.executable, "-m", "router.cli.main", "-c", str(path)]
            status = made["status"]["port"]
            with server(argv, cores.proxy | cores.load, output, {"PYTHONPATH": str(ROOT)}):
                await _until_ready(status)
                yield place.port, status, place.directory / "access.log"


async def exactly(total: int) -> list[str]:
    """What is wrong after `total` requests."""
    async with serving() as (port, status, log):
        began = time.monotonic()
        ledger = await counts.send(port, total)
        took = time.monotonic() - began
        bounds = ledger.bounds(0.0)

        async def wrong() -> list[str]:
            text = await asyncio.to_thread(_get, status, "/metrics")
            return counts.wrong_in_log(log, bounds) + counts.wrong_in_metrics(text, bounds)

        found = await counts.settled(wrong)
    print(
        f"{total} requests of {len(counts.KINDS)} kinds, 2 workers, {took:.0f} s: {len(found)} figures wrong",
        flush=True,
    )
    return found


async def killed(total: int) -> list[str]:
    """What is wrong after `total` requests in which workers were killed."""
    scrapes: list[str] = []
    fell: list[str] = []
    async with serving() as (port, status, log):
        kills: list[asyncio.Task[None]] = []
        dead: set[int] = set()

        def at(number: int) -> None:
            if number and number % (total // (KILLS + 1)) == 0 and len(kills) < KILLS:
                kills.append(asyncio.ensure_future(_kill(status, len(kills) % 2, dead)))

        async def look() -> None:
            while True:
                scrapes.append(await asyncio.to_thread(_get, status, "/metrics"))
                if len(scrapes) > 1:
                    fell.extend(counts.fallen(scrapes.pop(0), scrapes[0]))
                await asyncio.sleep(0.2)

        looking = asyncio.ensure_future(look())
        began = time.monotonic()
        ledger = await counts.send(port, total, at)
        took = time.monotonic() - began
        await asyncio.gather(*kills)
        bounds = ledger.bounds(counts.REPORTED)

        async def wrong() -> list[str]:
            text = await asyncio.to_thread(_get, status, "/metrics")
            return counts.wrong_in_log(log, bounds) + counts.wrong_in_metrics(text, bounds)

        found = await counts.settled(wrong)
        await asyncio.sleep(counts.REPORTED)  # what is still on its way may be too much
        found = found or await wrong()
        if looking.done():  # it never ends by itself
            raise BenchError(f"/metrics could not be read all the time: {looking.exception()!r}")
        looking.cancel()
        in_log, in_metrics = counts.missing(log, await asyncio.to_thread(_get, status, "/metrics"), ledger)
    allowed = sum(most - fewest for fewest, most in bounds.values()) - sum(ledger.unanswered.values())
    print(
        f"{total} requests, {KILLS} workers killed, {took:.0f} s: {len(ledger.broken)} connections broke;"
        f" of {allowed} requests that a worker answered in its last {counts.REPORTED} s"
        f" the log misses {in_log}, the metrics {in_metrics};"
        f" {len(found)} figures wrong, {len(fell)} counters fell",
        flush=True,
    )
    return found + fell


async def _kill(status: int, slot: int, dead: set[int]) -> None:
    """Kill the worker in this slot, once there is one that is not among the `dead`; it is then."""
    for _ in range(int(counts.PATIENCE / counts.PAUSE)):
        workers = json.loads(await asyncio.to_thread(_get, status, "/api/overview"))["workers"]
        # Process 0 stands for "none": a signal to it would hit the bench itself.
        alive = [each["pid"] for each in workers if each["slot"] == slot and each["pid"] not in {0, *dead}]
        if alive:
            dead.add(alive[0])
            os.kill(alive[0], signal.SIGKILL)
            return
        await asyncio.sleep(counts.PAUSE)
    raise BenchError(f"nobody took the place of the worker killed in slot {slot}")


async def _until_ready(port: int) -> None:
    for _ in range(200):
        try:
            if await asyncio.to_thread(_get, port, "/health"):
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise BenchError("the router does not become healthy")


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=BASIC)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.status != 200:
        raise OSError(f"{path} is answered {response.status}: {text[:100]!r}")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.exact", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("only", nargs="*", metavar="PART", help="exactly, killed; both without one")
    given = parser.parse_args()
    parts = given.only or ["exactly", "killed"]
    found: list[str] = []
    try:
        for name, part in (("exactly", exactly), ("killed", killed)):
            if name in parts:
                found += asyncio.run(part(given.requests))
    except (BenchError, TimeoutError) as error:
        raise SystemExit(f"bench.exact: {error}") from error
    for line in found:
        print(f"  {line}")
    if found:
        raise SystemExit("bench.exact: log or metrics are not exact")


if __name__ == "__main__":
    main()
