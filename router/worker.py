"""One worker: keeps the data plane as control wants it, and tells control how it fares.

`Worker` takes the frames of the feed in order and knows nothing of how they travel: over a socket in a process of its
own (`router.worker_link`), by direct call inside control with `workers: 0`. Rules:

- A table change is applied a slice at a time, at most `SLICE` operations a turn of the loop, so that no request waits
  for a big one. A whole table is built aside and put in force in one step.
- Without control the worker goes on serving on its last table; what it would report adds up meanwhile.
- Run as a program it is a child of control: `python -m router.worker SLOT FEED BLOCK SPAWNED LISTENER…`, where the
  capitals but the first and fourth are inherited file descriptors, and SPAWNED is control's monotonic clock.
- Nothing here may import what a worker does not need: a worker starts in a tenth of a second.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from router.frames import frame
from router.in_flight import InFlight
from router.messages import (
    FEED_VERSION,
    AskRoute,
    Attach,
    Delta,
    EndpointUnfit,
    Explain,
    Explained,
    FromWorker,
    HealthState,
    Leaving,
    Listen,
    Listening,
    Ready,
    ReopenLog,
    RouteHint,
    SendTable,
    Setup,
    SpanRecord,
    Spans,
    Stop,
    Table,
    TablePart,
    ToWorker,
)
from router.observe.log import Log
from router.proxy.plane import Plane
from router.table.routes import RouteTable
from router.worker_link import stay_attached

SLICE = 256
"""Table operations applied in one turn of the loop: about a millisecond."""
BULK = 64
"""Operations at once that are a table, or a burst of registrations."""
OP_BYTES = 256
"""Bytes that count as an operation: one may bring many endpoints."""
STATS_INTERVAL = 1.0
"""Seconds between two `Stats`."""
ASK_TIMEOUT = 1.0
"""Seconds that an error page waits for what control knows about a host."""
STOP_GRACE = 1.0
"""Seconds for requests in flight when the process is asked to stop by a signal."""
LEAVE_PATIENCE = 20.0
"""Seconds that it then listens on, for want of a successor."""
SPANS_WAITING = 4 * 1024 * 1024
"""Bytes on their way to control above which no sampled requests are added."""
LAST_WORDS = 1.0
"""Seconds that control may take to read the last `Stats`."""

_decode = msgspec.msgpack.Decoder(ToWorker).decode


class Link(Protocol):
    """The way to control."""

    @property
    def waiting(self) -> int:
        """Bytes that were sent and control has not read yet."""
        ...

    def send(self, data: bytes) -> None:
        """Send one frame."""

    def drained(self) -> None:
        """All frames received so far are applied."""

    def close(self) -> None:
        """End it, after what was sent."""


class Worker:
    """The data plane under orders. `block` is the in-flight block's descriptor, `sockets` are bound, maybe listening.

    `spawned` is the monotonic second in which whoever wanted this worker began to make it. Without `log` it makes one
    as its settings say.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        block: int,
        sockets: list[socket.socket],
        spawned: float,
        log: Log | None = None,
    ) -> None:
        self.loop = loop
        self.log = log
        self.block = block
        self.sockets = sockets
        self.spawned = spawned
        self.link: Link | None = None
        """None while there is no control."""
        self.done: asyncio.Future[None] = loop.create_future()
        """Set when the worker has stopped; with an exception when it could not serve."""
        self.owns_process = False
        """Nobody else's objects are here: the garbage collector may be set for a big table."""
        self.listening = False
        self.leaving = False
        """A signal has asked it to go."""
        self.stopping = False
        self.ready = False
        """A whole table is in force."""
        self.plane: Plane | None = None
        self.setup: Setup | None = None
        """The orders in force, None before the first."""
        self.backlog = 0
        """Bytes of frames received and not yet applied."""
        self._orphaned = False
        self._opening: asyncio.Task[None] | None = None
        """Begins to listen."""
        self._queue: deque[bytes] = deque()
        self._building: RouteTable | None = None
        self._asks: dict[int, asyncio.Future[list[str]]] = {}
        self._ask_numbers = itertools.count(1)
        self._stats_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers: dict[type, Callable[[Any], None]] = {
            Setup: self._take_setup,
            Table: self._take_table,
            Delta: self._take_delta,
            HealthState: self._take_health,
            RouteHint: self._take_hint,
            SendTable: lambda _: self._send_parts(self._plane.dump()),
            Listen: self._take_listen,
            ReopenLog: lambda _: self._plane.reopen_log(),
            Explain: self._explain,
            Stop: lambda message: self.stop(message.grace),
        }

    @property
    def _plane(self) -> Plane:
        assert self.plane is not None, "Setup is the first frame"
        return self.plane

    # ------------------------------------------------------------ frames in

    def frame_received(self, payload: bytes) -> None:
        """Take one frame; it takes effect in this turn of the loop or a later one, after those before it."""
        self._queue.append(payload)
        self.backlog += len(payload)
        if len(self._queue) == 1:
            self.loop.call_soon(self._apply_slice)

    def _apply_slice(self) -> None:
        if self.owns_process:
            gc.disable()
        done = self._apply()
        if done is None:
            return
        if self.owns_process:
            # What comes in bulk stays. The collector would walk all of it, again and again: half a second at a time.
            if done >= BULK:
                gc.freeze()
            gc.enable()
        if self._queue:
            self.loop.call_soon(self._apply_slice)
        elif self.link is not None:
            self.link.drained()

    def _apply(self) -> int | None:
        """Apply frames for one turn: what that cost, in table operations; None when the worker can't go on."""
        budget = SLICE
        while self._queue and budget > 0:
            payload = self._queue[0]
            try:
                message = _decode(payload)
                self._handlers[type(message)](message)
            except Exception as error:
                # Half a change leaves a table that nobody meant. Control makes a new worker, with a whole one.
                self._fail(error)
                return None
            budget -= max(len(message.ops), len(payload) // OP_BYTES) if isinstance(message, Table | Delta) else 1
            self._queue.popleft()
            self.backlog -= len(payload)
        return SLICE - budget

    def _take_setup(self, message: Setup) -> None:
        settings = message.settings
        if self.plane is None:
            log = self.log or Log(settings.log_source, settings.log_level, settings.log_timestamp)
            in_flight = InFlight(self.block, message.lane)
            in_flight.activate(message.lanes)
            self.plane = Plane(self.loop, in_flight, log)
            self.plane.ask_route = self.ask_route
            self.plane.hand_over = self.hand_over
            self.plane.unfit = lambda key, id, reason: self.send(EndpointUnfit(key, id, reason))
            self._stats_timer = self.loop.call_later(STATS_INTERVAL - time.monotonic() % STATS_INTERVAL, self._report)
        else:
            self.plane.in_flight.activate(message.lanes)
            if self._orphaned:
                self._orphaned = False
                self.plane.log.info("control-found", slot=message.slot)
        self.setup = message
        self.plane.configure(settings)

    def _take_table(self, message: Table) -> None:
        plane = self._plane
        if message.first:
            self._building = plane.new_table()
        table = self._building
        assert table is not None, "a table has a first piece"
        table.apply(message.ops)
        if message.last:
            self._building = None
            plane.swap_table(table)
            if not self.ready:
                self.ready = True
                self.send(Ready(os.getpid(), (time.monotonic() - self.spawned) * 1000))

    def _take_delta(self, message: Delta) -> None:
        self._plane.table.apply(message.ops)

    def _take_health(self, message: HealthState) -> None:
        self._plane.health = message

    def _explain(self, message: Explain) -> None:
        from router.proxy.explain import explain  # seldom asked for, so not at the start

        self.send(Explained(message.ask, explain(self._plane, message)))

    def _take_hint(self, message: RouteHint) -> None:
        waiting = self._asks.get(message.ask)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.lines)

    def _take_listen(self, message: Listen) -> None:
        self._opening = self._in_background(self._listen())

    async def _listen(self) -> None:
        if not self.listening:
            # The plane closes what it listens on; ours stay open for the day we need a new control.
            await self._plane.listen([sock.dup() for sock in self.sockets])
            self.listening = True
        self.send(Listening())

    def _send_parts(self, parts: Iterator[TablePart]) -> None:
        """One part a turn: a big table must not hold up requests."""
        part = next(parts, None)
        if part is not None:
            self.send(part)
            self.loop.call_soon(self._send_parts, parts)

    # ------------------------------------------------------------ to control

    def send(self, message: FromWorker) -> None:
        """Tell control; without one nobody hears it."""
        if self.link is not None:
            self.link.send(frame(message))

    def hand_over(self, records: list[SpanRecord]) -> bool:
        """Sampled requests for control; False = there is none, or it doesn't keep up."""
        if self.link is None or self.link.waiting > SPANS_WAITING:
            return False
        self.send(Spans(records))
        return True

    async def ask_route(self, host: str) -> list[str]:
        """What control knows about a host that is not in the table: lines for a person, none when it can't say."""
        if self.link is None:
            return []
        ask = next(self._ask_numbers)
        waiting = self._asks[ask] = self.loop.create_future()
        self.send(AskRoute(ask, host))
        try:
            return await asyncio.wait_for(waiting, ASK_TIMEOUT)
        except TimeoutError:
            return []
        finally:
            del self._asks[ask]

    def _report(self) -> None:
        # All workers report on the whole second, so that each of control's seconds holds one report of every worker.
        wait = STATS_INTERVAL - time.monotonic() % STATS_INTERVAL
        if wait < STATS_INTERVAL / 2:  # this one came a little early
            wait += STATS_INTERVAL
        self._stats_timer = self.loop.call_later(wait, self._report)
        if self.link is not None:
            self.send(self._plane.stats())

    def control_lost(self) -> None:
        """The feed has ended: go on alone. What has come in by then is still applied."""
        self.link = None
        self._orphaned = True
        for waiting in self._asks.values():
            if not waiting.done():
                waiting.set_result([])
        if self.plane is not None and not self.stopping:
            self.plane.log.warn("control-lost", serving="on the last table")

    def offer(self) -> tuple[Attach, list[int]]:
        """What to say to a new control, and the descriptors that go with it."""
        assert self.setup is not None, "a worker without orders has nothing to offer"
        addresses = [sock.getsockname()[:2] for sock in self.sockets]
        attach = Attach(
            FEED_VERSION,
            self.setup.slot,
            self.setup.lane,
            os.getpid(),
            self._plane.in_flight.capacity,
            addresses,
        )
        return attach, [*(sock.fileno() for sock in self.sockets), self.block]

    # ------------------------------------------------------------ the end

    def leave(self, grace: float) -> None:
        """Stop, as soon as control has somebody in its place: clients would wait at a port where nobody accepts.

        At once without control, or when asked again.
        """
        if self.leaving or self.link is None or not self.listening:
            self.stop(grace)
        else:
            self.leaving = True
            self.send(Leaving(grace))
            self.loop.call_later(LEAVE_PATIENCE, self.stop, grace)

    def stop(self, grace: float) -> None:
        """Listen no more; when requests in flight are done or `grace` seconds have passed, `done` is set."""
        if not self.stopping:
            self.stopping = True
            self._in_background(self._stop(grace))

    async def _stop(self, grace: float) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()
        if self._opening is not None:
            await asyncio.wait({self._opening})  # who is half open could not close
        if self.plane is not None:
            await self.plane.stop(grace)
            self.send(self.plane.stats())
        if self._stats_timer is not None:
            self._stats_timer.cancel()
        if self.link is not None:
            self.link.close()
        if not self.done.done():
            self.done.set_result(None)

    def _in_background(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)
        return task

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def _serve(feed: int, block: int, spawned: float, listeners: list[int]) -> int:
    loop = asyncio.get_running_loop()
    worker = Worker(loop, block, [socket.socket(fileno=fd) for fd in listeners], spawned)
    worker.owns_process = True
    loop.add_signal_handler(signal.SIGTERM, worker.leave, STOP_GRACE)
    feeding = loop.create_task(stay_attached(worker, socket.socket(fileno=feed)))
    await asyncio.wait({worker.done, feeding}, return_when=asyncio.FIRST_COMPLETED)
    if worker.stopping:
        await asyncio.wait({worker.done})  # it has a successor, and finishes what it has begun
    if not worker.done.done():
        return 0  # control went before this worker could serve: nobody will miss it
    await asyncio.wait({feeding}, timeout=LAST_WORDS)
    if (error := worker.done.exception()) is not None:
        if worker.plane is None:
            sys.stderr.write(f"router: worker: {error!r}\n")
        else:
            worker.plane.log.error("worker-failed", error=repr(error))
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """Be a worker until told to stop; gives the exit status."""
    try:
        slot, feed, block, spawned, *listeners = arguments
        descriptors = [int(text) for text in (feed, block, *listeners)]
        began = float(spawned)
    except ValueError:
        sys.stderr.write("router.worker is started by the router, not by hand: use `router run`\n")
        return 2
    # What a terminal or a supervisor sends to the whole group is control's to decide on.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    import setproctitle
    import uvloop

    setproctitle.setproctitle(f"router: worker {slot}")
    return uvloop.run(_serve(descriptors[0], descriptors[1], began, descriptors[2:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
