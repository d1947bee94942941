"""Endpoint states as `/api/app` tells them, also of endpoints that no request has ended at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from router.control.app import Control
from router.messages import EndpointSpec, RouteOptions
from tests.support.processes import free_port
from tests.support.router import router
from tests.support.wire import OK, Backend, Client, Script, answering

CHECKED = [{"routes": ["shop.test"], "type": "tcp", "interval": "50ms", "timeout": "1s", "unhealthy_after": 1}]


@asynccontextmanager
async def shop(
    directory: Path, *scripts: Script, **config: Any
) -> AsyncIterator[tuple[Control, list[Backend], Client]]:
    """A router with one instance of `shop` for each script, and a client."""
    backends = [Backend(script) for script in scripts]
    async with router(directory, **config) as control:
        for backend in backends:
            await backend.start()
            control.registry.register(EndpointSpec("127.0.0.1", backend.port, app="shop"), ["shop.test"])
        client = await Client.to(control.port)
        try:
            yield control, backends, client
        finally:
            client.close()
            for backend in backends:
                await backend.stop()


async def shows(control: Control, port: int, state: str) -> str:
    """Wait until the endpoint has this state; why it has."""
    async with asyncio.timeout(10):
        while True:
            view = control.observing.views.app("shop") or {"endpoints": []}
            for each in view["endpoints"]:
                if each["backend"] == f"127.0.0.1:{port}" and each["state"] == state:
                    return str(each["why"])
            await asyncio.sleep(0.01)


async def silent(client: Client) -> None:
    await client.reader.readuntil(b"\r\n\r\n")
    await client.rest()


async def test_unhealthy_without_a_request(tmp_path: Path) -> None:
    async with shop(tmp_path, answering(OK), backends={"health_checks": CHECKED}) as (control, (backend,), _):
        nobody = free_port()
        control.registry.register(EndpointSpec("127.0.0.1", nobody, app="shop"), ["shop.test"])
        assert "active check: " in await shows(control, nobody, "unhealthy")
        await shows(control, backend.port, "in")
        assert control.figures.events.after(0, 10, "endpoint-unhealthy")


async def test_ejected_while_its_requests_hang(tmp_path: Path) -> None:
    rules = {"owed_after": "100ms", "shortest": "5s", "longest": "5s", "owed_requests": 2, "max_share": 50}
    async with shop(tmp_path, answering(OK), silent, backends={"ejection": rules}) as (control, backends, client):
        hanging = [await Client.to(control.port) for _ in range(8)]
        for each in hanging:
            await each.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        why = await shows(control, backends[1].port, "ejected")
        assert "tried again in" in why
        for each in hanging:
            each.close()
        assert client is not None


async def test_draining_and_full(tmp_path: Path) -> None:
    async with shop(tmp_path, silent) as (control, (backend,), client):
        spec = EndpointSpec("127.0.0.1", backend.port, app="shop", options=RouteOptions(max_conns=1))
        control.registry.register(spec, ["shop.test"])
        await client.send(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        assert await shows(control, backend.port, "full") == "as many requests in flight as its limit allows: 1"
        control.registry.unregister("127.0.0.1", backend.port, ["shop.test"])
        why = await shows(control, backend.port, "draining")
        assert why == "not registered any more; 1 requests in flight"
        client.close()
        async with asyncio.timeout(10):
            while (control.observing.views.app("shop") or {"endpoints": []})["endpoints"]:
                await asyncio.sleep(0.01)
