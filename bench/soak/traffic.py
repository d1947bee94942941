"""Clients of every kind at fixed rates, and routes that come and go. Every answer is checked.

Rates, together a quarter of a core or less with router and apps:

    small       tiny GETs over kept connections, the ones whose latency is told
    fresh       tiny GETs, each over a connection of its own
    large       downloads of 1 MiB
    posts       a body of 16 KiB that comes back
    slow        an app that answers after half a second
    sockets     WebSockets that exchange a message a second, each open for a minute
    readers     downloads of 1 MiB, read at 64 KiB a second
    churn       a route of a new name: registered, asked for, and unregistered or left to go stale
    past        routes that come and go at once, in the first minutes: control remembers the last 50,000 changes, and
                memory is steady only when it does
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import aiohttp
import nats

from ..errors import BenchError

LOOPBACK = "127.0.0.1"
SMALL_HOST, APP_HOST = "small.soak.localhost", "app.soak.localhost"
LARGE = 1 << 20
SMALL_CLIENTS, SMALL_EVERY = 20, 0.05
RATES: dict[str, float] = {"fresh": 5, "large": 1, "posts": 5, "slow": 2, "churn": 10}
"""A second."""
SOCKETS, READERS = 20, 4
SOCKET_LIFE = 60
"""Messages, one a second."""
READ_BYTES = 64 * 1024
"""A second."""
CHURN_LIFE = 5.0
"""Seconds that a churned route lives, if it is unregistered."""
PAST, PAST_EVERY = 26_000, 0.01
"""Routes, of two changes each, and the seconds between two."""
HEARTBEAT = 5.0
TIMEOUT = 20.0


class WrongError(Exception):
    """An answer that is not the one that was due."""


class Traffic:
    """All of it, from `start` until the block ends; `latencies` are seconds of small requests since they were taken."""

    def __init__(self, router: int, nginx: int, app: int, bus: int) -> None:
        self._router = router
        self._ports = {SMALL_HOST: nginx, APP_HOST: app}
        self._bus_port = bus
        self._churned = 0
        self._small_request = f"GET /small HTTP/1.1\r\nHost: {SMALL_HOST}\r\n\r\n".encode()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession
        self._bus: nats.NATS
        self.latencies: list[float] = []
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    async def start(self) -> None:
        """Register, and begin when the routes are there."""
        self._bus = await nats.connect(f"nats://{LOOPBACK}:{self._bus_port}")
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        self._spawn(self._heartbeat())
        for host, path in ((SMALL_HOST, "/small"), (APP_HOST, "/slow")):
            await self._routed(host, path)
        for number in range(SMALL_CLIENTS):
            self._spawn(self._small(number / SMALL_CLIENTS * SMALL_EVERY))
        for number in range(SOCKETS):
            self._spawn(self._for_ever("sockets", self._socket, number * SOCKET_LIFE / SOCKETS))
        for number in range(READERS):
            self._spawn(self._for_ever("readers", self._reader, float(number)))
        self._spawn(self._past())
        kinds = {
            "fresh": self._fresh,
            "large": self._large,
            "posts": self._post,
            "slow": self._slow,
            "churn": self._churn,
        }
        for name, act in kinds.items():
            self._spawn(self._at_rate(name, act))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        await self._bus.close()

    async def _routed(self, host: str, path: str) -> None:
        """Return when this is answered."""
        for _ in range(int(TIMEOUT / 0.1)):
            if (await self._get(host, path))[0] == 200:
                return
            await asyncio.sleep(0.1)
        raise BenchError(f"the router does not know {host}")

    # ------------------------------------------------------------ when

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _at_rate(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        """Begin one every so often, however long they take."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._spawn(self._counted(name, act))
            due += 1 / RATES[name]
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _for_ever(self, name: str, act: Callable[[], Awaitable[None]], wait: float) -> None:
        await asyncio.sleep(wait)
        while True:
            await self._counted(name, act)
            await asyncio.sleep(0.1)

    async def _counted(self, name: str, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
            self.done[name] += 1
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, TimeoutError, WrongError) as error:
            self.errors[f"{name}: {type(error).__name__} {error}"] += 1

    # ------------------------------------------------------------ what

    async def _get(self, host: str, path: str) -> tuple[int, bytes]:
        async with self._session.get(f"http://{LOOPBACK}:{self._router}{path}", headers={"Host": host}) as response:
            return response.status, await response.read()

    def _ask(self, status: int) -> None:
        if status != 200:
            raise WrongError(f"status {status}")

    async def _small(self, wait: float) -> None:
        """One client with one connection: no aiohttp, for there are many such requests."""
        await asyncio.sleep(wait)
        while True:
            await self._counted("small", self._small_connection)

    async def _small_connection(self) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._router)
        try:
            while True:
                began = time.perf_counter()
                async with asyncio.timeout(TIMEOUT):
                    writer.write(self._small_request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(13)
                if not head.startswith(b"HTTP/1.1 200 ") or b"\r\nContent-Length: 13\r\n" not in head:
                    raise WrongError(head[:20].decode(errors="replace"))
                took = time.perf_counter() - began
                self.latencies.append(took)
                self.done["small"] += 1
                await asyncio.sleep(max(0.0, SMALL_EVERY - took))
        finally:
            writer.close()

    async def _fresh(self) -> None:
        headers = {"Host": SMALL_HOST, "Connection": "close"}
        async with self._session.get(f"http://{LOOPBACK}:{self._router}/small", headers=headers) as response:
            self._ask(response.status)
            await response.read()

    async def _large(self) -> None:
        status, body = await self._get(SMALL_HOST, f"/bytes/{LARGE}")
        self._ask(status)
        if len(body) != LARGE:
            raise WrongError(f"{len(body)} bytes")

    async def _post(self) -> None:
        body = os.urandom(16 * 1024)
        url = f"http://{LOOPBACK}:{self._router}/echo"
        async with self._session.post(url, data=body, headers={"Host": APP_HOST}) as response:
            self._ask(response.status)
            if await response.read() != body:
                raise WrongError("another body")

    async def _slow(self) -> None:
        self._ask((await self._get(APP_HOST, "/slow"))[0])

    async def _socket(self) -> None:
        url = f"http://{LOOPBACK}:{self._router}/websocket"
        endless = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=endless) as session,
            session.ws_connect(url, headers={"Host": APP_HOST}) as socket,
        ):
            for number in range(SOCKET_LIFE):
                await socket.send_str(f"message {number}")
                if (await socket.receive_str(timeout=TIMEOUT)) != f"message {number}":
                    raise WrongError("another message")
                await asyncio.sleep(1.0)

    async def _reader(self) -> None:
        """A slow client, over a connection with a small window."""
        reader, writer = await asyncio.open_connection(LOOPBACK, self._router, limit=READ_BYTES)
        try:
            request = f"GET /bytes/{LARGE} HTTP/1.1\r\nHost: {SMALL_HOST}\r\nConnection: close\r\n\r\n"
            for half in (request[:20], request[20:]):  # a head that comes slowly
                writer.write(half.encode())
                await asyncio.sleep(0.5)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise WrongError(head[:20].decode(errors="replace"))
            for _ in range(LARGE // READ_BYTES):
                await reader.readexactly(READ_BYTES)
                await asyncio.sleep(1.0)
        finally:
            writer.close()

    # ------------------------------------------------------------ routes

    async def _say(self, subject: str, host: str, port: int, app: str) -> None:
        message = {"host": LOOPBACK, "port": port, "uris": [host], "app": app, "private_instance_id": app}
        await self._bus.publish(f"router.{subject}", json.dumps(message).encode())

    async def _heartbeat(self) -> None:
        while True:
            for host, port in self._ports.items():
                await self._say("register", host, port, host)
            await asyncio.sleep(HEARTBEAT)

    async def _past(self) -> None:
        for number in range(PAST):
            for subject in ("register", "unregister"):
                host = f"past-{number}.soak.localhost"
                await self._say(subject, host, self._ports[SMALL_HOST], f"past-{number}")
            await asyncio.sleep(PAST_EVERY)

    async def _churn(self) -> None:
        """A new app: its route is asked for; every other one goes without a word and is forgotten as stale."""
        self._churned = number = self._churned + 1
        host, port = f"churn-{number}.soak.localhost", self._ports[SMALL_HOST]
        await self._say("register", host, port, f"app-{number}")
        await asyncio.sleep(CHURN_LIFE / 5)
        self._ask((await self._get(host, "/small"))[0])
        if number % 2:
            await asyncio.sleep(CHURN_LIFE)
            await self._say("unregister", host, port, f"app-{number}")
