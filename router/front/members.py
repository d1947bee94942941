"""Which routers are alive, asked of the bus, and who of them is a member of the fleet just now.

    router.fleet.who   answered by every router with its id, its health, and `host`, `ADDRESS:PORT` of its HTTP port
    router.greet       answered by every router, also of other makes, with its id and `hosts`, without a port
                       (contract §2.2)

Both are asked at once. Anybody may answer: what is no IP address and port is left out.

A router that is not ready yet, or drains, counts as silent. So one that drains for long is out before it closes its
ports, and one that is restarted soon after stays in: reloading a front costs more than a refusal that it hides.

A router that misses one question has not gone: messages get lost. And when nobody answers at all, it is the bus that is
gone, for routers serve without it; the last known members stay.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout

from router.config.kinds import split_address
from router.control.bus.client import BusSettings, connect_options
from router.control.bus.visit import visitor
from router.control.errors import reason
from router.front.plan import Address

WHO = "router.fleet.who"
GREET = "router.greet"
STARTED = "router.start"
ANNOUNCED = "router.fleet.announce"
READY = "healthy"
PATIENCE = 0.5
"""Seconds of silence after which nobody else is expected to answer."""
CONNECT_SECONDS = 5.0
MOST_ANNOUNCED = 1000
"""Ready routers that are remembered."""
MISSES = 3
"""Questions in a row that a member leaves unanswered before it is out."""


class BusError(Exception):
    """Why the bus can't be asked, in words for the user."""


class _Answer(msgspec.Struct):
    """An announcement of a fleet, or a start message: what matters here."""

    id: str
    host: str = ""
    hosts: list[str] = []
    health: str = READY


_decode = msgspec.json.Decoder(_Answer).decode


class Answers:
    """What came of one question: `routers` by id. A port is 0 where none was told."""

    def __init__(self) -> None:
        self.routers: dict[str, Address] = {}
        self._not_ready: set[str] = set()

    def add(self, payload: bytes) -> None:
        """One answer; of one router's two the one with a port counts."""
        try:
            told = _decode(payload)
        except msgspec.MsgspecError:
            return
        if told.health != READY:
            self._not_ready.add(told.id)
        with suppress(ValueError):
            host, port = split_address(told.host) if told.host else (next(iter(told.hosts), ""), 0)
            if port or told.id not in self.routers:
                self.routers[told.id] = Address(str(ipaddress.ip_address(host)), port)

    def addresses(self, port: int) -> tuple[frozenset[Address], frozenset[str]]:
        """Where the routers serve, with `port` for all unless it is 0; and the hosts whose port nobody knows."""
        ready = (router for id, router in self.routers.items() if id not in self._not_ready)
        known = {Address(router.host, port or router.port) for router in ready}
        portless = frozenset(router.host for router in known if not router.port)
        return frozenset(router for router in known if router.port), portless


class Roster:
    """Members over time. `members` are sorted, so that the same fleet always makes the same file."""

    def __init__(self) -> None:
        self._missed: dict[Address, int] = {}

    @property
    def members(self) -> tuple[Address, ...]:
        return tuple(sorted(self._missed))

    def heard(self, answered: frozenset[Address]) -> None:
        """These answered the last question."""
        if not answered:
            return
        for router in self._missed:
            self._missed[router] += 1
        self._missed = {router: missed for router, missed in self._missed.items() if missed < MISSES}
        self._missed.update(dict.fromkeys(answered, 0))


class Inquiry:
    """A connection to the bus. `started` is set whenever a router starts or becomes ready."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ready: set[str] = set()
        self.started = asyncio.Event()

    async def ask(self) -> Answers:
        """Who is there. Without a connection nobody answers."""
        answers = Answers()
        if not self._client.is_connected:  # nats-py would keep the question for later
            return answers
        inbox = self._client.new_inbox()
        with suppress(NatsError, OSError):
            subscription = await self._client.subscribe(inbox)
            try:
                for subject in (WHO, GREET):
                    await self._client.publish(subject, reply=inbox)
                while True:
                    answers.add((await subscription.next_msg(PATIENCE)).data)
            except NatsTimeout:
                pass
            finally:
                with suppress(NatsError, OSError):
                    await subscription.unsubscribe()
        return answers

    async def _router_started(self, message: Msg) -> None:
        self.started.set()

    async def _router_announced(self, message: Msg) -> None:
        with suppress(msgspec.MsgspecError):
            told = _decode(message.data)
            if told.health != READY:
                self._ready.discard(told.id)
            elif told.id not in self._ready:
                if len(self._ready) >= MOST_ANNOUNCED:
                    self._ready.clear()
                self._ready.add(told.id)
                self.started.set()

    async def listen(self) -> None:
        """Have `started` set from now on."""
        await self._client.subscribe(STARTED, cb=self._router_started)
        await self._client.subscribe(ANNOUNCED, cb=self._router_announced)


@asynccontextmanager
async def inquiry(
    settings: BusSettings, *, lasting: bool, say: Callable[[str], None] = lambda text: None
) -> AsyncIterator[Inquiry]:
    """A connection to the bus for the time of the block; a `lasting` one is tried and kept for ever.

    `say` gets news of it. Raises BusError when it can't be had.
    """
    client = visitor(settings)
    servers = ", ".join(f"{host}:{port}" for host, port in settings.servers)
    errors: list[str] = []

    async def failed(error: Exception) -> None:
        text = reason(error)
        if lasting and errors[-1:] != [text]:
            say(f"NATS at {servers}: {text}; trying again")
        errors[:] = [text]

    async def reconnected() -> None:
        say(f"NATS at {servers}: connected again")
        errors.clear()

    try:
        async with asyncio.timeout(None if lasting else CONNECT_SECONDS):
            await client.connect(
                **connect_options(settings),
                name="router front",
                connect_timeout=2,
                reconnect_time_wait=2 if lasting else 0,
                max_reconnect_attempts=-1 if lasting else 1,
                ping_interval=2,
                max_outstanding_pings=2,
                error_cb=failed,
                reconnected_cb=reconnected,
            )
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        why = errors[-1] if errors else reason(error)
        raise BusError(f"NATS at {servers} can't be reached: {why}; name another with --nats or -c") from error
    try:
        asking = Inquiry(client)
        await asking.listen()
        yield asking
    finally:
        with suppress(NatsError, OSError, asyncio.TimeoutError):
            await client.close()
