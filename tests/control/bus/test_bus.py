"""The bus for real: servers that want proof, speak TLS, die, freeze, come back empty; messages wrong or too many."""

from __future__ import annotations

import json
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from router.config.bus import Nats
from router.control.bus import client as bus_client
from router.control.bus import inbox
from router.control.bus.embedded import EmbeddedNats
from router.control.settings import bus_tls
from tests.support import certs
from tests.support.bus import beating, hearing, heartbeat, nats_server, party, refusal, registers_on_demand, tls_options
from tests.support.nats_jwt import USER, Key, Operator
from tests.support.processes import free_port

QUICK = 0.2
"""Seconds between pings here, and 0.6 until a dead server is found."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_client, "RECONNECT_WAIT", 0.1)
    monkeypatch.setattr(bus_client, "ASK_AGAIN", 0.2)
    monkeypatch.setattr(bus_client, "CONNECT_TIMEOUT", 0.5)


# ---------------------------------------------------------------- being let in


ME, STRANGER = Key(USER), Key(USER)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ('users: [{user: "u", password: "p"}]', {"user": "u", "password": "p"}, {"user": "u", "password": "x"}),
        ('token: "t0ken"', {"token": "t0ken"}, {"token": "other"}),
        (f"users: [{{nkey: {ME.public}}}]", {"nkey_seed": ME.seed}, {"nkey_seed": STRANGER.seed}),
    ],
    ids=["password", "token", "nkey"],
)
async def test_a_server_that_wants_proof(rule: str, good: dict[str, str], bad: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "nats.conf").write_text(f"authorization {{ {rule} }}")
    async with nats_server("-c", str(tmp_path / "nats.conf")) as server:
        async with hearing(server.port, **good) as router:
            assert router.bus.address == f"127.0.0.1:{server.port}"
        assert await refusal(server.port, **bad)  # the server may hang up before its reason is read


async def test_credentials_of_an_account(tmp_path: Path) -> None:
    operator = Operator()
    mine, theirs = (str(operator.credentials(tmp_path / f"{name}.creds")) for name in ("router", "app"))
    async with nats_server(*operator.server_options(tmp_path)) as server:
        async with hearing(server.port, credentials=mine) as router, party(server.port, user_credentials=theirs) as app:
            await app.publish("router.register", heartbeat(1))
            await router.until(lambda: router.keys == ["app-1.test"])
        late = str(operator.credentials(tmp_path / "late.creds", exp=1))
        strange = str(Operator().credentials(tmp_path / "strange.creds"))
        for wrong in ({}, {"credentials": strange}, {"credentials": late}):
            assert await refusal(server.port, **wrong)  # the server may hang up before its reason is read


async def test_a_credentials_file_may_be_replaced_while_the_router_runs(tmp_path: Path) -> None:
    operator = Operator()
    file = operator.credentials(tmp_path / "router.creds")
    options = operator.server_options(tmp_path)
    async with nats_server(*options) as server, hearing(server.port, credentials=str(file)) as router:
        port = server.port
        file.write_text("half a file")
        server.kill()
        async with nats_server(*options, port=port):
            await router.until(lambda: "there is no user JWT in it" in router.bus.last_error)
            operator.credentials(file)
            await router.until(lambda: router.bus.connected)


# ---------------------------------------------------------------- TLS


def trusting(leaf: trustme.LeafCert | None = None, authority: trustme.CA | None = None) -> dict[str, object]:
    pem = (authority or certs.authority()).cert_pem.bytes().decode()
    own = {}
    if leaf is not None:
        own = {
            "cert_chain": leaf.cert_chain_pems[0].bytes().decode(),
            "private_key": leaf.private_key_pem.bytes().decode(),
        }
    nats = Nats.model_validate({"tls_enabled": True, "ca_certs": pem, **own})

    def context() -> ssl.SSLContext:
        return bus_tls(nats)

    return {"tls": context}


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls(mutual: bool, tmp_path: Path) -> None:
    options = tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=mutual)
    async with nats_server(*options) as server:
        leaf = certs.issued("router.test") if mutual else None
        async with hearing(server.port, **trusting(leaf)) as router:
            context = certs.client(certs.issued("app.test"))
            async with party(server.port, tls=context) as app:
                await app.publish("router.register", heartbeat(1))
                await router.until(lambda: router.keys == ["app-1.test"])


async def test_tls_trusts_nobody_it_was_not_told_to_and_never_goes_without(tmp_path: Path) -> None:
    options = tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=False)
    async with nats_server(*options) as server:
        assert "certificate" in (await refusal(server.port, **trusting(authority=certs.stranger()))).lower()
    async with nats_server() as server:
        assert "no TLS" in await refusal(server.port, **trusting())


async def test_renewed_certificates_are_in_force_with_the_next_connection(tmp_path: Path) -> None:
    """Of the router, read from their files; and while they are unreadable it goes on trying."""
    options = tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=True)
    chain, key = tmp_path / "own.pem", tmp_path / "own.key"

    def install(leaf: trustme.LeafCert) -> None:
        leaf.cert_chain_pems[0].write_to_path(str(chain))
        leaf.private_key_pem.write_to_path(str(key))

    install(certs.issued("router.test"))
    ca = certs.authority().cert_pem.bytes().decode()
    files = {"cert_chain": str(chain), "private_key": str(key)}
    nats = Nats.model_validate({"tls_enabled": True, "ca_certs": ca, **files})
    async with nats_server(*options) as server, hearing(server.port, tls=lambda: bus_tls(nats)) as router:
        port = server.port
        chain.unlink()
        server.kill()
        async with nats_server(*options, port=port):
            await router.until(lambda: "own.pem" in router.bus.last_error)
            install(certs.issued("router.test", by_stranger=True))
            await router.until(lambda: "own.pem" not in router.bus.last_error)
            assert not router.bus.connected
            install(certs.issued("router.test", "renewed.test"))
            await router.until(lambda: router.bus.connected)


# ---------------------------------------------------------------- servers that go


@pytest.fixture
async def cluster() -> AsyncIterator[list[EmbeddedNats]]:
    """Three servers that know one another."""
    routes = [free_port() for _ in range(3)]
    urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                nats_server("--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{port}", "--routes", urls)
            )
            for port in routes
        ]


async def test_a_cluster_that_loses_the_server_we_are_at(cluster: list[EmbeddedNats]) -> None:
    first, second, third = cluster
    async with hearing(first.port, ping_interval=QUICK) as router, party(third.port) as app:
        async with beating(app, 1):
            await router.until(lambda: router.keys == ["app-1.test"])
            first.kill()
            await router.until(lambda: not router.bus.connected)
            # The others are learned from the first, as in any cluster.
            await router.until(lambda: router.bus.connected)
            before = router.bus.received["router.register"]
            await router.until(lambda: router.bus.received["router.register"] > before)
        assert router.bus.address in {f"127.0.0.1:{second.port}", f"127.0.0.1:{third.port}"}
        await app.publish("router.unregister", heartbeat(1))
        await router.until(lambda: router.keys == [])


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_a_server_that_freezes_is_left_for_another(encrypted: bool, tmp_path: Path) -> None:
    options = tls_options(tmp_path, certs.issued("127.0.0.1"), mutual=False) if encrypted else []
    settings = trusting() if encrypted else {}
    async with (
        nats_server(*options) as one,
        nats_server(*options) as other,
        hearing(one.port, other.port, ping_interval=QUICK, **settings) as router,
    ):
        at, elsewhere = (one, other) if router.bus.address.endswith(f":{one.port}") else (other, one)
        os.kill(at.pid, signal.SIGSTOP)
        try:
            await router.until(lambda: router.bus.address.endswith(f":{elsewhere.port}") and router.bus.connected)
        finally:
            os.kill(at.pid, signal.SIGCONT)


async def test_a_server_killed_and_restarted_empty_hears_everybody_again() -> None:
    async with nats_server() as server, hearing(server.port, ping_interval=QUICK) as router:
        port = server.port
        async with party(port, reconnect_time_wait=0.05, max_reconnect_attempts=-1) as app:
            await registers_on_demand(app, 1, 2)
            await app.publish("router.register", heartbeat(1))
            await router.until(lambda: router.keys == ["app-1.test"])
            server.kill()
            await router.until(lambda: not router.bus.connected)
            assert router.keys == ["app-1.test"]
            async with nats_server(port=port):
                await router.until(lambda: router.bus.connected)
                # Whoever is back first: `router.start` tells the app, or the app finds the server later and registers.
                await app.flush()
                await app.publish("router.register", heartbeat(2))
                await router.until(lambda: router.keys == ["app-1.test", "app-2.test"])
                assert router.log.of("nats-connection-reconnected")


# ---------------------------------------------------------------- messages


async def test_a_greeting_is_answered_and_a_start_is_published() -> None:
    async with nats_server() as server, party(server.port) as app:
        starts = await app.subscribe("router.start")
        await app.flush()
        async with hearing(server.port):
            told = json.loads((await starts.next_msg(5)).data)
            assert json.loads((await app.request("router.greet", b"", 5)).data) == told
            assert set(told) == {"id", "hosts", "minimumRegisterIntervalInSeconds", "pruneThresholdInSeconds"}


BAD = {
    "json": [b"", b"{", b"nonsense", b"\xff\xfe", b'{"host": "a"', b'{"port": 08}'],
    "type": [b"[]", b'"text"', b'{"port": "80"}', b'{"port": 1.5}', b'{"uris": "a"}', b'{"tags": {"a": 1}}'],
    "port": [b'{"host":"a","port":65536,"uris":["a"]}', b'{"host":"a","tls_port":-1,"uris":["a"]}'],
    "route_service_url": [b'{"host":"a","port":1,"uris":["a"],"route_service_url":"http://x"}'],
}


async def test_malformed_messages_are_counted_by_reason_and_disturb_nothing() -> None:
    async with nats_server() as server, party(server.port) as app, hearing(server.port) as router:
        kinds = [(kind, payload) for kind, payloads in BAD.items() for payload in payloads]
        sent = dict.fromkeys(BAD, 0)
        for number in range(1, 10_001):
            kind, payload = kinds[number % len(kinds)]
            sent[kind] += 1
            await app.publish("router.register" if number % 3 else "router.unregister", payload)
            if number % 10 == 0:
                await app.publish("router.register", heartbeat(number))
        await app.flush()
        await router.until(lambda: len(router.registry) == 1000)
        await router.until(lambda: sum(router.bus.malformed.values()) == 10_000)
        assert router.bus.malformed == sent
        assert router.bus.dropped == 0


async def test_after_an_overrun_everyone_is_asked_to_register_again() -> None:
    async with nats_server() as server, party(server.port) as app, hearing(server.port) as router:
        await registers_on_demand(app, 1, 2)
        router.bus._inbox.put(0.0, [(1, b"")] * (inbox.MOST_MESSAGES + 1))
        await router.until(lambda: router.bus.asked == 1 and router.keys == ["app-1.test", "app-2.test"])
        assert router.bus.dropped == inbox.MOST_MESSAGES + 1
        assert router.log.of("nats-slow-consumer")
