"""Work that is done again and again, each piece in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from router.observe.log import Log


class Periodic:
    """What goes on until `stop`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tasks: list[asyncio.Task[None]] = []

    def every(self, interval: float, work: Callable[[], None]) -> None:
        """Do this every `interval` seconds; 0 or less = never."""
        if interval > 0:
            self._tasks.append(asyncio.get_running_loop().create_task(self._repeat(interval, work)))

    async def _repeat(self, interval: float, work: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                work()
            except Exception as error:
                # One bad round must not be the last one.
                self._log.error("periodic-work-failed", work=work.__qualname__, error=repr(error))

    async def stop(self) -> None:
        """Do no more of it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
