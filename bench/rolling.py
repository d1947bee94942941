"""`python -m bench.rolling`: what reload, replaced workers, upgrade and drain cost clients of nginx: asked is nothing.

Two routers with two workers each stand behind the front of `router front nginx`, whom two wrk ask without a pause, one
with GET, one with POST: a GET that fails is repeated by nginx, a POST is not. For each order, many times, now on one
router, now on the other:

    reload      SIGHUP: with another setting, so every worker gets a successor
    replace     SIGTERM to a worker: its slot gets a new one
    upgrade     SIGUSR2: control and workers are replaced by the installed program
    drain       SIGQUIT: the router ends and is started again; the front's file lists it all the time
    interrupted SIGUSR2, and SIGQUIT without a `drain_wait` as soon as there is a new control, whose workers only start

`failed` are requests that wrk saw fail: broken connections, time-outs, error statuses. `refused` are its connections
that were refused. `hidden` is what nginx had to hide: faults of a router after which it asked the other one.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from .behind import Site, Wrk, site, until
from .errors import BenchError

CONNECTIONS = 16
"""Of each wrk."""
PAUSE = 0.3
"""Seconds of load before, between and after orders."""
DRAIN_WAIT = 6.0
"""Seconds: more than `fail_timeout` in the front's file, so that it knows again that the other router is well."""
DRAIN_TIMEOUT = 10.0


async def logged(site: Site, number: int, event: str, order: Callable[[], None]) -> None:
    """Give the order; return when the router has logged the event once more, and what had to go has gone."""
    before = len(site.events(number, event))
    order()
    await until(lambda: len(site.events(number, event)) > before, f"`{event}`")


async def reload(site: Site, number: int) -> None:
    time_out = 61 + len(site.events(number, "configuration-reloaded"))
    site.configure(number, endpoint_timeout=f"{time_out}s")  # without a change workers would stay
    await logged(site, number, "configuration-reloaded", lambda: site.router(number).process.send_signal(signal.SIGHUP))


async def replace(site: Site, number: int) -> None:
    worker = min(site.workers(number).values())  # the older one
    await logged(site, number, "worker-started", lambda: os.kill(worker, signal.SIGTERM))


async def upgrade(site: Site, number: int) -> None:
    await logged(site, number, "upgraded", lambda: site.router(number).process.send_signal(signal.SIGUSR2))


async def drain(site: Site, number: int) -> None:
    child = site.router(number)
    child.process.send_signal(signal.SIGQUIT)
    status = await child.ended
    if status:
        raise BenchError(f"a drained router ended with status {status}")
    await site.restart(number)


async def interrupted(site: Site, number: int) -> None:
    site.configure(number, drain_wait="0s", drain_timeout=f"{DRAIN_TIMEOUT}s")
    await logged(site, number, "router.started", lambda: site.router(number).process.send_signal(signal.SIGUSR2))
    await drain(site, number)
    await asyncio.sleep(DRAIN_WAIT)


ORDERS: dict[str, Callable[[Site, int], Awaitable[None]]] = {
    "reload": reload,
    "replace": replace,
    "upgrade": upgrade,
    "drain": drain,
    "interrupted": interrupted,
}


async def roll(folder: Path, name: str, times: int) -> tuple[str, int]:
    """One order, many times; gives the row and how much was lost."""
    settings = {"drain_wait": f"{DRAIN_WAIT}s", "drain_timeout": f"{DRAIN_TIMEOUT}s"}
    async with site(folder, 2, **settings) as made:
        load = [Wrk(made, method, CONNECTIONS) for method in ("GET", "POST")]
        for wrk in load:
            await wrk.start()
        await asyncio.sleep(PAUSE)
        began = time.monotonic()
        for number in range(times):
            await ORDERS[name](made, number % 2)
            await asyncio.sleep(PAUSE)
        took = (time.monotonic() - began) / times - PAUSE
        gets, posts = [await wrk.stop() for wrk in load]
        faults = made.faults()
    refused = sum(run.errors["connect"] for run in (gets, posts))
    hidden = ", ".join(f"{count} × {what}" for what, count in faults.items()) or "nothing"
    failed = [sum(run.errors.values()) - run.errors["connect"] for run in (gets, posts)]
    told = [f"{run.requests:,}" for run in (gets, posts)]
    row = (
        f"| {name} | {times} | {took:.2f} | {told[0]} | {failed[0]} | {told[1]} | {failed[1]} | {refused} | {hidden} |"
    )
    return row, sum(failed) + refused


async def rolling(names: list[str], times: int) -> int:
    """All orders; gives the exit status: 1 when anything was lost."""
    print("| order | times | s each | GETs | failed | POSTs | failed | refused | hidden |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |", flush=True)
    lost = 0
    for name in names:
        with tempfile.TemporaryDirectory(prefix="router-rolling-") as folder:
            row, more = await roll(Path(folder), name, times)
        print(row, flush=True)
        lost += more
    return 1 if lost else 0


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.rolling", description="Orders to routers under load.")
    parser.add_argument("orders", nargs="*", choices=[*ORDERS, []], help=f"of {', '.join(ORDERS)}; all without")
    parser.add_argument("--times", type=int, default=20, help="how often each is given (%(default)s)")
    given = parser.parse_args()
    try:
        return asyncio.run(rolling(given.orders or [*ORDERS], given.times))
    except BenchError as error:
        print(f"rolling: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
