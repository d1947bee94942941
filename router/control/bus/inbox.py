"""What has been read from the bus and not been handled yet.

Reading goes first, whatever handling costs: what we don't read piles up in the NATS server, which soon drops us. So
messages wait here, in slices of time between which the loop does everything else. Each waits with the moment at which
it was read, for that is when it was true.

The room is bounded. What finds none is dropped and counted, and when the rest has been handled `on_overrun` is called:
a router that missed something has to ask for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

SLICE = 0.001
"""Seconds of handling without a pause."""
MOST_MESSAGES = 1_500_000
MOST_BYTES = 1 << 30

Messages = list[tuple[int, bytes]]


class Inbox:
    """`handle(read_at, subscription, payload)` gets each message in order; times are monotonic seconds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[float, int, bytes], None],
        on_overrun: Callable[[int], None],
        *,
        most_messages: int = MOST_MESSAGES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`on_overrun` gets the number of messages that were dropped since the last call."""
        self._loop = loop
        self._handle = handle
        self._on_overrun = on_overrun
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._batches: deque[tuple[float, Messages]] = deque()
        self._next = 0  # the first message of the first batch that has not been handled
        self._scheduled = False
        self._overrun = 0
        self.messages = 0
        """Messages that wait."""
        self.bytes = 0
        """Bytes of batches that wait."""
        self.dropped = 0
        """Messages that found no room, since the start."""

    def put(self, read_at: float, messages: Messages) -> None:
        """These were read."""
        size = sum([len(payload) for _, payload in messages])
        if self.messages + len(messages) > self._most_messages or self.bytes + size > self._most_bytes:
            self.dropped += len(messages)
            self._overrun += len(messages)
        else:
            self._batches.append((read_at, messages))
            self.messages += len(messages)
            self.bytes += size
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Handle messages for one slice."""
        deadline = time.monotonic() + SLICE
        handle = self._handle
        while self._batches:
            read_at, messages = self._batches[0]
            at = self._next
            for at in range(self._next, len(messages)):
                handle(read_at, *messages[at])
                if not at & 15 and time.monotonic() > deadline:
                    break
            done = at + 1
            self.messages -= done - self._next
            self._next = done
            if done == len(messages):
                self._batches.popleft()
                self._next = 0
                self.bytes -= sum([len(payload) for _, payload in messages])
            if time.monotonic() > deadline:
                break
        if self._batches:
            self._loop.call_soon(self._work)
            return
        self._scheduled = False
        if self._overrun:
            overrun, self._overrun = self._overrun, 0
            self._on_overrun(overrun)
