"""The table on disk, in `run_dir/table.snapshot`: a router that comes back knows what it knew, with true ages.

A line of JSON (`Head`), then pieces (`bus.exchange`), each behind its length in four bytes. The file is replaced as a
whole, so it is always a table of one time. It is the user's alone, as is its directory.
"""

from __future__ import annotations

import asyncio
import os
import time
from io import BufferedWriter
from pathlib import Path

import msgspec

from router.control.bus.exchange import LAYOUT, PieceError, apply, pieces, read_piece
from router.control.registry import Registry
from router.observe.log import Log

NAME = "table.snapshot"
QUICK = 2.0
"""Seconds that a snapshot may take at a stop; a larger table leaves its last regular one."""
SPARING = 20
"""A snapshot that takes a second is followed by none for this many seconds at least."""
CLOCK_SET_BACK = 5.0
"""Seconds by which the time of day may have been corrected meanwhile."""
_LENGTH = 4


class Head(msgspec.Struct):
    """When the table was so: time of day, and the clock of its stamps."""

    layout: str
    unix: float
    clock: float


def _open(path: Path) -> BufferedWriter:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")


class Snapshot:
    """The file of one router."""

    def __init__(self, run_dir: Path, registry: Registry, id: str, log: Log) -> None:
        self._path = run_dir / NAME
        self._registry = registry
        self._id = id
        self._log = log.component("snapshot")
        self._took = 0.0
        self._not_before = 0.0

    async def write(self) -> None:
        """Write the table, bit by bit; if it can't be, say so and leave the file as it was.

        A busy disk may take seconds to open, close or replace a file: the bus must not wait for that.
        """
        began = time.monotonic()
        if began < self._not_before:
            return
        draft = self._path.with_suffix(".new")
        head = Head(LAYOUT, time.time(), self._registry.now)
        try:
            file = await asyncio.to_thread(_open, draft)
            try:
                await asyncio.to_thread(file.write, msgspec.json.encode(head) + b"\n")
                for piece in pieces(self._registry, self._id):
                    await asyncio.to_thread(file.write, len(piece).to_bytes(_LENGTH, "big") + piece)
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(draft.replace, self._path)
        except OSError as error:
            self._log.error("snapshot-not-written", path=str(self._path), error=error.strerror)
        self._took = time.monotonic() - began
        self._not_before = time.monotonic() + SPARING * self._took

    async def write_last(self) -> None:
        """At a stop: write it unless that takes too long."""
        self._not_before = 0.0
        if self._took <= QUICK:
            await self.write()

    async def load(self, oldest: float) -> bool:
        """Take up the table if it was written at most `oldest` seconds ago; True when there was one."""
        began = time.monotonic()
        try:
            data = self._path.read_bytes()
        except OSError:
            return False
        line, _, rest = data.partition(b"\n")
        try:
            head = msgspec.json.decode(line, type=Head)
            age = time.time() - head.unix
            if -CLOCK_SET_BACK < age < 0:
                age = 0.0
            if head.layout != LAYOUT or not 0 <= age <= oldest:
                self._log.info("snapshot-not-used", age=round(age), why="it is too old, or of another version")
                return False
            offset = self._registry.now - (head.clock + age)
            at = 0
            while at < len(rest):
                end = at + _LENGTH + int.from_bytes(rest[at : at + _LENGTH], "big")
                piece = read_piece(rest[at + _LENGTH : end])
                with self._registry.history.resumed():
                    apply(self._registry, piece, offset)
                at = end
                await asyncio.sleep(0)
        except (msgspec.MsgspecError, PieceError) as error:
            self._log.error("snapshot-not-readable", path=str(self._path), error=str(error))
            return False
        took = round(time.monotonic() - began, 3)
        self._log.info("snapshot-loaded", routes=len(self._registry), age=round(age, 1), took=took)
        return len(self._registry) > 0
