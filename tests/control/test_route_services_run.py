"""A route service from the configuration and a registration to the worker, and what is told of it (contract §10)."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from router.control.local import LocalKeeper
from router.messages import EndpointSpec
from tests.support import certs
from tests.support.router import ME, router
from tests.support.wire import OK, Backend, Client, answering, until


async def test_from_the_configuration_to_the_log(tmp_path: Path) -> None:
    app = Backend(answering(OK))
    heads: list[bytes] = []
    service = Backend(answering(OK, heads=heads), tls=certs.server(certs.issued("localhost")))
    await app.start()
    await service.start()
    log = tmp_path / "access.log"
    config = {
        "route_services_secret": "secret",
        "ca_certs": [certs.pem(certs.authority())],
        "access_log": {"file": str(log)},
    }
    async with router(tmp_path, **config) as control:
        url = f"https://localhost:{service.port}/x"
        control.registry.register(EndpointSpec("127.0.0.1", app.port, app="guid", route_service_url=url), ["a.test"])
        client = await Client.to(control.port)
        assert isinstance(control.keeper, LocalKeeper)
        plane = control.keeper.worker.plane
        assert plane is not None
        await until(lambda: "a.test" in plane.table.pools)
        assert (await client.get("a.test"))[0] == 200
        assert heads[0].startswith(b"GET /x HTTP/1.1\r\n")
        assert not app.connections
        client.close()
        control.reopen_logs()
        await until(lambda: log.exists() and b" 200 " in log.read_bytes())
        assert '"-" x_forwarded_for:"127.0.0.1"' in log.read_text()
        assert 'app_id:"-"' in log.read_text()
        control.figures.tick()
        async with aiohttp.ClientSession(headers={"Authorization": ME}) as session:
            for path in ("varz", "metrics", "api/apps"):
                async with session.get(f"http://127.0.0.1:{control.status_port}/{path}") as answer:
                    assert answer.status == 200, path
    await app.stop()
    await service.stop()
