"""The router's connection to NATS (contract §2.1, §2.8): what it hears goes to the registry, and it says who it is.

It keeps trying for ever, at start as later: a router without a bus still serves what it knows. We subscribe before we
say that we are there, so no answer is missed. One subscription hears all of `router.*`, because messages of two would
overtake one another, and what an instance unregisters before it registers anew must stay in this order. Subjects other
than `router.register`, `router.unregister` and `router.greet` are other parties' business and not looked into.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from router.control.bus.identity import Identity
from router.control.bus.registrations import Malformed, Registration, read
from router.observe.log import Limiter, Log

PENDING_MESSAGES = 1_000_000
PENDING_BYTES = 1 << 30
"""What may wait between the connection and us before nats-py drops messages."""
RECONNECT_WAIT = 2  # seconds (contract §2.8)
STILL_TRYING = 5.0
"""Seconds between two log lines that say that there is no connection."""
LOGGED_PAYLOAD = 1024
"""Bytes of a malformed message that the log shows."""


class BusSettings(msgspec.Struct, frozen=True):
    """Where the bus is. `servers` are (host, port); `ping_interval` seconds, 0 = no pings."""

    servers: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = ""
    ping_interval: float = 20.0


class Bus:
    """One router's place on the bus."""

    def __init__(
        self,
        settings: BusSettings,
        identity: Identity,
        log: Log,
        *,
        on_register: Callable[[Registration], None],
        on_unregister: Callable[[Registration], None],
        on_change: Callable[[bool], None] = lambda connected: None,
    ) -> None:
        """`on_change` hears of every loss (False) and gain (True) of the connection."""
        self._settings = settings
        self._identity = identity
        self._log = log.component("nats")
        self._subscriber_log = log.component("subscriber")
        self._handlers = {"router.register": on_register, "router.unregister": on_unregister}
        self._on_change = on_change
        self._client = Client()
        self._subscriptions: list[Subscription] = []
        self._connecting: asyncio.Task[None] | None = None
        self._malformed_log = Limiter(60.0)
        self._trying_log = Limiter(STILL_TRYING)
        self.connected = False
        self.since = time.time()
        """When the connection was last gained or lost, unix seconds."""
        self.last_error = "not tried yet"
        self.received: Counter[str] = Counter()
        """Messages by subject."""
        self.malformed: Counter[str] = Counter()
        """Messages dropped, by kind of fault."""
        self.dropped = 0
        """Times that the client had to drop messages because we were too slow."""

    @property
    def servers(self) -> str:
        """The configured servers, for people."""
        return ", ".join(f"nats://{_bracketed(host)}:{port}" for host, port in self._settings.servers)

    @property
    def pending(self) -> int:
        """Messages received but not handled yet."""
        return sum(subscription.pending_msgs for subscription in self._subscriptions)

    # -------------------------------------------------------- life

    def start(self) -> None:
        """Begin to connect; `on_change(True)` tells when that succeeded."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def stop(self) -> None:
        """Leave the bus."""
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._connecting
        with suppress(NatsError, OSError, asyncio.TimeoutError):
            await self._client.close()
        self.connected = False

    async def _connect(self) -> None:
        settings = self._settings
        await self._client.connect(
            servers=[f"nats://{_bracketed(host)}:{port}" for host, port in settings.servers],
            user=settings.user or None,
            password=settings.password or None,
            name=f"router {self._identity.id}",
            connect_timeout=2,
            reconnect_time_wait=RECONNECT_WAIT,
            max_reconnect_attempts=-1,
            ping_interval=settings.ping_interval or 365 * 86400,  # type: ignore[arg-type]
            max_outstanding_pings=2,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
        )
        await self._subscribe("router.*", self._heard)
        await self._here()
        self._log.info("Successfully-connected-to-nats", addr=self._address())

    async def _subscribe(self, subject: str, handler: Any) -> None:
        self._subscriptions.append(
            await self._client.subscribe(
                subject, cb=handler, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
            )
        )

    async def _here(self) -> None:
        """Say that this router is there, so that everybody registers at once."""
        await self._client.publish("router.start", self._identity.start_message)
        await self._client.flush()
        self._now(connected=True)

    def _now(self, *, connected: bool) -> None:
        if connected != self.connected:
            self.connected = connected
            self.since = time.time()
            self._on_change(connected)

    def _address(self) -> str:
        url = self._client.connected_url
        return url.netloc.rpartition("@")[2] if url is not None else ""

    # -------------------------------------------------------- what nats-py tells

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.dropped += 1
            if (held := self._trying_log.allow("slow")) is not None:
                self._log.error("nats-slow-consumer", subject=error.subject, pending=self.pending, suppressed=held)
            return
        self.last_error = str(error) or type(error).__name__
        if not self.connected and self._trying_log.allow("trying") is not None:
            self._log.error(
                "nats-connection-still-disconnected",
                servers=self.servers,
                error=self.last_error,
                retrying=f"every {RECONNECT_WAIT} s",
            )

    async def _disconnected(self) -> None:
        if self.connected:
            self._log.error("nats-connection-disconnected", servers=self.servers, error=self.last_error)
        self._now(connected=False)

    async def _reconnected(self) -> None:
        self._log.info("nats-connection-reconnected", addr=self._address())
        await self._here()

    # -------------------------------------------------------- messages

    async def _heard(self, message: Msg) -> None:
        if message.subject in self._handlers:
            self._registry_message(message)
        elif message.subject == "router.greet":
            await self._greeted(message)

    async def _greeted(self, message: Msg) -> None:
        self.received[message.subject] += 1
        if message.reply:
            await self._client.publish(message.reply, self._identity.start_message)

    def _registry_message(self, message: Msg) -> None:
        subject = message.subject
        self.received[subject] += 1
        try:
            registration = read(message.data)
        except Malformed as error:
            self._drop(subject, message.data, error)
            return
        if registration is not None:
            self._handlers[subject](registration)

    def _drop(self, subject: str, payload: bytes, error: Malformed) -> None:
        self.malformed[error.kind] += 1
        held = self._malformed_log.allow(error.kind)
        if held is not None:
            shown = payload[:LOGGED_PAYLOAD].decode("utf-8", "replace")
            self._subscriber_log.error(
                "validation-error", error=str(error), payload=shown, subject=subject, suppressed=held
            )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
