"""The metric `route_registration_latency` (contract §11.5): once for every URI to which an endpoint comes."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

from tests.support.bus import heartbeat, nats_server, party
from tests.support.router import router
from tests.support.workers import TIMEOUT

MINUTE = 60_000_000_000  # ns


async def test_only_what_is_new_counts(tmp_path: Path) -> None:
    async with nats_server() as server, party(server.port) as app, asyncio.timeout(TIMEOUT):
        bus = {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}
        async with router(tmp_path, nats=bus) as control:
            await control.healthy()
            made = control.figures.histograms.registration
            now = time.time_ns()

            async def register(port: int, *uris: str, at: int) -> None:
                await app.publish("router.register", heartbeat(port, uris=list(uris), endpoint_updated_at_ns=at))

            await register(1, "a.test", "b.test", at=now - MINUTE)
            await register(1, "a.test", "b.test", at=now - MINUTE)  # a heartbeat
            await register(1, "a.test", "b.test", at=now)  # the platform touched it, but it is there
            await register(1, "a.test", "c.test", at=now - MINUTE)  # one URI is new
            await register(2, "a.test", at=now + 60 * MINUTE)  # another clock
            await register(3, "a.test", at=0)
            while control.registry.addresses < 3:
                await asyncio.sleep(0.01)
            counts = [column[0] for column in made.columns]
            assert sum(counts) == 4
            assert counts[-1] == 3
            assert counts[0] == 1
            assert made.totals[0] >= 3 * 60_000
            assert re.search(rb"(?m)^route_registration_latency_count 4(\.0)?$", await control.observing.metrics())
