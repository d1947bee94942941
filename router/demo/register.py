"""How an app gets its routes: the registering side of the router protocol, whole and in one class.

A routing table lives by repetition. An instance publishes `router.register` when it starts, when a router starts or
comes back (`router.start`), and again at the interval that routers name; whoever falls silent is forgotten.
`router.unregister` takes the route away at once. Messages are JSON, nothing is answered to them, and any NATS client
can send them: nothing here is special to this router.

    python -m router.demo.register 9000 mine.localhost        # speaks for a server on 127.0.0.1:9000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self

import nats
import nats.errors
from nats.aio.msg import Msg

DEFAULT_NATS = "nats://127.0.0.1:4222"
DEFAULT_INTERVAL = 5
"""Seconds between registrations while no router has named an interval."""


class Registration:
    """Keeps one instance registered for as long as its `async with` block lasts.

    `message` is what `router.register` carries: at least `host`, `port` and `uris`; better also `app`,
    `private_instance_id` and `private_instance_index`, which reach the app as `X-CF-…` headers and the access log.
    """

    def __init__(self, server: str, message: Mapping[str, object]) -> None:
        self._server = server
        self._message = json.dumps(message).encode()
        self._interval = DEFAULT_INTERVAL

    async def __aenter__(self) -> Self:
        self._bus = await nats.connect(
            self._server,
            max_reconnect_attempts=-1,  # for ever, also if the server is not there yet
            reconnected_cb=self._register,
            error_cb=_complain,
        )
        await self._bus.subscribe("router.start", cb=self._router_spoke)
        answers = await self._bus.subscribe(self._bus.new_inbox(), cb=self._router_spoke)
        await self._register()
        await self._bus.publish("router.greet", reply=answers.subject)
        self._repeating = asyncio.create_task(self._repeat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._repeating.cancel()
        with suppress(nats.errors.Error):  # no NATS, nobody to tell
            await self._bus.publish("router.unregister", self._message)
            await self._bus.flush(timeout=1)
        await self._bus.close()

    async def _register(self) -> None:
        await self._bus.publish("router.register", self._message)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._register()

    async def _router_spoke(self, start: Msg) -> None:
        """A router started, or answers our greeting: it names its interval, and may not know us yet."""
        self._interval = json.loads(start.data)["minimumRegisterIntervalInSeconds"] or DEFAULT_INTERVAL
        await self._register()


async def until_stopped() -> None:
    """Wait for SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def _complain(error: Exception) -> None:
    sys.stderr.write(f"nats: {error or type(error).__name__}\n")


async def _main(server: str, message: dict[str, Any]) -> None:
    async with Registration(server, message):
        sys.stderr.write(f"registered {', '.join(message['uris'])}; Ctrl-C unregisters\n")
        await until_stopped()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m router.demo.register", description="Registers a server until Ctrl-C."
    )
    parser.add_argument("port", type=int, help="port that the server listens on")
    parser.add_argument("uris", nargs="+", metavar="uri", help="route: a host, or host/path")
    parser.add_argument("--host", default="127.0.0.1", help="address of the server (%(default)s)")
    parser.add_argument("--nats", default=DEFAULT_NATS, help="NATS server (%(default)s)")
    given = parser.parse_args()
    asyncio.run(_main(given.nats, {"host": given.host, "port": given.port, "uris": given.uris}))
