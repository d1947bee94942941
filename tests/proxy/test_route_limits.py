"""Time-out and connection limit of a route, as they take effect."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.router import router
from tests.support.workers import TIMEOUT, get


class Slow:
    """A backend that answers when it is told to; `asked` is set for every request."""

    def __init__(self) -> None:
        self.asked = asyncio.Semaphore(0)
        self.answer = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked.release()
        await self.answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("strategy", ["round-robin", "least-connection"])
async def test_a_route_has_its_own_limits(tmp_path: Path, strategy: str) -> None:
    slow = Slow()
    async with await asyncio.start_server(slow.serve, "127.0.0.1", 0) as server:
        backends = [{"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}]

        def route(uri: str, **options: Any) -> dict[str, Any]:
            return {"uris": [uri], "endpoints": backends, "options": {"loadbalancing": strategy, **options}}

        routes = [route("short.test", endpoint_timeout="100ms"), route("one.test", max_conns=1)]
        async with router(tmp_path, routes=routes) as control, asyncio.timeout(TIMEOUT):
            assert (await get(control.port, "short.test"))[0] == 502
            await slow.asked.acquire()
            first = asyncio.create_task(get(control.port, "one.test"))
            await slow.asked.acquire()
            assert (await get(control.port, "one.test"))[0] == 503
            slow.answer.set()
            assert (await first)[0] == 200
