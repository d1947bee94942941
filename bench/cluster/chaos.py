"""`python -m bench.cluster.chaos`: the cluster of `bench.cluster` under checked load, while its processes are killed.

- The load: clients that send requests without a pause through both fronts, GET and POST, each with a token of its own.
  An answer is right only if it has the token, the body and the path, and is of the app that was asked.
- The stones: every few seconds a process, chosen by the seed, is killed (SIGKILL) and started again after a moment, or
  frozen (SIGSTOP) for a moment; a router is told to reload, to upgrade, to drain, or its log is rotated; a front is
  reloaded; a router or a NATS server is cut off from everybody, or a router from NATS alone. Networks are cut in
  namespaces, as root (`wires.py`); elsewhere it says that they are not.
- A front that is dead refuses its clients; they go to the other one, as clients of two addresses do: that is no loss.
- What is counted: answers that are wrong in any way, POSTs that apps executed twice, error statuses, and requests whose
  connection broke or that took longer than PATIENCE. A row has what was lost from its stone until the next one.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp

from router.demo.family import Child, Family

from ..errors import BenchError
from ..processes import free_port
from .__main__ import HOSTS, START_SECONDS, complete, no_prefix, start
from .layout import FRONTS, LOOPBACK, ROUTERS, SERVERS, Layout
from .wires import Wires, enter

CLIENTS = 16
PATIENCE = 10.0
"""Seconds for one answer."""
EVERY = 4.0
"""Seconds between two stones."""
AWAY = 1.0
"""Seconds until a process that was killed is started again, or one that was frozen goes on."""
CUT = 3.0
"""Seconds without a network."""


class Load:
    """Clients of the fronts, and what became of their requests."""

    def __init__(self, fronts: list[int], seed: int) -> None:
        self._fronts = fronts
        self._random = random.Random(seed)
        self.done = 0
        self.lost: Counter[str] = Counter()
        self.wrong: dict[str, list[str]] = {"misrouted": [], "answered twice": [], "wrong": []}
        self.seen: set[str] = set()
        """Tokens that came back."""

    async def client(self, number: int) -> None:
        """One client, for ever."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for count in range(sys.maxsize):
                await self._request(session, f"{number}-{count}")

    async def _request(self, session: aiohttp.ClientSession, token: str) -> None:
        name = self._random.choice(HOSTS)
        method, body = self._random.choice((("GET", ""), ("POST", token * 10)))
        first = self._random.randrange(FRONTS)
        for port in self._fronts[first:] + self._fronts[:first]:
            try:
                url = f"http://{LOOPBACK}:{port}/{token}"
                headers = {"Host": name, "X-Token": token}
                async with session.request(method, url, headers=headers, data=body) as response:
                    text = await response.text()
                    if response.status == 200:
                        self._judge(name, token, body, text)
                    else:
                        by = response.headers.get("X-Cf-RouterError", "of the front")
                        self.lost[f"{method}: status {response.status} {by}"] += 1
                return
            except aiohttp.ClientConnectorError:
                continue  # this front is dead: the other one
            except TimeoutError:
                self.lost[f"{method}: no answer in {PATIENCE:.0f} s"] += 1
                return
            except aiohttp.ClientError as error:
                self.lost[f"{method}: {type(error).__name__}"] += 1
                return
        self.lost["both fronts refuse"] += 1
        await asyncio.sleep(0.05)

    def _judge(self, name: str, token: str, body: str, text: str) -> None:
        told = json.loads(text)
        right = {"app": name.partition(".")[0], "token": token, "body": body, "path": f"/{token}"}
        found = f"{right} was asked for, {told} came"
        if told.get("app") != right["app"]:
            self.wrong["misrouted"].append(found)
        elif token in self.seen:
            self.wrong["answered twice"].append(found)
        elif {key: told.get(key) for key in right} != right:
            self.wrong["wrong"].append(found)
        self.seen.add(token)
        self.done += 1


