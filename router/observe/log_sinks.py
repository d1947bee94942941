"""Where access log lines go: a file, a pipe, standard output, syslog. None of them ever holds up a request.

Lines arrive in batches and wait in a queue of bounded size (bytes). What finds no room, or cannot be written, is
dropped and counted: a full disk or a reader that is stuck costs lines, never time. Writing to a file may block in the
kernel whatever its flags say, so it is done by a thread of its own; syslog goes over the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from router.messages import Syslog

CLOSE_PATIENCE = 1.0
"""Seconds that a worker on its way out waits for its last lines to be written."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks whether the file was moved away."""
RETRY = 1.0
"""Seconds before syslog is tried again, over TCP."""
_MOST_PIECES = 1024
"""Pieces that the kernel takes in one write."""
SLICE = 64
"""Datagrams sent in one turn of the loop."""
_PRIORITY = 14  # facility user, severity info (contract §12.3)
_BOM = b"\xef\xbb\xbf"


class Sink(Protocol):
    """Takes lines by the batch, each ended by a newline."""

    @property
    def lost(self) -> int:
        """Lines that were dropped."""

    def put(self, pieces: list[bytes], count: int) -> None:
        """Take this many lines, some in each piece, or drop them; returns at once."""

    def reopen(self) -> None:
        """The file may have been moved away: go on with a new one."""

    def close(self) -> None:
        """Write what is left, if that is quickly done, and close."""


class FileSink:
    """Appends to one file, pipe or terminal. Raises OSError at construction when it can't be opened.

    `path` is a file's name, or "" for standard output. Several workers may share a file: a batch is one `write`, and to
    a pipe no write is longer than what the kernel keeps in one piece.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._queue: SimpleQueue[tuple[list[bytes], int, int]] = SimpleQueue()
        """Pieces, bytes, lines. Few calls stop the thread: after each it has to wait for the interpreter."""
        # Each number is counted up by one thread alone.
        self._taken = self._dealt_with = 0
        """Bytes that were put in the queue, and that were taken out again, and written or lost."""
        self._refused = self._failed = 0
        """Lines that found no room or were not waited for, and that could not be written."""
        self._in_hand = 0
        """Lines that are being written."""
        self._closing = False
        self._reopen = False
        self._looked = time.monotonic()
        self._fd = _open(path)
        self._piece = _piece(self._fd)
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that were dropped."""
        return self._refused + self._failed

    def put(self, pieces: list[bytes], count: int) -> None:
        size = sum(map(len, pieces))
        if self._taken - self._dealt_with + size > self._limit:
            self._refused += count
            return
        self._taken += size
        self._queue.put((pieces, size, count))

    def reopen(self) -> None:
        self._reopen = True
        self._queue.put(([], 0, 0))

    def close(self) -> None:
        self._closing = True
        self._queue.put(([], 0, 0))
        self._thread.join(CLOSE_PATIENCE)
        if self._thread.is_alive():  # it holds the descriptor, and the process ends anyway
            with suppress(Empty):
                while True:
                    self._refused += self._queue.get_nowait()[2]
            self._refused += self._in_hand
        else:
            os.close(self._fd)

    # -------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._closing or not self._queue.empty():
            try:
                pieces, size, count = self._queue.get(timeout=LOOK_INTERVAL)
            except Empty:
                pieces, size, count = [], 0, 0
            self._in_hand = count
            self._look()
            written = self._write(pieces, size)
            self._in_hand = 0
            self._dealt_with += size
            if written < size:
                self._failed += count - b"".join(pieces)[:written].count(b"\n")

    def _write(self, pieces: list[bytes], size: int) -> int:
        written = 0
        try:
            if not self._piece:  # as they are: to join them would fill the caches that requests need
                written = os.writev(self._fd, pieces[:_MOST_PIECES])
            if written < size:
                rest = b"".join(pieces)[written:]
                for piece in _pieces(rest, self._piece) if self._piece else (rest,):
                    while piece:
                        sent = os.write(self._fd, piece)
                        written += sent
                        piece = piece[sent:]
        except OSError:
            pass
        return written

    def _look(self) -> None:
        """Open the file anew when told to, or when another one, or none, has its name now."""
        now = time.monotonic()
        if not self.path or (not self._reopen and now - self._looked < LOOK_INTERVAL):
            return
        wanted, self._reopen, self._looked = self._reopen, False, now
        try:
            there = os.stat(self.path)
            ours = os.fstat(self._fd)
            moved = (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)
        except OSError:
            moved = True
        if moved or wanted:
            try:
                fd = _open(self.path)
            except OSError:
                return  # lines go on into the old file
            os.close(self._fd)
            self._fd = fd
            self._piece = _piece(fd)


