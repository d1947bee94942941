"""One coarse clock per worker: all time-outs ride on it, so no request needs a timer of its own.

Every tick it notes the time, renews the HTTP date once a second, and calls its listeners, who sweep their connections.
A time-out is thus late by up to one tick.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from router.messages import WorkerSettings

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(second: int) -> bytes:
    """The `Date` header line of a unix second (RFC 9110 §5.6.7), whatever the locale."""
    t = time.gmtime(second)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    return b"Date: %b, %02d %b %d %02d:%02d:%02d GMT\r\n" % (
        day.encode(),
        t.tm_mday,
        month.encode(),
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    )


class Clock:
    """`now` is monotonic seconds as of the last tick, `date_line` the `Date` header line of the current second."""

    __slots__ = ("_handle", "_listeners", "_loop", "_second", "date_line", "interval", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self._listeners: list[Callable[[float], None]] = []
        self._second = 0
        self.interval = 1.0
        """Seconds between ticks."""
        self.now = time.monotonic()
        self.date_line = b""
        self._renew_date()

    def on_tick(self, listener: Callable[[float], None]) -> None:
        """Call `listener(now)` at every tick."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to tick."""
        self._handle = self._loop.call_later(self.interval, self._tick)

    def quicken(self, interval: float) -> None:
        """Be exact now, and tick at least this often from now on."""
        self.now = time.monotonic()
        if interval < self.interval:
            self.interval = interval
            if self._handle is not None:
                self._handle.cancel()
                self.start()

    def stop(self) -> None:
        """Tick no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self.now = time.monotonic()
        self._renew_date()
        self._handle = self._loop.call_later(self.interval, self._tick)
        for listener in self._listeners:
            listener(self.now)

    def _renew_date(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self.date_line = http_date(second)


def tick_interval(settings: WorkerSettings) -> float:
    """Seconds between ticks, 1 at most: fine enough that no time-out is late by more than a quarter of itself."""
    limits: list[float] = [
        settings.endpoint_timeout,
        settings.frontend_idle_timeout,
        settings.read_header_timeout,
        settings.client_body_timeout,
        settings.client_send_timeout,
        settings.backend_idle_timeout,
        settings.ejection.owed_after * 2 if settings.ejection.enabled else 0,
        settings.hedge_after,
    ]
    return max(0.05, min([1.0, *(limit / 4 for limit in limits if limit > 0)]))
