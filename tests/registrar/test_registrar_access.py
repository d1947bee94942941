"""The registering party where NATS wants TLS and proofs, and with files of routes that come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client

from router.registrar import registrar as registrar_module
from router.registrar.config import RegistrarConfig
from router.registrar.registrar import Registrar
from tests.support import certs
from tests.support.bus import event_log, nats_server, party, tls_options
from tests.support.nats_jwt import USER, Key, Operator
from tests.support.workers import TIMEOUT


def route(name: str, port: int = 81, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": port, "uris": [f"{name}.test"], "registration_interval": "1h", **more}


@asynccontextmanager
async def registrar(port: int, **config: Any) -> AsyncIterator[Any]:
    """A registrar in this process; gives its log."""
    log = event_log()
    servers = [{"host": f"127.0.0.1:{port}"}]
    stop = asyncio.Event()
    made = Registrar(RegistrarConfig.model_validate({"message_bus_servers": servers, **config}), log)
    task = asyncio.create_task(made.run(stop))
    try:
        yield log
    finally:
        stop.set()
        await asyncio.wait_for(task, TIMEOUT)


async def hear(client: Client) -> asyncio.Queue[tuple[str, str, int]]:
    """What is registered (+) and unregistered (-) by others."""
    heard: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue()

    async def take(message: Any) -> None:
        told = json.loads(message.data)
        sign = {"router.register": "+", "router.unregister": "-"}[message.subject]
        heard.put_nowait((sign, told["uris"][0], told["port"]))

    for subject in ("router.register", "router.unregister"):
        await client.subscribe(subject, cb=take)
    await client.flush()
    return heard


async def test_mutual_tls_and_credentials(tmp_path: Path) -> None:
    operator = Operator()
    options = tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=True) + operator.server_options(tmp_path)
    leaf = certs.issued("app.test")
    leaf.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))
    tls = {"enabled": True, "ca_path": str(tmp_path / "ca.pem")}
    own = {"cert_path": str(tmp_path / "own.pem"), "key_path": str(tmp_path / "own.key")}
    proof = {"nats_credentials": str(operator.credentials(tmp_path / "app.creds"))}
    async with nats_server(*options) as server, asyncio.timeout(TIMEOUT):
        theirs = operator.credentials(tmp_path / "router.creds")
        async with party(server.port, tls=certs.client(leaf), user_credentials=theirs) as router_side:
            heard = await hear(router_side)
            async with registrar(server.port, routes=[route("a")], nats_mtls_config={**tls, **own}, **proof):
                assert await heard.get() == ("+", "a.test", 81)
            assert await heard.get() == ("-", "a.test", 81)
            for lacking in (
                {"nats_mtls_config": {**tls, **own}},
                {"nats_mtls_config": tls, **proof},
                {"nats_mtls_config": {"enabled": False}, **proof},
            ):
                async with registrar(server.port, routes=[route("b")], **lacking) as log:
                    assert (await log.wait_for("nats-connection-failed"))["error"]
            assert heard.empty()


async def test_it_never_goes_without_tls(tmp_path: Path) -> None:
    tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=True)
    tls = {"enabled": True, "ca_path": str(tmp_path / "ca.pem")}
    async with nats_server() as server, registrar(server.port, routes=[route("a")], nats_mtls_config=tls) as log:
        assert "the server offers no TLS" in (await log.wait_for("nats-connection-failed"))["error"]


async def test_an_nkey(tmp_path: Path) -> None:
    key = Key(USER)
    (tmp_path / "nats.conf").write_text(f"authorization {{ users: [{{nkey: {key.public}}}] }}")
    async with (
        asyncio.timeout(TIMEOUT),
        nats_server("-c", str(tmp_path / "nats.conf")) as server,
        party(server.port, nkeys_seed_str=key.seed) as router_side,
    ):
        heard = await hear(router_side)
        async with registrar(server.port, routes=[route("a")], nats_nkey_seed=key.seed):
            assert await heard.get() == ("+", "a.test", 81)


async def test_files_of_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registrar_module, "FILES_INTERVAL", 0.02)
    one, two = tmp_path / "one.yml", tmp_path / "two.yml"

    def write(file: Path, *routes: dict[str, Any]) -> None:
        file.with_suffix(".new").write_text(yaml.safe_dump({"routes": list(routes)}))
        file.with_suffix(".new").replace(file)

    write(one, route("a"), route("b", 82))
    async with nats_server() as server, party(server.port) as router_side, asyncio.timeout(TIMEOUT):
        heard = await hear(router_side)
        files = [str(tmp_path / "*.yml")]
        async with registrar(server.port, routes=[route("main", 80)], dynamic_config_globs=files) as log:
            assert await heard.get() == ("+", "main.test", 80)
            assert {await heard.get(), await heard.get()} == {("+", "a.test", 81), ("+", "b.test", 82)}
            write(two, route("c", 83))
            assert await heard.get() == ("+", "c.test", 83)
            write(one, route("a", 84), route("b", 82))
            assert {await heard.get(), await heard.get()} == {("-", "a.test", 81), ("+", "a.test", 84)}

            # Half a file takes nothing away, and is told of once.
            one.write_text("routes: [{name: a")
            assert (await log.wait_for("dynamic-file-not-used"))["routes_kept"] == 2
            two.unlink()
            assert await heard.get() == ("-", "c.test", 83)
            assert len(log.of("dynamic-file-not-used")) == 1
            write(one, route("b", 82), route("here", host="127.0.0.1"))
            assert {await heard.get(), await heard.get()} == {("-", "a.test", 84), ("+", "here.test", 81)}
        # At the end they stay registered, for the next registrar.
        assert await heard.get() == ("-", "main.test", 80)
        await router_side.flush()
        assert heard.empty()
