"""A worker's end of the feed when it is a process: a socket to control, and the search for a new control.

Control that stops in order says so with a `Stop` before the feed ends. When the feed ends without, control has died:
the worker serves on and looks for the next one at `RUN_DIR/control.sock`, where it offers its listening sockets and
the in-flight block (`Attach`), so that nothing is lost and no port is ever closed.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, cast

from router.frames import FrameError, Splitter, frame

if TYPE_CHECKING:
    from router.worker import Worker

RETRY_INTERVAL = 0.1
"""Seconds between two looks for a new control."""
CONTROL_SOCKET = "control.sock"
"""Where control waits for orphaned workers, in its `run_dir`."""
_HIGH = 8 * 1024 * 1024
"""Bytes of frames waiting to be applied at which no more are read."""


class ControlLink(asyncio.Protocol):
    """One connection to control, for `worker`."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.lost: asyncio.Future[None] = worker.loop.create_future()
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.worker.link = self

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._splitter.split(data):
                self.worker.frame_received(payload)
        except FrameError:
            self.close()
        if self.worker.backlog > _HIGH and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def drained(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.worker.control_lost()
        self.lost.set_result(None)

    @property
    def waiting(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def stay_attached(worker: Worker, feed: socket.socket) -> None:
    """Keep `worker` fed: by `feed`, then by every control that comes after.

    Returns when the worker is stopping, or lost control before it got to serve.
    """
    while True:
        feed.setblocking(False)
        _, link = await worker.loop.create_unix_connection(partial(ControlLink, worker), sock=feed)
        await link.lost
        found = await _find_control(worker) if worker.listening else None
        if found is None:
            return
        feed = found


async def _find_control(worker: Worker) -> socket.socket | None:
    """A connection to a new control, the offer already made; None when the worker stops first."""
    assert worker.setup is not None
    path = f"{worker.setup.run_dir}/{CONTROL_SOCKET}"
    while not worker.stopping:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(path)
            attach, descriptors = worker.offer()
            socket.send_fds(sock, [frame(attach)], descriptors)
            return sock
        except OSError:
            sock.close()
        await asyncio.sleep(RETRY_INTERVAL)
    return None
