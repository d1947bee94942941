"""`router.load` on a real bus: what is told of an app with traffic."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from router.observe import load_feed
from tests.support.router import router
from tests.support.routers import nats_server, party
from tests.support.wire import OK, Backend, Client, answering


async def test_the_bus_hears_what_apps_have_to_bear(tmp_path: Path) -> None:
    backend = Backend(answering(OK))
    await backend.start()
    async with nats_server() as server, party(server) as other:
        hosts = {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}
        heard: asyncio.Queue[dict[str, object]] = asyncio.Queue()

        async def note(message: object) -> None:
            heard.put_nowait(json.loads(message.data))  # type: ignore[attr-defined]

        await other.client.subscribe(load_feed.SUBJECT, cb=note)
        await other.client.flush()
        async with router(tmp_path, nats=hosts, publish_load_interval="100ms") as control:
            await control.healthy()
            await other.say("register", backend.port, "shop.test", app="shop")
            client = await Client.to(control.port)
            async with asyncio.timeout(10):
                while (await client.get("shop.test"))[0] != 200:
                    await asyncio.sleep(0.01)
                while not (told := await heard.get())["apps"]:
                    pass
            client.close()
    await backend.stop()
    assert (told["id"], told["index"], told["interval"]) == (control.identity.id, 0, 0.1)
    app = told["apps"]["shop"]  # type: ignore[index]
    assert app["rate"] > 0
    assert (app["instances"], app["ejected"], app["errors"]) == (1, 0, 0.0)
    assert 0 < app["p50_ms"] <= app["p99_ms"]
