"""`workers: 0`: control and one worker in one process, for tests and embedders.

The same worker, feed and frames as with processes; only nothing can die on its own, so nothing is replaced.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from router.control.feed import Feed, LocalLink
from router.control.inquiry import Inquiries
from router.control.office import Office
from router.control.sockets import Listeners
from router.control.state import WorkerState
from router.frames import frame
from router.in_flight import InFlight
from router.messages import AskRoute, EndpointUnfit, Explained, Listen, Listening, RouteHint, Spans, Stats
from router.observe.log import Log
from router.worker import Worker

SLOT = 0


class LocalKeeper:
    """Keeps the one worker; the same calls as `keeper.Keeper`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        office: Office,
        feed: Feed,
        in_flight: InFlight,
        listeners: list[Listeners],
    ) -> None:
        self._loop = loop
        self._office = office
        self._feed = feed
        self._listeners = listeners
        self._inquiries = Inquiries(loop)
        self._listens: asyncio.Future[None] = loop.create_future()
        sockets = [each.of(SLOT).dup() for each in listeners]
        self.worker = Worker(loop, in_flight.fd, sockets, time.monotonic(), log)
        self.worker.done.add_done_callback(self._done)
        self._link = LocalLink(loop, self.worker, self._heard)

    def start(self) -> None:
        """Set the worker up and give it the table."""
        self._link.send(frame(self._office.setup_for(SLOT, SLOT, [SLOT])))
        self._feed.add(self._link)
        self._link.send(frame(self._office.health))

    async def begin(self, timeout: float) -> int:
        """Have the worker accept connections: 1 when it does, 0 when it does not within `timeout` seconds.

        Raises what keeps the worker from it.
        """
        self._link.send(frame(Listen()))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._listens)
        except TimeoutError:
            pass
        return self.listening

    async def replace_all(self, grace: float) -> bool:
        """There is one process only: the worker takes over the settings in force as far as it can."""
        self.renew_settings()
        return True

    async def stop(self, grace: float) -> bool:
        """Close the ports, give requests in flight `grace` seconds, and return when the worker is done."""
        began = self._loop.time()
        self._feed.remove(self._link)
        self.worker.stop(grace)
        for listeners in self._listeners:
            listeners.close()
        await asyncio.wait({self.worker.done})
        return self._loop.time() - began < grace

    def renew_settings(self) -> None:
        """The office gives out other settings now: tell the worker."""
        self._link.send(frame(self._office.setup_for(SLOT, SLOT, [SLOT])))

    async def explain(self, client: str, secure: bool, head: bytes) -> dict[str, Any] | None:
        """What the worker would do with a request (`proxy.explain`)."""
        return await self._inquiries.ask(self._link.send, client, secure, head)

    @property
    def listening(self) -> int:
        """1 when the worker accepts connections."""
        return int(self._listens.done() and not self._listens.exception())

    def states(self) -> list[WorkerState]:
        """There is no process that a later control could find."""
        return []

    def _heard(self, message: Any) -> None:
        match message:
            case Stats():
                self._office.stats_received(SLOT, message)
            case Spans():
                self._office.spans_received(message.records)
            case EndpointUnfit():
                self._office.endpoint_unfit(message)
            case Explained():
                self._inquiries.answered(message)
            case AskRoute():
                self._link.send(frame(RouteHint(message.ask, self._office.hints_for(message.host))))
            case Listening():
                if not self._listens.done():
                    self._listens.set_result(None)

    def _done(self, done: asyncio.Future[None]) -> None:
        """The worker has stopped: in order, or because it could not serve."""
        if not self._listens.done() and (error := done.exception()) is not None:
            self._listens.set_exception(error)
