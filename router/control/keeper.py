"""The workers' lives: every slot has a worker, always; one that dies or freezes is replaced at once.

- A slot keeps its listening sockets over all its workers. Every process has a lane of the in-flight block to itself.
- A worker is replaced without a gap (`replace_all`): the new one listens on the same sockets before the old one stops
  to, and the old one stays until its requests, downloads and websockets have ended, or their time is up.
- A worker that does not live `QUICK` seconds is replaced at once the first time, then after growing delays, so that a
  mistake in the installation makes clear messages and no busy loop.
- A worker that says nothing for `SILENCE` seconds (it has to report every second) is killed and replaced.
- A new worker is told its settings, the whole table, the health, and, once the router has begun and the worker has all
  that, to listen.
- Ports are closed by those who listen, last of all: only they can take in clients who have come and wait. A worker that
  only starts holds the sockets too, and would keep them open with nobody there, so it ends before.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Iterable
from typing import Any

from router.control.feed import Feed, SocketLink
from router.control.inquiry import Inquiries
from router.control.office import Office
from router.control.processes import Process, spawn
from router.control.sockets import Listeners
from router.control.state import WorkerState
from router.frames import frame
from router.in_flight import LANES, InFlight
from router.messages import (
    AskRoute,
    EndpointUnfit,
    Explained,
    Leaving,
    Listen,
    Listening,
    Ready,
    RouteHint,
    SendTable,
    Spans,
    Stats,
    Stop,
    TablePart,
)
from router.observe.log import Log

QUICK = 5.0
"""Seconds: a worker that dies younger counts as a failed start."""
FIRST_DELAY = 0.5
"""Seconds before the third start of a worker that keeps dying; doubled with every further one."""
LONGEST_DELAY = 30.0
"""Seconds: never wait longer than this."""
SILENCE = 10.0
"""Seconds without a word after which a worker counts as frozen."""
WATCH_INTERVAL = 1.0
"""Seconds between two looks at all workers."""
PATIENCE = 1.0
"""Seconds a process may outlive the end of its link or of its grace before it is killed."""
REPLACE_TIMEOUT = 20.0
"""Seconds for a worker to take over from another."""
TABLE_TIMEOUT = 10.0
"""Seconds for an adopted worker to hand over the table it serves."""


class Seat:
    """A slot with its worker, if it has one just now."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.worker: WorkerHandle | None = None
        self.failed_starts = 0
        """Workers in a row that did not live `QUICK` seconds."""
        self.retry: asyncio.TimerHandle | None = None


class WorkerHandle:
    """One worker process, its link, and what is known of it. Times are the loop's."""

    def __init__(self, seat: Seat, lane: int, now: float) -> None:
        self.seat = seat
        self.lane = lane
        """Where it counts requests in flight."""
        self.leaving = False
        """It has a successor and ends when its requests have."""
        self.started = asyncio.Event()
        """It listens, or it has ended."""
        self.born = now
        self.heard = now
        self.ready = False
        self.wanted = False
        """It is to listen as soon as it is ready."""
        self.listening = False
        self.link: SocketLink
        self.process: Process
        self.parts: asyncio.Queue[TablePart | None] = asyncio.Queue()
        """The table it serves, when asked for it; None: it is gone."""