class Stones:
    """Throws them at a running cluster. `wires` is None where networks can't be cut."""

    def __init__(self, layout: Layout, family: Family, wires: Wires | None, seed: int) -> None:
        self._layout = layout
        self._family = family
        self._wires = wires
        self._random = random.Random(seed)
        self._thrown = 0
        killed = {
            "nats": lambda: self._named("nats-"),
            "router": lambda: self._named("router-"),
            "control": lambda: self._named("router-"),
            "app": self._instances,
            "front": lambda: self._named("nginx-"),
        }
        self.kinds: dict[str, Callable[[], Awaitable[str]]] = {
            **{f"{kind} killed": partial(self._kill, kind, find) for kind, find in killed.items()},
            "worker killed": self._worker_killed,
            "nats frozen": partial(self._freeze, killed["nats"]),
            "app frozen": partial(self._freeze, killed["app"]),
            "worker frozen": self._worker_frozen,
            "reload": self._reload,
            "upgrade": self._upgrade,
            "log rotation": self._rotate,
            "drain": self._drain,
            "front reload": self._front_reload,
        }
        if wires is not None:
            self.kinds["router cut off"] = partial(self._cut, wires, "router-")
            self.kinds["nats cut off"] = partial(self._cut, wires, "nats-")
            self.kinds["router without bus"] = partial(self._deaf, wires)

    async def throw(self, kind: str) -> str:
        """One stone; gives what was hit. Returns when it is up again or goes on. Raises BenchError as `check`."""
        self._thrown += 1
        self.check()
        return await self.kinds[kind]()

    def check(self) -> None:
        """Raises BenchError when a process has ended that nobody has killed."""
        for child in (*self._family.servers, *self._family.apps):
            if child.ended.done():
                raise BenchError(child.end())

    # ------------------------------------------------------------ ends and pauses

    async def _kill(self, kind: str, find: Callable[[], list[Child]]) -> str:
        """Kill it with its process group, or control without its workers, and start it again."""
        child = self._random.choice(find())
        if kind == "control":
            child.process.kill()
        else:
            os.killpg(child.process.pid, signal.SIGKILL)
        await self._again(child)
        return f"{child.name}{', control only,' * (kind == 'control')} killed"

    async def _again(self, child: Child) -> None:
        """Wait for its end, and start it again a moment later."""
        await child.ended
        await asyncio.sleep(AWAY)
        children = self._family.servers if child in self._family.servers else self._family.apps
        children[children.index(child)] = await self._family.start(child.name, *child.argv)

    async def _freeze(self, find: Callable[[], list[Child]]) -> str:
        child = self._random.choice(find())
        await _frozen(child.process.pid)
        return f"{child.name} frozen"

    async def _worker(self) -> tuple[str, int]:
        """A worker of a router, which may just have been started."""
        number, child = self._router()
        while not (found := [worker.pid for worker in self._layout.workers(number) if worker.alive]):
            self.check()
            await asyncio.sleep(0.05)
        return child.name, self._random.choice(found)

    async def _worker_killed(self) -> str:
        name, pid = await self._worker()
        with suppress(ProcessLookupError):  # one that was leaving may just have gone
            os.kill(pid, signal.SIGKILL)
        return f"a worker of {name} killed"

    async def _worker_frozen(self) -> str:
        name, pid = await self._worker()
        await _frozen(pid)
        return f"a worker of {name} frozen"

    # ------------------------------------------------------------ orders

    def _router(self) -> tuple[int, Child]:
        number = self._random.randrange(ROUTERS)
        return number, next(child for child in self._family.servers if child.name == f"router-{number}")

    async def _reload(self) -> str:
        """With another setting, so that workers are replaced."""
        number, child = self._router()
        self._layout.router_file(number, endpoint_timeout=f"{60 + self._thrown}s")
        child.process.send_signal(signal.SIGHUP)
        return f"{child.name} reloaded"

    async def _upgrade(self) -> str:
        _, child = self._router()
        child.process.send_signal(signal.SIGUSR2)
        return f"{child.name} upgraded"

    async def _rotate(self) -> str:
        number, child = self._router()
        log = self._layout.access_log(number)
        log.rename(log.with_suffix(".old"))
        child.process.send_signal(signal.SIGUSR1)
        return f"log of {child.name} rotated"

    async def _drain(self) -> str:
        _, child = self._router()
        child.process.send_signal(signal.SIGQUIT)
        await self._again(child)
        return f"{child.name} drained and started"

    async def _front_reload(self) -> str:
        child = self._random.choice(self._named("nginx-"))
        child.process.send_signal(signal.SIGHUP)
        return f"{child.name} reloaded"

    # ------------------------------------------------------------ networks

    async def _cut(self, wires: Wires, prefix: str) -> str:
        name = self._random.choice(self._named(prefix)).name
        async with wires.pulled(name):
            await asyncio.sleep(CUT)
        return f"{name} cut off for {CUT:.0f} s"

    async def _deaf(self, wires: Wires) -> str:
        name = self._random.choice(self._named("router-")).name
        async with wires.apart(name, [f"nats-{number}" for number in range(SERVERS)]):
            await asyncio.sleep(2 * CUT)
        return f"{name} cut off from NATS for {2 * CUT:.0f} s"

    # ------------------------------------------------------------ who there is

    def _named(self, prefix: str) -> list[Child]:
        return [child for child in self._family.servers if child.name.startswith(prefix)]

    def _instances(self) -> list[Child]:
        return [child for child in self._family.apps if not child.name.startswith(("regist", "api"))]


