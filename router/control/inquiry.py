"""Questions to workers that are answered one by one over the feed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from router.frames import frame
from router.messages import Explain, Explained

TIMEOUT = 5.0
"""Seconds for a worker to answer."""


class Inquiries:
    """What was asked and is not answered yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def ask(self, send: Callable[[bytes], None], client: str, secure: bool, head: bytes) -> dict[str, Any] | None:
        """Have a worker explain a request; None when it does not answer."""
        number = next(self._numbers)
        waiting = self._open[number] = self._loop.create_future()
        send(frame(Explain(number, client, secure, head)))
        try:
            return await asyncio.wait_for(waiting, TIMEOUT)
        except TimeoutError:
            return None
        finally:
            del self._open[number]

    def answered(self, message: Explained) -> None:
        """A worker's answer."""
        waiting = self._open.get(message.ask)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.report)
