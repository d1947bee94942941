"""`python -m bench.cluster.chaos`: the cluster of `bench.cluster` under checked load, while its processes are killed.

- The load: clients that send requests without a pause through both fronts, GET and POST, each with a token of its own.
  An answer is right only if it has the token, the body and the path, and is of the app that was asked.
- The stones: every few seconds a process, chosen by the seed, is killed (SIGKILL) and started again after a moment, or
  frozen (SIGSTOP) for a moment, or a router is told to reload, to upgrade or to open its logs anew.
- A front that is dead refuses its clients; they go to the other one, as clients of two addresses do: that is no loss.
- What is counted: answers that are wrong in any way, error statuses, and requests whose connection broke or that took
  longer than PATIENCE. A row has what was lost from its stone until the next one.
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
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import aiohttp

from router.demo.family import Child, Family

from ..errors import BenchError
from ..processes import free_port
from .__main__ import HOSTS, START_SECONDS, complete, start
from .layout import FRONTS, LOOPBACK, Layout

CLIENTS = 16
PATIENCE = 10.0
"""Seconds for one answer."""
EVERY = 4.0
"""Seconds between two stones."""
AWAY = 1.0
"""Seconds until a process that was killed is started again, or one that was frozen goes on."""
ORDERS = {"reload": signal.SIGHUP, "upgrade": signal.SIGUSR2, "reopen": signal.SIGUSR1}
"""What a router is told by which signal (docs/operating.md)."""
KINDS = (
    *("nats", "control", "router", "worker", "app", "front"),
    *("frozen nats", "frozen worker", "frozen app"),
    *ORDERS,
)


class Load:
    """Clients of the fronts, and what became of their requests."""

    def __init__(self, fronts: list[int], seed: int) -> None:
        self._fronts = fronts
        self._random = random.Random(seed)
        self.done = 0
        self.lost: Counter[str] = Counter()
        self.wrong: list[str] = []
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
        if {key: told.get(key) for key in right} != right or token in self.seen:
            self.wrong.append(f"{right} was asked for, {told} came")
        self.seen.add(token)
        self.done += 1


class Stones:
    """Throws them at a running cluster."""

    def __init__(self, layout: Layout, family: Family, seed: int) -> None:
        self._layout = layout
        self._family = family
        self._random = random.Random(seed)

    async def throw(self, kind: str) -> str:
        """One stone; gives what was hit. Returns when it is up again or goes on."""
        if kind in ORDERS:
            child = self._random.choice(self._named("router-"))
            child.process.send_signal(ORDERS[kind])
            return f"{child.name}: {kind}"
        frozen = kind.startswith("frozen ")
        what = kind.removeprefix("frozen ")
        if what == "worker":
            pid = self._random.choice(_children(self._random.choice(self._named("router-")).process.pid))
            os.kill(pid, signal.SIGSTOP if frozen else signal.SIGKILL)
            await asyncio.sleep(AWAY)
            if frozen:
                os.kill(pid, signal.SIGCONT)
            return f"a {what}, {'frozen' if frozen else 'killed'}"
        prefixes = {"nats": "nats-", "control": "router-", "router": "router-", "front": "nginx-"}
        child = self._random.choice(self._named(prefixes[what]) if what in prefixes else self._instances())
        if frozen:
            child.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(AWAY)
            child.process.send_signal(signal.SIGCONT)
        else:
            await self._replace(child, alone=what == "control")
        return f"{child.name}{', control only' * (what == 'control')}, {'frozen' if frozen else 'killed'}"

    async def _replace(self, child: Child, *, alone: bool) -> None:
        """Kill it, with its process group unless `alone`, and start it again."""
        if alone:
            child.process.kill()
        else:
            os.killpg(child.process.pid, signal.SIGKILL)
        await child.ended
        await asyncio.sleep(AWAY)
        children = self._family.servers if child in self._family.servers else self._family.apps
        children[children.index(child)] = await self._family.start(child.name, *child.argv)

    def _named(self, prefix: str) -> list[Child]:
        return [child for child in self._family.servers if child.name.startswith(prefix)]

    def _instances(self) -> list[Child]:
        return [child for child in self._family.apps if not child.name.startswith(("regist", "api"))]


def _children(pid: int) -> list[int]:
    """Workers of a control."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


async def chaos(folder: Path, seconds: float, seed: int) -> int:
    """Everything; gives the exit status: 1 when an answer was wrong."""
    family = Family(folder)
    layout = Layout(folder, [free_port() for _ in range(FRONTS)])
    load = Load(layout.fronts, seed)
    clients: list[asyncio.Task[None]] = []
    try:
        await start(layout, family)
        async with asyncio.timeout(START_SECONDS):
            await complete(layout)
        clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
        stones = Stones(layout, family, seed)
        order = random.Random(seed)
        end = time.monotonic() + seconds
        print(f"| stone (seed {seed}) | answers | lost |\n| --- | ---: | --- |", flush=True)
        await _between(load, asyncio.sleep(0, "none"))
        while time.monotonic() < end:
            for kind in order.sample(KINDS, len(KINDS)):
                if time.monotonic() < end:
                    await _between(load, stones.throw(kind))
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await family.stop()
    lost = sum(load.lost.values())
    print(f"\n{load.done} right answers, {len(load.wrong)} wrong, {lost} lost: {dict(load.lost)}")
    for text in load.wrong[:10]:
        print(text, file=sys.stderr)
    return 1 if load.wrong else 0


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
    parser.add_argument("--seed", type=int, default=1, help="which stones (%(default)s)")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="router-cluster-") as folder:
            return asyncio.run(chaos(Path(folder), given.seconds, given.seed))
    except (BenchError, TimeoutError) as error:
        print(f"chaos: {error or 'the cluster did not come up'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
