"""A new router knows everything at once: it asks a running one for its table.

`router.table.get` carries `Ask` and a reply subject; the routers are one queue group there, so one of them hears it. It
answers with the pieces of its table (`bus.exchange`), or with an empty message when it has nothing to give: it is new
itself, of another layout, or the one who asks. Then the question is put again, and goes to another one.

The subject has three parts because other routers subscribe to `router.*` and take what they hear there for JSON.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from router.control.bus.client import Bus
from router.control.bus.exchange import LAYOUT, PieceError, apply, pieces, read_piece
from router.control.registry import Registry
from router.observe.log import Log

SUBJECT = "router.table.get"
QUEUE = "router.table"
TRIES = 8
"""Routers that are asked before the table is left to fill by itself."""
PATIENCE = 1.0
"""Seconds to wait for a piece."""


class Ask(msgspec.Struct):
    """Who asks, and what layout it understands."""

    id: str
    layout: str


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Ask).decode


class WarmStart:
    """Both sides of it. `ready()` tells whether this router's table is worth having."""

    def __init__(self, bus: Bus, registry: Registry, id: str, log: Log, ready: Callable[[], bool]) -> None:
        self._bus = bus
        self._registry = registry
        self._id = id
        self._log = log.component("warm-start")
        self._ready = ready
        self._serving: set[asyncio.Task[None]] = set()
        bus.listen(SUBJECT, self._asked, QUEUE)

    async def fetch(self) -> bool:
        """Take over the table of a running router; False when none had one to give."""
        began = time.monotonic()
        question = _encode(Ask(self._id, LAYOUT))
        for _ in range(TRIES):
            number = 0
            async with aclosing(self._bus.answers(SUBJECT, question, PATIENCE)) as answers:
                async for answer in answers:
                    number += 1
                    if not answer:
                        break
                    try:
                        piece = read_piece(answer)
                    except PieceError as error:
                        self._log.error("table-not-readable", error=str(error), remedy="it is left to fill by itself")
                        return False
                    apply(self._registry, piece, self._registry.now - piece.at)
                    # A number that is missing is a piece that was lost: what came is good, but not the whole.
                    if piece.last and piece.number == number - 1:
                        took = round(time.monotonic() - began, 3)
                        self._log.info("table-received", routes=len(self._registry), sender=piece.sender, took=took)
                        return True
            if not number:
                break
        return False

    async def _asked(self, message: Msg) -> None:
        """Answer in a task of its own: a large table takes its time, and others may ask meanwhile."""
        task = asyncio.get_running_loop().create_task(self._answer(message))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _answer(self, message: Msg) -> None:
        if not message.reply:
            return
        try:
            ask = _decode(message.data)
        except msgspec.MsgspecError as error:
            self._log.error("question-not-readable", subject=SUBJECT, error=str(error))
            return
        try:
            if ask.id == self._id or ask.layout != LAYOUT or not self._ready():
                await message.respond(b"")
                return
            for piece in pieces(self._registry, self._id):
                await message.respond(piece)
                await asyncio.sleep(0)
        except (NatsError, OSError) as error:
            self._log.error("table-not-sent", to=ask.id, error=str(error))
