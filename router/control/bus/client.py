"""The router's place on the bus (contract §2.1, §2.8): what it hears goes to the registry, and it says who it is.

It keeps trying for ever, at start as later: a router without a bus still serves what it knows. We subscribe before we
say that we are there, so no answer is missed. Of what is the protocol's only `router.register`, `router.unregister` and
`router.greet` are subscribed to: everything else under `router.` is other parties' business. The first two share one
inbox: what an instance unregisters before it registers anew must stay in this order. Other parts of control listen to
subjects of their own (`listen`).

Whoever dropped messages, the NATS server or this router: the log says so, and everyone is asked to register again.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError
from nats.errors import TimeoutError as NatsTimeout

from router.control.bus.connection import Connection
from router.control.bus.identity import Identity
from router.control.bus.inbox import Inbox
from router.control.bus.registrations import Malformed, Registration, read
from router.control.bus.repeats import Repeats
from router.control.errors import reason
from router.observe.log import Limiter, Log

PENDING_MESSAGES = 100_000
PENDING_BYTES = 1 << 28
"""What of other messages than registrations may wait before nats-py drops them; those have the `Inbox`."""
CONNECT_TIMEOUT = 2  # seconds (contract §2.8)
RECONNECT_WAIT = 2  # seconds (contract §2.8)
UNANSWERED_PINGS = 2
FAREWELL = 2.0
"""Seconds in which a connection must be closed."""
STILL_TRYING = 5.0
"""Seconds between two log lines that say that there is no connection."""
ASK_AGAIN = 10.0
"""Least seconds between two calls to everyone to register again."""
LOGGED_PAYLOAD = 1024
"""Bytes of a malformed message that the log shows."""
_MOST_POSTS = 10_000
_NEVER = 365 * 86400

Heard = Callable[[Registration, float], Any]
Listener = Callable[[Msg], Awaitable[None]]


class BusSettings(msgspec.Struct, frozen=True):
    """Where the bus is and how to be let in. `servers` are (host, port); `ping_interval` seconds, 0 = no pings."""

    servers: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = ""
    token: str = ""
    nkey_seed: str = ""
    credentials: str = ""
    """Path of a credentials file (JWT and nkey)."""
    tls: Callable[[], ssl.SSLContext] | None = None
    """Makes the context for a new connection; None = no TLS."""
    ping_interval: float = 3.0


class Bus:
    """One router's place on the bus."""

    def __init__(
        self,
        settings: BusSettings,
        identity: Identity,
        log: Log,
        *,
        on_register: Heard,
        on_unregister: Heard,
        on_repeat: Callable[[Any, float], bool] = lambda token, heard: False,
        on_change: Callable[[bool], None] = lambda connected: None,
    ) -> None:
        """Handlers of registrations get with each the monotonic second at which it was read.

        What `on_register` gives goes to `on_repeat` when the same message comes again; if that says False, it is read
        anew, as it is after None.
        `on_change` hears of every loss (False) and gain (True) of the connection.
        """
        self._settings = settings
        self._identity = identity
        self._log = log.component("nats")
        self._subscriber_log = log.component("subscriber")
        self._handlers = {"router.register": on_register, "router.unregister": on_unregister}
        self._on_repeat = on_repeat
        self._repeats = Repeats()
        self._on_change = on_change
        self._direct: dict[int, tuple[str, Heard]] = {}  # by number of subscription
        self._listeners: list[tuple[str, str, Listener]] = [("router.greet", "", self._greeted)]
        self._connection: Connection | None = None
        self._closed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._posts: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(_MOST_POSTS)
        self._inbox = Inbox(asyncio.get_running_loop(), self._handle, self._overrun)
        self._malformed_log = Limiter(60.0)
        self._trying_log = Limiter(STILL_TRYING)
        self._asked_at = -ASK_AGAIN
        self._asking: asyncio.TimerHandle | None = None
        self.connected = False
        self.since = time.time()
        """When the connection was last gained or lost, unix seconds."""
        self.last_error = "not tried yet"
        self.received: Counter[str] = Counter()
        """Messages by subject."""
        self.malformed: Counter[str] = Counter()
        """Messages dropped, by kind of fault."""
        self.asked = 0
        """Times that everyone was asked to register again because messages had been dropped."""

    @property
    def servers(self) -> str:
        """The configured servers, for people."""
        return ", ".join(_urls(self._settings))

    @property
    def address(self) -> str:
        """`host:port` of the server that the connection is to; empty without one."""
        url = self._connection.connected_url if self._connection is not None else None
        return url.netloc.rpartition("@")[2] if url is not None else ""

    @property
    def pending(self) -> int:
        """Registrations received but not handled yet."""
        return self._inbox.messages

    @property
    def dropped(self) -> int:
        """Registrations that were dropped because too many were waiting."""
        return self._inbox.dropped

    # -------------------------------------------------------- life

    def listen(self, subject: str, listener: Listener, queue: str = "") -> None:
        """Have `listener` hear messages of `subject`, one of each `queue`; to be called before `start`."""
        self._listeners.append((subject, queue, listener))

    def start(self) -> None:
        """Begin to connect; `on_change(True)` tells when that succeeded."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._send_posts())]

    async def stop(self) -> None:
        """Leave the bus."""
        if self._asking is not None:
            self._asking.cancel()
        # nats-py swallows a cancellation that comes while it connects.
        self._stopping.set()
        self._closed.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._leave()
        self.connected = False

    async def _run(self) -> None:
        """Be connected. nats-py follows a server that goes; when it gives up for good, a new connection is made."""
        while not self._stopping.is_set():
            self._closed.clear()
            try:
                await self._connect()
                await self._closed.wait()
                if self._stopping.is_set():
                    return
                why = self._connection.last_error if self._connection is not None else None
                self.last_error = str(why or "closed by the server")
                self._log.error("nats-connection-closed", error=self.last_error, retrying=f"in {RECONNECT_WAIT} s")
            except (NatsError, OSError, ValueError, TimeoutError) as error:
                await self._failed(error)
            await self._leave()
            self._now(connected=False)
            await asyncio.sleep(RECONNECT_WAIT)

    async def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # After a TLS handshake that failed nats-py would wait for a farewell for ever.
            closing = asyncio.get_running_loop().create_task(connection.close())
            await asyncio.wait({closing}, timeout=FAREWELL)
            if not closing.cancel():
                closing.exception()

    async def _connect(self) -> None:
        settings = self._settings
        self._connection = connection = Connection(self._inbox.put, tls=settings.tls)
        await connection.connect(
            **connect_options(settings),
            name=f"router {self._identity.id}",
            connect_timeout=CONNECT_TIMEOUT,
            reconnect_time_wait=RECONNECT_WAIT,
            max_reconnect_attempts=-1,
            ping_interval=settings.ping_interval or _NEVER,  # type: ignore[arg-type]
            max_outstanding_pings=UNANSWERED_PINGS,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            closed_cb=self._closed_for_good,
        )
        self._direct.clear()
        for subject, handler in self._handlers.items():
            self._direct[connection.next_is_direct()] = subject, handler
            await connection.subscribe(subject)
        for subject, queue, listener in self._listeners:
            await connection.subscribe(
                subject,
                queue=queue,
                cb=listener,
                pending_msgs_limit=PENDING_MESSAGES,
                pending_bytes_limit=PENDING_BYTES,
            )
        await self._here()
        self._log.info("Successfully-connected-to-nats", addr=self.address)

    async def _here(self) -> None:
        """Say that this router is there, so that everybody registers at once."""
        assert self._connection is not None
        self._asked_at = time.monotonic()
        await self._connection.publish("router.start", self._identity.start_message)
        await self._connection.flush()
        self._now(connected=True)

    def _now(self, *, connected: bool) -> None:
        if connected != self.connected:
            self.connected = connected
            self.since = time.time()
            self._on_change(connected)

    # -------------------------------------------------------- out

    def post(self, subject: str, payload: bytes) -> None:
        """Publish soon, in order; without a connection the message is lost, as it may be on the way."""
        if self.connected and not self._posts.full():
            self._posts.put_nowait((subject, payload))

    async def _send_posts(self) -> None:
        while True:
            subject, payload = await self._posts.get()
            if self._connection is not None:
                with suppress(NatsError, OSError):
                    await self._connection.publish(subject, payload)

    async def answers(self, subject: str, payload: bytes, patience: float) -> AsyncGenerator[bytes, None]:
        """Ask, and give every answer until none has come for `patience` seconds."""
        connection = self._connection
        if connection is None or not self.connected:
            return
        inbox = connection.new_inbox()
        with suppress(NatsError, OSError):
            subscription = await connection.subscribe(
                inbox, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
            )
            try:
                await connection.publish(subject, payload, reply=inbox)
                while True:
                    try:
                        message = await subscription.next_msg(patience)
                    except NatsTimeout:
                        return
                    if message.headers and message.headers.get("Status") == "503":
                        return  # nobody listens
                    yield message.data
            finally:
                with suppress(NatsError, OSError):
                    await subscription.unsubscribe()

    # -------------------------------------------------------- what nats-py tells

    async def _failed(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            if (held := self._trying_log.allow("slow")) is not None:
                self._log.error("nats-slow-consumer", subject=error.subject, suppressed=held)
            return
        self.last_error = reason(error)
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
        self._log.info("nats-connection-reconnected", addr=self.address)
        await self._here()

    async def _closed_for_good(self) -> None:
        self._closed.set()

    # -------------------------------------------------------- messages

    async def _greeted(self, message: Msg) -> None:
        self.received[message.subject] += 1
        if message.reply:
            await message.respond(self._identity.start_message)

    def _handle(self, read_at: float, sid: int, payload: bytes) -> None:
        if sid not in self._direct:
            return  # of a connection that is no more
        subject, handler = self._direct[sid]
        self.received[subject] += 1
        key = hash(payload) if subject == "router.register" else 0
        token = self._repeats.find(key)
        if token is not None and self._on_repeat(token, read_at):
            return
        try:
            registration = read(payload)
        except Malformed as error:
            self._drop(subject, payload, error.kind, str(error))
            return
        if registration is None:
            return
        try:
            token = handler(registration, read_at)
            if token is not None and key:
                self._repeats.keep(key, token, read_at)
        except Exception as error:
            # A fault of ours with one message must not keep the others from being heard.
            self._drop(subject, payload, "failed", f"internal error: {error!r}")

    def _drop(self, subject: str, payload: bytes, kind: str, reason: str) -> None:
        self.malformed[kind] += 1
        held = self._malformed_log.allow(kind)
        if held is not None:
            shown = payload[:LOGGED_PAYLOAD].decode("utf-8", "replace")
            self._subscriber_log.error(
                "validation-error", error=reason, payload=shown, subject=subject, suppressed=held
            )

    # -------------------------------------------------------- what was missed

    def _overrun(self, dropped: int) -> None:
        self._log.error(
            "nats-slow-consumer",
            dropped=dropped,
            remedy="everyone is asked to register again; if it comes often, give this machine more CPU",
        )
        if self._asking is None:
            wait = max(0.0, self._asked_at + ASK_AGAIN - time.monotonic())
            self._asking = asyncio.get_running_loop().call_later(wait, self._ask_again)

    def _ask_again(self) -> None:
        self._asking = None
        self._asked_at = time.monotonic()
        self.asked += 1
        self.post("router.start", self._identity.start_message)


def connect_options(settings: BusSettings) -> dict[str, Any]:
    """Arguments of nats-py's `connect`: where to, and the proofs that are given."""
    options = {
        "servers": _urls(settings),
        "user": settings.user,
        "password": settings.password,
        "token": settings.token,
        "nkeys_seed_str": settings.nkey_seed,
        "user_credentials": Path(settings.credentials) if settings.credentials else None,
    }
    return {name: value for name, value in options.items() if value}


def _urls(settings: BusSettings) -> list[str]:
    scheme = "tls" if settings.tls is not None else "nats"
    return [f"{scheme}://{_bracketed(host)}:{port}" for host, port in settings.servers]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