class Keeper:
    """Keeps one worker process a slot."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        office: Office,
        feed: Feed,
        in_flight: InFlight,
        listeners: list[Listeners],
        workers: int,
        strangers: Iterable[WorkerState] = (),
    ) -> None:
        """`strangers`: workers of an earlier control that only finish what they have begun; their lanes are taken."""
        self._loop = loop
        self._log = log
        self._office = office
        self._feed = feed
        self._in_flight = in_flight
        self._listeners = listeners
        self.seats = [Seat(slot) for slot in range(workers)]
        self._strangers = list(strangers)
        self._all: set[WorkerHandle] = set()
        """Every process: in its seat, about to take one, or leaving."""
        self._begun = False
        self._stopping = False
        self._all_listening = asyncio.Event()
        self._all_gone = asyncio.Event()
        self._watch: asyncio.TimerHandle | None = None
        self._watched = loop.time()
        self._tasks: set[asyncio.Task[object]] = set()
        self._inquiries = Inquiries(loop)

    # ------------------------------------------------------------ what control asks for

    def start(self) -> None:
        """Fill every seat. The workers get their table, but do not listen yet."""
        for seat in self.seats:
            if seat.worker is None:
                self._fill(seat)
        self._watched = self._loop.time()
        self._watch = self._loop.call_later(WATCH_INTERVAL, self._look_around)

    async def begin(self, timeout: float) -> int:
        """Have all workers accept connections, now and in future.

        Returns how many do: all of them, or those that manage within `timeout` seconds.
        """
        self._begun = True
        for worker in self._workers():
            self._open(worker)
        try:
            await asyncio.wait_for(self._all_listening.wait(), timeout)
        except TimeoutError:
            pass
        return self.listening

    async def stop(self, grace: float) -> bool:
        """Close the ports, give requests in flight `grace` seconds, and return when no worker is left.

        True: nothing had to be cut.
        """
        began = self._loop.time()
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
        for seat in self.seats:
            if seat.retry is not None:
                seat.retry.cancel()
        await self._end_starts()
        for listeners in self._listeners:
            listeners.close()
        for worker in self._workers():
            worker.link.send(frame(Stop(grace)))
        if not self._workers():
            return True
        try:
            await asyncio.wait_for(self._all_gone.wait(), grace + PATIENCE)
        except TimeoutError:
            for worker in self._workers():
                self._log.warn("worker-killed", slot=worker.seat.slot, pid=worker.process.pid, reason="too slow")
                worker.process.kill()
            await self._all_gone.wait()
        return self._loop.time() - began < grace

    async def _end_starts(self) -> None:
        """End workers that have not been told to listen: no client can be with them."""
        starting = [worker for worker in self._all if not (worker.ready and worker.wanted)]
        for worker in starting:
            worker.process.kill()
        for worker in starting:
            await worker.started.wait()

    async def explain(self, client: str, secure: bool, head: bytes) -> dict[str, Any] | None:
        """What a worker would do with a request (`proxy.explain`); None when none can be asked."""
        for worker in self._workers():
            if worker.ready:
                return await self._inquiries.ask(worker.link.send, client, secure, head)
        return None

    def renew_settings(self) -> None:
        """The office gives out other settings now: tell every worker."""
        for worker in self._workers():
            self._tell(worker)

    def states(self) -> list[WorkerState]:
        """Which processes there are, for the next control."""
        return [
            WorkerState(w.seat.slot, w.process.pid, w.process.started, w.lane, w.seat.worker is not w)
            for w in self._workers()
        ]

    @property
    def leaving(self) -> int:
        """How many workers only finish what they have begun."""
        return sum(worker.leaving for worker in self._all)

    @property
    def listening(self) -> int:
        """How many workers accept connections."""
        return sum(seat.worker is not None and seat.worker.listening for seat in self.seats)

    def _workers(self) -> list[WorkerHandle]:
        return sorted(self._all, key=lambda worker: (worker.seat.slot, worker.born))

    @property
    def _lanes(self) -> list[int]:
        return sorted(worker.lane for worker in self._all)

    # ------------------------------------------------------------ replacement

    async def replace_all(self, grace: float) -> bool:
        """Put a new worker in every seat, one after the other; the old ones get `grace` seconds to end.

        False: a new worker did not come to listen; then it and those after it are as they were.
        """
        for seat in self.seats:
            if seat.worker is not None and not await self._replace(seat, seat.worker, grace):
                return False
        return True

    async def _replace(self, seat: Seat, old: WorkerHandle, grace: float) -> bool:
        new = self._spawn(seat)
        if new is None:
            return False
        self._open(new)
        try:
            await asyncio.wait_for(new.started.wait(), REPLACE_TIMEOUT)
        except TimeoutError:
            pass
        if self._stopping:
            return False
        if not new.listening:
            new.leaving = True
            new.process.kill()
            self._log.error("worker-not-replaced", slot=seat.slot, reason="the new worker does not listen")
            return False
        if seat.retry is not None:
            seat.retry.cancel()
        # The old one may have died meanwhile, or been replaced on its own wish: then another sits there.
        before, seat.worker = {old, seat.worker or old}, new
        for worker in before:
            if not worker.leaving:
                worker.leaving = True
                worker.link.send(frame(Stop(grace)))
        self._office.workers_changed()
        return True

    def _let_go(self, worker: WorkerHandle, grace: float) -> None:
        """A worker wants to go: find it a successor."""
        if worker.seat.worker is worker and self._begun and not self._stopping:
            self._in_background(self._replace(worker.seat, worker, grace))

    # ------------------------------------------------------------ adopted workers

    async def adopt(self, slot: int, lane: int, pid: int, sock: socket.socket, received: bytes) -> None:
        """Put a worker of an earlier control into its seat; `received` came behind its offer.

        It goes on as it is until `start`. Raises ProcessLookupError when it has just died.
        """
        worker = self._handle(self.seats[slot], lane, received)
        worker.ready = worker.wanted = True
        worker.process = Process(self._loop, pid, lambda how: self._exited(worker, how))
        worker.seat.worker = worker
        self._take_in(worker)
        await self._connect(worker, sock)

    async def table_of_adopted(self) -> list[TablePart] | None:
        """The table that adopted workers serve, from the first that can tell; None when there is none to ask."""
        for worker in self._workers():
            worker.link.send(frame(SendTable()))
            parts: list[TablePart] = []
            try:
                async with asyncio.timeout(TABLE_TIMEOUT):
                    while (part := await worker.parts.get()) is not None:
                        parts.append(part)
                        if part.last:
                            return parts
            except TimeoutError:
                self._log.warn("worker-table-missing", slot=worker.seat.slot, pid=worker.process.pid)
        return None

    def introduce_adopted(self) -> None:
        """Give adopted workers their orders and the table, as to new ones."""
        for worker in self._workers():
            self._introduce(worker)
            if self._begun:
                self._open(worker)
        self._office.workers_changed()

    # ------------------------------------------------------------ filling a seat

    def _fill(self, seat: Seat) -> None:
        seat.retry = None
        worker = self._spawn(seat)
        if worker is None:
            self._refill(seat, failed=True)
            return
        seat.worker = worker
        if self._begun:
            self._open(worker)
        self._office.workers_changed()

    def _spawn(self, seat: Seat) -> WorkerHandle | None:
        """A new process for a seat, which it does not take yet; None when the system has no room for it."""
        self._strangers = [state for state in self._strangers if state.alive]
        free = set(range(LANES)).difference(self._lanes, (state.lane for state in self._strangers))
        if not free:
            self._log.error("worker-not-started", slot=seat.slot, error="too many leaving workers, wait for their end")
            return None
        lane = min(free)
        ours, theirs = socket.socketpair()
        worker = self._handle(seat, lane)
        try:
            worker.process = spawn(
                self._loop,
                seat.slot,
                theirs,
                self._in_flight.fd,
                [listeners.of(seat.slot) for listeners in self._listeners],
                lambda how: self._exited(worker, how),
            )
        except OSError as error:
            ours.close()
            self._log.error("worker-not-started", slot=seat.slot, error=error.strerror or str(error))
            return None
        finally:
            theirs.close()
        self._take_in(worker)
        self._introduce(worker)
        self._in_background(self._connect(worker, ours))
        return worker

    def _open(self, worker: WorkerHandle) -> None:
        """Have it listen, now or as soon as it is ready."""
        worker.wanted = True
        if worker.ready:
            worker.link.send(frame(Listen()))

    def _in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _handle(self, seat: Seat, lane: int, received: bytes = b"") -> WorkerHandle:
        worker = WorkerHandle(seat, lane, self._loop.time())
        worker.link = SocketLink(
            lambda message: self._heard(worker, message), lambda why: self._lost(worker, why), received
        )
        return worker

    def _take_in(self, worker: WorkerHandle) -> None:
        """There is one more process: the others have to count its requests."""
        others = list(self._all)
        self._all.add(worker)
        self._in_flight.activate(self._lanes)
        for other in others:
            self._tell(other)

    def _tell(self, worker: WorkerHandle) -> None:
        worker.link.send(frame(self._office.setup_for(worker.seat.slot, worker.lane, self._lanes)))

    async def _connect(self, worker: WorkerHandle, sock: socket.socket) -> None:
        sock.setblocking(False)
        await self._loop.create_unix_connection(lambda: worker.link, sock=sock)

    def _introduce(self, worker: WorkerHandle) -> None:
        self._tell(worker)
        self._feed.add(worker.link)
        worker.link.send(frame(self._office.health))

    # ------------------------------------------------------------ what workers say

    def _heard(self, worker: WorkerHandle, message: Any) -> None:
        worker.heard = self._loop.time()
        match message:
            case Stats():
                self._office.stats_received(worker.lane, message)
            case Spans():
                self._office.spans_received(message.records)
            case EndpointUnfit():
                self._office.endpoint_unfit(message)
            case Explained():
                self._inquiries.answered(message)
            case AskRoute():
                worker.link.send(frame(RouteHint(message.ask, self._office.hints_for(message.host))))
            case Ready():
                worker.ready = True
                if worker.wanted and not self._stopping:
                    self._open(worker)
                self._log.info(
                    "worker-started",
                    slot=worker.seat.slot,
                    pid=message.pid,
                    start_ms=round(message.start_ms, 1),
                )
            case Listening():
                worker.listening = True
                worker.started.set()
                if self.listening == len(self.seats):
                    self._all_listening.set()
                self._office.workers_changed()
            case Leaving():
                self._let_go(worker, message.grace)
            case TablePart():
                worker.parts.put_nowait(message)

    def _lost(self, worker: WorkerHandle, why: str) -> None:
        """The link is gone: the process has ended, is about to, or must."""
        self._feed.remove(worker.link)
        worker.parts.put_nowait(None)
        if worker.process.alive and not self._stopping:
            self._loop.call_later(PATIENCE, self._end, worker, why)

    def _end(self, worker: WorkerHandle, why: str) -> None:
        if worker.process.alive:
            self._log.error("worker-killed", slot=worker.seat.slot, pid=worker.process.pid, reason=why)
            worker.process.kill()

    def _exited(self, worker: WorkerHandle, how: str) -> None:
        seat = worker.seat
        self._all.discard(worker)
        worker.started.set()
        self._in_flight.clear(worker.lane)
        self._office.worker_gone(worker.lane)
        lived = self._loop.time() - worker.born
        if self._stopping:
            if not self._all:
                self._all_gone.set()
            return
        if seat.worker is not worker:
            self._log.info("worker-left", slot=seat.slot, pid=worker.process.pid, how=how, lived=round(lived, 1))
            self._office.workers_changed()
            return
        seat.worker = None
        self._all_listening.clear()
        self._log.error("worker-exited", slot=seat.slot, pid=worker.process.pid, how=how, lived=round(lived, 1))
        self._refill(seat, failed=lived < QUICK)
        self._office.workers_changed()

    def _refill(self, seat: Seat, *, failed: bool) -> None:
        seat.failed_starts = seat.failed_starts + 1 if failed else 0
        delay = 0.0
        if seat.failed_starts > 1:
            delay = min(FIRST_DELAY * 2 ** (seat.failed_starts - 2), LONGEST_DELAY)
            self._log.error(
                "worker-crash-loop",
                slot=seat.slot,
                failed_starts=seat.failed_starts,
                next_try_in=delay,
                remedy="see what the workers wrote before they ended; the other slots go on",
            )
        seat.retry = self._loop.call_later(delay, self._fill, seat)

    # ------------------------------------------------------------ the watch

    def _look_around(self) -> None:
        now = self._loop.time()
        late = now - self._watched
        self._watched = now
        self._watch = self._loop.call_later(WATCH_INTERVAL, self._look_around)
        for worker in self._workers():
            if late > 2 * WATCH_INTERVAL:
                worker.heard = now  # it was control that slept: what workers said still waits to be read
            elif now - worker.heard > SILENCE:
                self._log.error(
                    "worker-killed",
                    slot=worker.seat.slot,
                    pid=worker.process.pid,
                    reason=f"it has said nothing for {SILENCE:.0f} s",
                )
                worker.process.kill()