async def _frozen(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(AWAY)
        os.kill(pid, signal.SIGCONT)


async def chaos(folder: Path, seconds: float, seed: int, wired: bool) -> int:
    """Everything; gives the exit status: 1 when an answer was wrong, or a POST was executed twice."""
    family = Family(folder)
    fronts = [free_port() for _ in range(FRONTS)]
    wires, prefix = None, no_prefix
    layout = Layout(folder, fronts)
    if wired:
        wires = Wires([f"{kind}-{number}" for kind in ("router", "nats") for number in range(3)])
        layout, prefix = Layout(folder, fronts, wires.host), wires.prefix
    load = Load(layout.fronts, seed)
    clients: list[asyncio.Task[None]] = []
    try:
        if wires is not None:
            await wires.lay(family)
        await start(layout, family, prefix)
        async with asyncio.timeout(START_SECONDS):
            await complete(layout)
        clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
        stones = Stones(layout, family, wires, seed)
        order = random.Random(seed)
        end = time.monotonic() + seconds
        print(f"| stone (seed {seed}) | answers | lost |\n| --- | ---: | --- |", flush=True)
        await _between(load, asyncio.sleep(0, "none"))
        while time.monotonic() < end:
            for kind in order.sample([*stones.kinds], len(stones.kinds)):
                if time.monotonic() < end:
                    await _between(load, stones.throw(kind))
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await family.stop()
    executed = Counter(layout.executed.read_text().splitlines())
    twice = [f"POST {token} was executed {count} times" for token, count in executed.items() if count > 1]
    bad = {**load.wrong, "POSTs executed twice": twice}
    print(f"\n{load.done:,} right answers, {', '.join(f'{len(found)} {name}' for name, found in bad.items())}")
    causes = ", ".join(f"{count} × {why}" for why, count in load.lost.most_common())
    print(f"{load.lost.total()} lost: {causes or 'none'}")
    for found in bad.values():
        for text in found[:10]:
            print(text, file=sys.stderr)
    return 1 if any(bad.values()) else 0


async def _between(load: Load, throwing: Awaitable[str]) -> None:
    """Throw, wait for the rest of the interval, and print what was lost from the throw on."""
    done, lost = load.done, Counter(load.lost)
    began = time.monotonic()
    hit = await throwing
    await asyncio.sleep(max(0.0, EVERY - (time.monotonic() - began)))
    causes = ", ".join(f"{count} × {cause}" for cause, count in (load.lost - lost).items()) or "0"
    print(f"| {hit} | {load.done - done} | {causes} |", flush=True)


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.chaos", description="The cluster, under fire.")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long stones are thrown (%(default)s)")
    parser.add_argument("--minutes", type=float, default=0.0, help="the same in minutes")
    parser.add_argument("--seed", type=int, default=1, help="which stones (%(default)s)")
    given = parser.parse_args()
    wired = True
    try:
        enter()
    except BenchError as error:
        wired = False
        print(f"Networks are not cut: {error}\n", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="router-cluster-") as folder:
            return asyncio.run(chaos(Path(folder), given.minutes * 60 or given.seconds, given.seed, wired))
    except (BenchError, TimeoutError) as error:
        print(f"chaos: {error or 'the cluster did not come up'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
