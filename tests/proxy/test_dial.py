"""A client that leaves while its backend is dialled leaves nothing behind."""

from __future__ import annotations

import asyncio
import random

from tests.support.wire import OK, answering, request, serving


async def test_clients_that_leave_at_any_moment_of_a_dial() -> None:
    async with serving(answering(OK), disable_keep_alives=True) as (bench, _):
        for number in range(60):
            client = await bench.client()
            await client.send(request())
            for _ in range(random.Random(number).randrange(4)):
                await asyncio.sleep(0)
            client.reset()
    # `serving` has waited until no connection to a backend was left
