"""Requests that wait because every endpoint of their pool is at `max_conns`: a short, bounded queue before the 503.

First come, first served, a queue a pool and worker. A place is looked for when a request of this worker ends, and every
`LOOK` seconds, as those of other workers end unseen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.proxy.attempts import Attempts
    from router.table.pool import Pool

LOOK = 0.01
"""Seconds between two looks for what other workers have set free."""


class Queue:
    """Waiting requests of one worker. `size` is the most of one pool, `timeout` the longest wait in seconds."""

    __slots__ = ("_loop", "_timer", "size", "timeout", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.size = 0
        self.timeout = 0.0
        self.waiting: dict[Pool, deque[tuple[float, Attempts]]] = {}
        """By pool, the oldest first, each with the time until which it waits."""

    def put(self, pool: Pool, exchange: Attempts) -> bool:
        """Have a request wait; False: the queue is full."""
        line = self.waiting.get(pool)
        if len(line or ()) >= self.size:
            return False
        if line is None:
            line = self.waiting[pool] = deque()
        line.append((self._loop.time() + self.timeout, exchange))
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK, self._look)
        return True

    def drop(self, pool: Pool, exchange: Attempts) -> None:
        """A client that waits has left."""
        line = self.waiting.get(pool)
        if line is not None:
            rest = deque(entry for entry in line if entry[1] is not exchange)
            if rest:
                self.waiting[pool] = rest
            else:
                del self.waiting[pool]

    def _look(self) -> None:
        self._timer = None
        self.advance()
        if self.waiting:
            self._timer = self._loop.call_later(LOOK, self._look)

    def advance(self) -> None:
        """Let go on whoever finds a place, and refuse those whose time is up."""
        now = self._loop.time()
        for pool in list(self.waiting):
            line = self.waiting[pool]
            while line and (line[0][0] <= now or not all(e.overloaded for e in pool.endpoints)):
                late, exchange = line[0][0] <= now, line.popleft()[1]
                exchange.leave_queue(late)
            if not line and self.waiting.get(pool) is line:
                del self.waiting[pool]
