"""Control's end of the feed: table changes to all workers, and one link a worker.

- What changes in one turn of the loop goes out at its end, encoded once for all workers. What changes nothing makes no
  operations, so it reaches no worker.
- A worker that comes gets the whole table first. It is listed at once, so that it is of one moment, and encoded and
  sent only as fast as the worker takes it; changes that happen meanwhile wait behind it.
- A worker that does not keep up is given up before its backlog takes all memory.
- A frame is what a worker applies without a pause, so it carries no more than `CHUNK` operations.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from router.frames import FrameError, Splitter, frame
from router.messages import FRAME_HEADER, Delta, FromWorker, NewRoute, Table, TableOp, ToWorker

if TYPE_CHECKING:
    from router.worker import Worker

CHUNK = 256
"""Table operations at which a frame is full; each endpoint of a new route counts as one."""
MAX_BACKLOG = 64 * 1024 * 1024
"""Bytes that may wait for one worker."""

_decode = msgspec.msgpack.Decoder(FromWorker).decode


class Link(Protocol):
    """The way to one worker."""

    def send(self, data: bytes) -> None:
        """Send one frame, behind all that was sent before."""

    def send_table(self, frames: Iterator[bytes]) -> None:
        """Send these frames likewise, each made when there is room for it."""

    def close(self) -> None:
        """Drop the connection and what waits."""


class Feed:
    """All links. `snapshot` gives the operations that make the whole table of this moment."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        snapshot: Callable[[], Iterable[TableOp]],
        standing: Callable[[], Iterable[TableOp]] = tuple,
    ) -> None:
        """`standing` gives operations that a worker needs besides, once the whole table is in force."""
        self._loop = loop
        self._standing = standing
        self._snapshot = snapshot
        self._links: set[Link] = set()
        self._gathered: list[TableOp] = []

    def publish(self, ops: Iterable[TableOp]) -> None:
        """The table has changed by these operations."""
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.extend(ops)

    def _flush(self) -> None:
        ops, self._gathered = self._gathered, []
        if self._links:
            for part in _parts(ops):
                data = frame(Delta(part))
                for link in tuple(self._links):
                    link.send(data)

    def add(self, link: Link) -> None:
        """Send the whole table over this link, then every change."""
        self._flush()  # what is gathered is in the snapshot already: for the others only
        link.send_table(table_frames(list(self._snapshot())))
        self._links.add(link)
        for part in _parts(self._standing()):
            link.send(frame(Delta(part)))

    def remove(self, link: Link) -> None:
        """No more changes for this link."""
        self._links.discard(link)

    def broadcast(self, message: ToWorker) -> None:
        """Send one message to all workers that have a table, behind every change so far."""
        self._flush()
        data = frame(message)
        for link in tuple(self._links):
            link.send(data)


def table_frames(ops: Iterable[TableOp]) -> Iterator[bytes]:
    """The frames that make a whole table of these operations."""
    first, held = True, None
    for part in _parts(ops):
        if held is not None:
            yield frame(Table(held, first=first, last=False))
            first = False
        held = part
    yield frame(Table(held or [], first=first, last=True))


def _parts(ops: Iterable[TableOp]) -> Iterator[list[TableOp]]:
    """The operations by the frame."""
    part: list[TableOp] = []
    size = 0
    for op in ops:
        part.append(op)
        size += 1 + len(op.endpoints) if type(op) is NewRoute else 1
        if size >= CHUNK:
            yield part
            part, size = [], 0
    if part:
        yield part


class SocketLink(asyncio.Protocol):
    """The link to a worker process. `on_message` gets what it says, `on_lost` why the link is gone, once.

    Use as the protocol of a connected unix stream socket. `received` is what came before, with an `Attach`.
    """

    def __init__(
        self, on_message: Callable[[Any], None], on_lost: Callable[[str], None], received: bytes = b""
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._received = received
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter()
        self._room = True
        self._outbox: deque[bytes | Iterator[bytes]] = deque()
        self._backlog = 0  # bytes of frames in the outbox; tables are made as they go
        self._reason = "it closed the connection"

    # ------------------------------------------------------------ out

    def send(self, data: bytes) -> None:
        self._outbox.append(data)
        self._backlog += len(data)
        self._pump()
        if self._backlog > MAX_BACKLOG:
            self._give_up(f"it left {self._backlog} bytes of changes unread")

    def send_table(self, frames: Iterator[bytes]) -> None:
        self._outbox.append(frames)
        self._pump()

    def _pump(self) -> None:
        while self._room and self._outbox and self._transport is not None:
            head = self._outbox[0]
            if isinstance(head, bytes):
                self._outbox.popleft()
                self._backlog -= len(head)
                self._transport.write(head)
            elif (data := next(head, None)) is not None:
                self._transport.write(data)
            else:
                self._outbox.popleft()

    def pause_writing(self) -> None:
        self._room = False

    def resume_writing(self) -> None:
        self._room = True
        self._pump()

    def close(self) -> None:
        self._outbox.clear()
        self._backlog = 0
        if self._transport is not None:
            self._transport.abort()

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.close()

    # ------------------------------------------------------------ in

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._received:
            self.data_received(self._received)
        self._pump()

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._splitter.split(data):
                self._on_message(_decode(payload))
        except (FrameError, msgspec.MsgspecError) as error:
            self._give_up(f"it sent what is no frame: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._outbox.clear()
        self._on_lost(self._reason if exc is None else f"{self._reason}: {exc}")


class LocalLink:
    """The link to a worker in control's own process: the same frames, handed over by direct call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, worker: Worker, on_message: Callable[[Any], None]) -> None:
        self._loop = loop
        self._worker = worker
        self._on_message = on_message
        worker.link = _LocalEnd(self)

    def send(self, data: bytes) -> None:
        self._worker.frame_received(data[FRAME_HEADER:])

    def send_table(self, frames: Iterator[bytes]) -> None:
        for data in frames:
            self.send(data)

    def received(self, data: bytes) -> None:
        """The worker sent this frame; heard in the next turn of the loop, as it would be from afar."""
        self._loop.call_soon(self._on_message, _decode(data[FRAME_HEADER:]))

    def close(self) -> None:
        self._worker.link = None


class _LocalEnd:
    """The worker's end of a `LocalLink`."""

    def __init__(self, link: LocalLink) -> None:
        self._link = link

    waiting = 0

    def send(self, data: bytes) -> None:
        self._link.received(data)

    def drained(self) -> None:
        """Nothing is ever held back."""

    def close(self) -> None:
        self._link.close()
