"""How a restarted control finds the workers of the one before it.

`state.json` tells which ones live. They look for a new control by themselves (`router.worker_link`) and offer their
listening sockets and the in-flight block at `RUN_DIR/control.sock`. So a restart of control costs no connection and
no count. Who comes late, or does not fit the configuration, is dismissed: it stops in order, after its requests.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from router.control.sockets import Address
from router.control.state import RunDir, WorkerState
from router.frames import FrameError, Splitter, frame
from router.in_flight import capacity_of
from router.messages import FEED_VERSION, FRAME_HEADER, Attach, FromWorker, Stop
from router.observe.log import Log

WAIT = 2.0
"""Seconds for orphans to come; they look every 0.1 s."""
DISMISS_GRACE = 1.0
"""Seconds that a dismissed worker has for its requests in flight; as many again, and it is killed."""
_MOST_DESCRIPTORS = 16
_READ = 64 * 1024  # bytes; more than an offer ever has
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)

_decode = msgspec.msgpack.Decoder(FromWorker).decode


@dataclass(slots=True)
class Offer:
    """A worker at the door: its connection and what came over it. Whoever takes the offer owns all of it."""

    attach: Attach
    pid: int
    """As the kernel tells it."""
    connection: socket.socket
    listeners: list[socket.socket]
    block: int
    """Descriptor of the in-flight block."""
    received: bytes
    """What the worker sent behind its offer."""

    def close(self) -> None:
        """Let go of everything."""
        self.connection.close()
        for sock in self.listeners:
            sock.close()
        os.close(self.block)


class Doorstep:
    """Listens at `path` for as long as control lives. Every offer goes to `on_offer`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: Path, on_offer: Callable[[Offer], None]) -> None:
        self.on_offer = on_offer
        self._loop = loop
        self._visitors: dict[int, _Visitor] = {}
        path.unlink(missing_ok=True)  # of a control that died; the lock says that none lives
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._sock.bind(str(path))
        self._sock.listen(64)
        loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except OSError:
            return  # gone again, or no descriptor free just now: it will try once more
        connection.setblocking(False)
        visitor = _Visitor(connection)
        self._visitors[connection.fileno()] = visitor
        self._loop.add_reader(connection.fileno(), self._read, visitor)

    def _read(self, visitor: _Visitor) -> None:
        try:
            offer = visitor.read()
        except BlockingIOError:
            return
        except (OSError, EOFError, FrameError, msgspec.MsgspecError):
            self._show_out(visitor)
            visitor.close()
            return
        if offer is not None:
            self._show_out(visitor)
            self.on_offer(offer)

    def _show_out(self, visitor: _Visitor) -> None:
        number = visitor.connection.fileno()
        self._loop.remove_reader(number)
        del self._visitors[number]

    def close(self) -> None:
        """Open no more; who is half in is sent away."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for visitor in list(self._visitors.values()):
            self._show_out(visitor)
            visitor.close()


class _Visitor:
    """A connection whose offer is not complete yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = b""
        self._descriptors: list[int] = []

    def read(self) -> Offer | None:
        """Take what has come. Raises EOFError, OSError, FrameError, MsgspecError when it becomes no offer."""
        data, descriptors, _, _ = socket.recv_fds(self.connection, _READ, _MOST_DESCRIPTORS)
        for descriptor in descriptors:
            # An upgrade would inherit it, and keep a port open that nobody serves. `recv_fds` heeds no flags.
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        if not data:
            raise EOFError
        self._data += data
        payload = next(Splitter().split(self._data), None)
        if payload is None:
            return None
        attach = _decode(payload)
        if not isinstance(attach, Attach) or len(self._descriptors) != len(attach.addresses) + 1:
            raise FrameError("not an offer")
        pid, _, _ = _CREDENTIALS.unpack(
            self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        *listeners, block = self._descriptors
        return Offer(
            attach,
            pid,
            self.connection,
            [socket.socket(fileno=number) for number in listeners],
            block,
            self._data[FRAME_HEADER + len(payload) :],
        )

    def close(self) -> None:
        self.connection.close()
        for number in self._descriptors:
            os.close(number)


class Adoption:
    """The workers of an earlier control, found when this one starts.

    `offers` are those that fit, `block` the in-flight block they count in, None without any. `found`: some were alive,
    fitting or not, so they may still hold the port.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Log, run_dir: RunDir) -> None:
        self.offers: list[Offer] = []
        self.block: int | None = None
        self.found = False
        self.leaving: list[WorkerState] = []
        """Those that only finish what they have begun."""
        self.addresses: list[Address] = []
        """Where to listen, with the true ports once a worker that listens there is found."""
        self._loop = loop
        self._log = log
        self._run_dir = run_dir
        self._arrivals: asyncio.Queue[Offer] = asyncio.Queue()
        self._doorstep = Doorstep(loop, run_dir.socket_path, self._arrivals.put_nowait)

    async def gather(self, workers: int, addresses: list[Address]) -> None:
        """Wait for the workers of an earlier control, at most `WAIT` seconds, and choose.

        `workers` and `addresses` are what the configuration wants; those that don't fit are dismissed, those that don't
        come are killed.
        """
        self.addresses = addresses
        states = self._run_dir.load()
        self.leaving = [state for state in states if state.leaving]
        expected = {state.pid: state for state in states if not state.leaving}
        self.found = bool(expected)
        try:
            async with asyncio.timeout(WAIT):
                while expected:
                    offer = await self._arrivals.get()
                    expected.pop(offer.pid, None)
                    self._consider(offer, workers)
        except TimeoutError:
            pass
        for state in expected.values():
            _kill(self._log, state)
        self._doorstep.on_offer = lambda offer: self._dismiss(offer, "it came too late")
        while not self._arrivals.empty():
            self._dismiss(self._arrivals.get_nowait(), "it was not expected")

    def _consider(self, offer: Offer, workers: int) -> None:
        """Keep or dismiss one; where a port is 0, the first one's is that of the next ones."""
        attach = offer.attach
        sockets = offer.listeners
        if attach.version != FEED_VERSION:
            why = f"it speaks version {attach.version} of the feed, not {FEED_VERSION}"
        elif attach.slot >= workers or attach.slot in (other.attach.slot for other in self.offers):
            why = f"there is no place for it among {workers} workers"
        elif len(sockets) != len(self.addresses) or not all(map(Address.is_that_of, self.addresses, sockets)):
            why = f"it does not listen on {' and '.join(map(str, self.addresses))}"
        elif not capacity_of(offer.block) or (self.block and not os.path.sameopenfile(self.block, offer.block)):
            why = "it counts its requests elsewhere"
        else:
            if self.block is None:
                self.block = os.dup(offer.block)
            self.offers.append(offer)
            self.addresses = list(map(Address.settled, self.addresses, sockets))
            return
        self._dismiss(offer, why)

    def _dismiss(self, offer: Offer, why: str) -> None:
        """Have a worker stop in order; it is killed when it does not."""
        self._log.info("worker-dismissed", slot=offer.attach.slot, pid=offer.pid, reason=why)
        try:
            pidfd = os.pidfd_open(offer.pid)
        except ProcessLookupError:
            offer.close()
            return
        try:
            offer.connection.sendall(frame(Stop(DISMISS_GRACE)))
        except OSError:
            pass  # it has gone, or it will be killed
        offer.close()
        self._loop.call_later(2 * DISMISS_GRACE, _make_sure, pidfd)

    def take(self) -> list[Offer]:
        """The fitting offers, now the caller's; their descriptors of the block are closed."""
        offers, self.offers = self.offers, []
        for offer in offers:
            os.close(offer.block)
        return offers

    def close(self) -> None:
        """Open the door no more. Workers whose offer nobody took go on looking for a control."""
        self._doorstep.close()
        for offer in self.offers:
            offer.close()


def _make_sure(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.close(pidfd)


def _kill(log: Log, state: WorkerState) -> None:
    """Kill a worker that lives but did not come."""
    try:
        pidfd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return
    if state.alive:  # asked again now that the descriptor holds the process
        log.warn("worker-killed", slot=state.slot, pid=state.pid, reason="it did not come to this control")
        _make_sure(pidfd)
    else:
        os.close(pidfd)
