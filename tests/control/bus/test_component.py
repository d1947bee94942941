"""What a router says of itself to a platform's other components, on a real NATS server (contract §2.1, §11.4, §14)."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from tests.support.bus import heartbeat, nats_server, party
from tests.support.router import router
from tests.support.workers import TIMEOUT, backend, get

OF_2011 = {"type", "index", "uuid", "host", "credentials", "start", "uptime"}
VARZ = {
    *("num_cores", "mem", "cpu", "log_counts", "urls", "droplets", "requests", "requests_per_sec", "rate"),
    *(f"responses_{group}" for group in ("2xx", "3xx", "4xx", "5xx", "xxx")),
    *("latency", "bad_requests", "bad_gateways", "ms_since_last_registry_update", "top10_app_requests", "tags"),
}


def bus_at(port: int) -> dict[str, Any]:
    return {"hosts": [{"hostname": "127.0.0.1", "port": port}]}


async def hear(client: Client, subject: str) -> asyncio.Queue[bytes]:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(message: Any) -> None:
        heard.put_nowait(message.data)

    await client.subscribe(subject, cb=take)
    await client.flush()
    return heard


async def test_it_announces_itself_once_and_is_discovered(tmp_path: Path) -> None:
    status = {"port": 0, "routes": {"port": 0}, "user": "me", "pass": "secret"}
    async with nats_server() as server, party(server.port) as collector, asyncio.timeout(TIMEOUT):
        announced = await hear(collector, "vcap.component.announce")
        status["enable_deprecated_varz_healthz_endpoints"] = True
        async with router(tmp_path, nats=bus_at(server.port), status=status, index=3) as control:
            told = json.loads(await announced.get())
            assert set(told) >= OF_2011 | VARZ
            assert list(told) == sorted(told)
            assert (told["type"], told["index"], told["credentials"]) == ("Router", 3, ["me", "secret"])
            assert re.fullmatch(r"3-[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", told["uuid"])
            assert told["host"] == f"{control.identity.ip}:{control.status_port}"
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000", told["start"])
            assert re.fullmatch(r"\d+d:\d+h:\d+m:\d+s", told["uptime"])
            assert told["uuid"] != control.identity.id

            found = json.loads((await collector.request("vcap.component.discover", b"anything", 5)).data)
            assert {key: found[key] for key in OF_2011 - {"uptime"}} == {key: told[key] for key in OF_2011 - {"uptime"}}
            assert found.keys() == told.keys()
            await collector.publish("vcap.component.discover", b"")  # nobody to answer to
            assert json.loads((await collector.request("vcap.component.discover", b"", 5)).data)["uuid"] == told["uuid"]
            assert announced.empty()


async def test_without_the_old_endpoints_it_is_no_component(tmp_path: Path) -> None:
    async with nats_server() as server, party(server.port) as collector, asyncio.timeout(TIMEOUT):
        announced = await hear(collector, "vcap.component.announce")
        active = await hear(collector, "router.active_apps")
        async with router(tmp_path, nats=bus_at(server.port)) as control:
            await control.healthy()
            start = await collector.request("router.greet", b"", 5)  # answered, so all else would have come before
            assert json.loads(start.data)["id"] == control.identity.id
        assert announced.empty()
        assert active.empty()


async def test_apps_that_had_requests(tmp_path: Path) -> None:
    async with nats_server() as server, party(server.port) as collector, backend() as port, asyncio.timeout(TIMEOUT):
        active = await hear(collector, "router.active_apps")
        settings = {"publish_active_apps_interval": "50ms"}
        async with router(tmp_path, nats=bus_at(server.port), **settings) as control:
            await control.healthy()
            assert zlib.decompress(await active.get()) == b"[]"
            for app in ("busy", "idle"):
                keys = {"host": "127.0.0.1", "port": port, "uris": [f"{app}.test"], "app": app}
                await collector.publish("router.register", heartbeat(port, **keys))
            while len(control.registry) < 2:
                await asyncio.sleep(0.01)
            for _ in range(3):
                assert (await get(control.port, "busy.test"))[0] == 200
            said = [json.loads(zlib.decompress(await active.get()))]
            while said[-1] or not any(said):
                said.append(json.loads(zlib.decompress(await active.get())))
            assert {app for apps in said for app in apps} == {"busy"}
            assert said[-1] == []