def _open(path: str) -> int:
    if not path:
        return os.dup(1)
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    # A pipe that nobody reads yet would block here, or be refused: with both ends ours it is simply full one day.
    pipe = os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)
    return os.open(path, flags | (os.O_RDWR if pipe else os.O_WRONLY), 0o644)


def _piece(fd: int) -> int:
    """The longest write that stays in one piece; 0 = any length."""
    return select.PIPE_BUF if stat.S_ISFIFO(os.fstat(fd).st_mode) else 0


def _pieces(data: bytes, limit: int) -> Iterator[bytes]:
    """Whole lines, at most `limit` bytes together; a longer line by itself."""
    start = 0
    while len(data) - start > limit:
        end = data.rfind(b"\n", start, start + limit) + 1
        if not end:
            end = data.index(b"\n", start) + 1
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


class SyslogSink:
    """Sends each line as a record of RFC 5424, over UDP or TCP (framed by newlines, RFC 6587 §3.4.2).

    The Go router leaves one field of the header out; here it is complete, so that every receiver reads it.
    """

    def __init__(self, settings: Syslog, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self.lost = 0
        self._settings = settings
        self._limit = limit
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self._closing = False
        host = socket.gethostname() or "-"
        self._about = f"{host} {settings.tag or '-'} {os.getpid()} - - ".encode("ascii", "replace") + _BOM
        self._task = loop.create_task(self._run())

    def put(self, pieces: list[bytes], count: int) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
        head = b"<%d>1 %b %b" % (_PRIORITY, stamp, self._about)
        cut = self._settings.truncate
        for text in b"".join(pieces).split(b"\n")[:-1]:
            record = head + (text[:cut] if cut else text)
            if self._bytes + len(record) > self._limit:
                self.lost += 1
                continue
            self._bytes += len(record)
            self._waiting.append(record)
        self._there.set()

    def reopen(self) -> None:
        """There is no file."""

    def close(self) -> None:
        self._closing = True
        self._there.set()
        self._loop.call_later(CLOSE_PATIENCE, self._task.cancel)

    async def _run(self) -> None:
        send = self._send_tcp if self._settings.tcp else self._send_udp
        try:
            while not (self._closing and not self._waiting):
                try:
                    await send()
                except OSError:
                    if self._closing:
                        return
                    await asyncio.sleep(RETRY)
        except asyncio.CancelledError:
            pass
        finally:
            self.lost += len(self._waiting)
            self._waiting.clear()

    async def _next(self) -> bytes | None:
        """The record to be sent now, None at the end. It stays in the queue until `_sent`."""
        while not self._waiting:
            if self._closing:
                return None
            self._there.clear()
            await self._there.wait()
        return self._waiting[0]

    def _sent(self) -> None:
        self._bytes -= len(self._waiting.popleft())

    async def _send_udp(self) -> None:
        settings = self._settings
        found = await self._loop.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol) as sock:
            sock.connect(address)
            for number in itertools.count(1):
                if (record := await self._next()) is None:
                    return
                if not number % SLICE:
                    await asyncio.sleep(0)
                try:
                    sock.send(record)
                except OSError:  # too long for a datagram, nobody there, no room: this one is lost, as UDP has it
                    self.lost += 1
                self._sent()

    async def _send_tcp(self) -> None:
        settings = self._settings
        reader, writer = await asyncio.open_connection(settings.host, settings.port)
        gone = self._loop.create_task(reader.read(1))  # a receiver says nothing: what comes is the end
        try:
            while (record := await self._next()) is not None:
                if gone.done():
                    raise ConnectionResetError
                writer.write(record.replace(b"\n", b" ") + b"\n")
                await writer.drain()
                self._sent()
        finally:
            gone.cancel()
            writer.close()
