"""What happened to routes, on disk in `run_dir/history`: it outlives control, at an upgrade, a restart or a crash.

One zlib stream of MessagePack (`_Content`), replaced as a whole, for this user only. Texts only, so that another
version reads it. Making them of 50,000 changes takes a while, so that is done in a thread, not often, and bit by bit:
all at once they are 25 MiB, which the process would not give back, as what it remembers meanwhile lies in between.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from router.control.history import EVENTS, REMEMBERED, Event, History
from router.control.state import write_whole
from router.observe.log import Log

NAME = "history"
FORMAT = 1
MOST_BYTES = 256 << 20
"""What the file may become in memory; the largest there can be is a tenth of it."""
SPARING = 20
"""A file that takes a second is followed by none for this many seconds at least, unless control ends."""
_BATCH = 500


class _Content(msgspec.Struct, array_like=True):
    format: int
    events: list[tuple[float, str, str, str, str]]
    """As `Event`."""
    gone: list[tuple[str, float, str]]
    """Hosts that went: when, and why."""


class HistoryFile:
    """The file of one router."""

    def __init__(self, run_dir: Path, history: History, log: Log) -> None:
        self._path = run_dir / NAME
        self._history = history
        self._log = log.component("history")
        self._saving: asyncio.Task[None] | None = None
        self._saved = 0
        self._not_before = 0.0

    def load(self) -> None:
        """Remember what the file says; one that can't be read is as good as none."""
        try:
            unpacker = zlib.decompressobj()
            plain = unpacker.decompress(self._path.read_bytes(), MOST_BYTES)
            content = msgspec.msgpack.decode(plain, type=_Content)
        except FileNotFoundError:
            return
        except (OSError, zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._log.error("history-not-readable", path=str(self._path), error=str(error))
            return
        if content.format == FORMAT:
            events = [Event(*event) for event in content.events[-EVENTS:]]
            self._history.restore(events, content.gone[-REMEMBERED:])
            self._saved = self._history.changes
            self._log.info("history-read", changes=len(events))

    def save(self) -> None:
        """Begin to write what has changed since the last time, if anything."""
        if (self._saving is None or self._saving.done()) and time.monotonic() >= self._not_before:
            self._saving = asyncio.get_running_loop().create_task(self._save())

    async def save_last(self) -> None:
        """Control ends: write what has changed."""
        if self._saving is not None:
            await asyncio.wait({self._saving})
        await self._save()

    async def _save(self) -> None:
        changes = self._history.changes
        if changes == self._saved:
            return
        began = time.monotonic()
        count, events, gone = self._history.copied()

        def write() -> None:
            packer = zlib.compressobj(1)
            pieces = [packer.compress(piece) for piece in _content(count, events, gone)]
            write_whole(self._path, b"".join((*pieces, packer.flush())))

        try:
            await asyncio.to_thread(write)
            self._saved = changes
        except OSError as error:
            self._log.error("history-not-written", path=str(self._path), error=error.strerror)
        self._not_before = time.monotonic() + SPARING * (time.monotonic() - began)


def _content(count: int, events: Iterable[Event], gone: list[tuple[str, float, str]]) -> Iterator[bytes]:
    """A `_Content`, packed bit by bit."""
    yield _array(3)
    yield _encode(FORMAT)
    yield _array(count)
    yield from _packed(events)
    yield _array(len(gone))
    yield from _packed(gone)


def _array(size: int) -> bytes:
    """What goes before the members of an array: `array 32` of MessagePack."""
    return b"\xdd" + size.to_bytes(4, "big")


def _packed(items: Iterable[object]) -> Iterator[bytes]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield b"".join(map(_encode, batch))


_encode = msgspec.msgpack.encode
