"""`router front`: the configuration of an nginx or HAProxy before the live routers, printed or kept current."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from router.front.plan import IDLE, LONGEST, MARGIN, Address, Plan, PlanError, address, check, listen_address

if TYPE_CHECKING:
    from router.cli.bus import BusTarget
    from router.config.model import RouterConfig
    from router.control.bus.client import BusSettings
    from router.front.keeper import Keeper
    from router.front.members import Inquiry


@dataclass(frozen=True, slots=True)
class Given:
    """The command line. `interval`: seconds between two looks at who is there; a router that starts is seen at once."""

    kind: str
    bus: BusTarget
    routers: Sequence[str]
    port: int
    listen: str
    certificate: str
    key: str
    trusted: Sequence[str]
    accept_proxy: bool
    send_proxy: bool
    health_port: int
    router_ca: str
    router_name: str
    run_dir: str
    output: str
    watch: bool
    interval: float
    reload: str
    as_json: bool


class FrontError(Exception):
    """Why there is no configuration, in words for the user."""


def front(given: Given) -> int:
    """Print, write or watch; gives the exit status."""
    from router.cli.bus import BusError as TargetError
    from router.cli.check import load_or_report
    from router.front.keeper import Keeper, KeeperError
    from router.front.members import BusError

    loaded = load_or_report(given.bus.config_path)
    if loaded is None:
        return 1
    try:
        plan = _plan(given, loaded.config)
        _render(given.kind, plan)  # what is wrong with the options is told before anything else is tried
        keeper = Keeper(given.kind, Path(given.output), given.reload) if given.output else None
        if given.routers:
            routers = tuple(sorted({address(text, "--router") for text in given.routers}))
            asyncio.run(_deliver(given, keeper, plan.with_routers(routers)))
        else:
            asyncio.run(_from_bus(given, keeper, plan, _bus(given, loaded.config)))
    except (BusError, FrontError, KeeperError, PlanError, TargetError) as error:
        print(f"router front: {error}", file=sys.stderr)
        return 1
    return 0


def _plan(given: Given, config: RouterConfig) -> Plan:
    """The front without its routers. Raises PlanError."""
    for option, port in (("--port", given.port), ("--health-port", given.health_port)):
        if not 0 <= port < 65536:
            raise PlanError(f"{option} {port}: expected a port, 1 to 65535")
    patience, idle = config.endpoint_timeout, config.frontend_idle_timeout
    plan = Plan(
        listen=listen_address(given.listen),
        certificate=given.certificate,
        key=given.key,
        trusted=tuple(given.trusted),
        accept_proxy=given.accept_proxy,
        send_proxy=given.send_proxy,
        health_port=given.health_port,
        user_agent=config.healthcheck_user_agent,
        router_ca=given.router_ca,
        router_name=given.router_name,
        run_dir=given.run_dir,
        answer_timeout=int(patience) + MARGIN if patience > 0 else LONGEST,
        idle_timeout=min(IDLE, max(1, int(idle * 0.8))) if idle > 0 else IDLE,
    )
    check(plan)
    return plan


def _render(kind: str, plan: Plan) -> str:
    from router.front import haproxy, nginx

    return {"nginx": nginx.render, "haproxy": haproxy.render}[kind](plan)


def _bus(given: Given, config: RouterConfig) -> BusSettings:
    from router.cli.bus import bus_settings_for

    settings = bus_settings_for(given.bus, config)
    if settings is None:
        raise FrontError("the configuration has no bus (`nats: null`); name the routers with --router HOST:PORT")
    return settings


# ---------------------------------------------------------------- output


async def _deliver(given: Given, keeper: Keeper | None, plan: Plan) -> None:
    """Print the configuration, or have it in the file and in force. Raises KeeperError and PlanError."""
    text = _render(given.kind, plan)
    if keeper is not None:
        if await keeper.put(text):
            _say(f"{given.output}: {len(plan.routers)} routers: {', '.join(map(str, plan.routers))}")
    elif given.as_json:
        print(json.dumps({"routers": [str(router) for router in plan.routers], "configuration": text}))
    else:
        print(text, end="")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------- members


async def _from_bus(given: Given, keeper: Keeper | None, plan: Plan, settings: BusSettings) -> None:
    """Deliver once, or until a signal when watching."""
    from router.front.members import inquiry

    if keeper is None or not given.watch:
        async with inquiry(settings, lasting=False) as asking:
            await _deliver(given, keeper, plan.with_routers(await _found(given, asking)))
        return
    async with inquiry(settings, lasting=True, say=_say) as asking:
        watching = asyncio.create_task(_watch(given, keeper, plan, asking))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, watching.cancel)
        with suppress(asyncio.CancelledError):
            await watching


async def _found(given: Given, asking: Inquiry) -> tuple[Address, ...]:
    """The routers that answer now. Raises FrontError when there are none, or one without a port."""
    routers, portless = (await asking.ask()).addresses(given.port)
    if portless:
        raise FrontError(_portless(portless))
    if not routers:
        raise FrontError("no router answers on the bus; start one, or name them with --router HOST:PORT")
    return tuple(sorted(routers))


def _portless(hosts: frozenset[str]) -> str:
    return (
        f"{', '.join(sorted(hosts))}: a router there answers without telling its port (not in a fleet: "
        "`fleet.enabled: false`, or one of another make); give the port of all with --port"
    )


async def _watch(given: Given, keeper: Keeper, plan: Plan, asking: Inquiry) -> None:
    """Keep the file current for ever. What goes wrong is said once, and tried again."""
    from router.front.keeper import KeeperError
    from router.front.members import Roster

    roster = Roster()
    say = _news()
    while True:
        asking.started.clear()
        routers, portless = (await asking.ask()).addresses(given.port)
        roster.heard(routers)
        trouble = _portless(portless) if portless else "" if routers else "no router answers; the file stays as it is"
        try:
            if roster.members:
                await _deliver(given, keeper, plan.with_routers(roster.members))
        except KeeperError as error:
            trouble = f"{error}\nIt is tried again."
        say(trouble)
        with suppress(TimeoutError):
            await asyncio.wait_for(asking.started.wait(), given.interval)


def _news() -> Callable[[str], None]:
    """Says what differs from what was said last; nothing at all for an empty text."""
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text and text != last:
            _say(f"router front: {text}")
        last = text

    return say
