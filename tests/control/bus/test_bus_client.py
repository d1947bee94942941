"""A router's place on a real NATS: what it says, what it hears, what it does when the server goes."""

from __future__ import annotations

import asyncio
import json
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from router.control.bus import client as client_module
from router.control.bus.client import Bus, BusSettings
from router.control.bus.embedded import EmbeddedNats
from router.control.bus.identity import Identity, local_ip
from router.control.errors import reason
from tests.support.workers import EventLog

TIMEOUT = 10.0


class RecordingLog(EventLog):
    def component(self, name: str) -> RecordingLog:
        return self


class House:
    """A bus and a plain client beside it."""

    def __init__(self, server: EmbeddedNats, **settings: Any) -> None:
        self.server = server
        self.log = RecordingLog()
        self.heard: list[tuple[str, str, list[str]]] = []
        self.changes: list[bool] = []
        self._happened = asyncio.Event()
        self.bus = Bus(
            BusSettings(((server.host, server.port),), **settings),
            Identity(3, "192.0.2.2", 20.9, 120.0),
            self.log,  # type: ignore[arg-type]
            on_register=lambda told, *when: self._note(self.heard, ("+", told.spec.address, told.uris)),
            on_unregister=lambda told, *when: self._note(self.heard, ("-", told.spec.address, told.uris)),
            on_change=lambda connected: self._note(self.changes, connected),
        )

    def _note(self, where: list[Any], what: Any) -> None:
        where.append(what)
        self._happened.set()

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not predicate():
                self._happened.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self._happened.wait()
                except TimeoutError:
                    pass


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedNats]:
    server = EmbeddedNats()
    await server.start()
    yield server
    server.kill()


@asynccontextmanager
async def plain_client(server: EmbeddedNats) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, reconnect_time_wait=0.01, max_reconnect_attempts=-1)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def house(server: EmbeddedNats, connected: bool = True, **settings: Any) -> AsyncIterator[House]:
    made = House(server, **settings)
    made.bus.start()
    try:
        if connected:
            await made.until(lambda: made.changes == [True])
        yield made
    finally:
        await made.bus.stop()


def registration(port: int) -> bytes:
    return json.dumps({"host": "10.0.0.1", "port": port, "uris": ["a.com"]}).encode()


async def test_it_says_that_it_is_there_and_answers_greetings(server: EmbeddedNats) -> None:
    async with plain_client(server) as client:
        starts = await client.subscribe("router.start")
        await client.flush()
        async with house(server) as h:
            start = json.loads((await starts.next_msg(TIMEOUT)).data)
            assert start == {
                "id": h.bus._identity.id,
                "hosts": ["192.0.2.2"],
                "minimumRegisterIntervalInSeconds": 20,
                "pruneThresholdInSeconds": 120,
            }
            assert start["id"].startswith("3-")
            assert json.loads((await client.request("router.greet", b"", TIMEOUT)).data) == start
            await client.publish("router.greet", b"no reply subject")
            assert json.loads((await client.request("router.greet", b"{", TIMEOUT)).data) == start


async def test_registrations_are_heard_in_order(server: EmbeddedNats) -> None:
    async with house(server) as h, plain_client(server) as client:
        await client.publish("router.register", registration(1))
        await client.publish("router.unregister", registration(1))
        await client.publish("router.register", b"null")
        await client.publish("router.active_apps", zlib.compress(b"[]"))
        await client.publish("router.something", b"not ours")
        await client.publish("router.register", registration(2))
        await h.until(lambda: len(h.heard) == 3)
        assert h.heard == [("+", "10.0.0.1:1", URIS), ("-", "10.0.0.1:1", URIS), ("+", "10.0.0.1:2", URIS)]
        assert dict(h.bus.received) == {"router.register": 3, "router.unregister": 1}
        assert not h.bus.malformed
        assert h.log.of("validation-error") == []


URIS = ["a.com"]


async def test_malformed_messages_are_counted_and_logged_once_a_kind(server: EmbeddedNats) -> None:
    async with house(server) as h, plain_client(server) as client:
        for payload in (b"{", b"}" + b"x" * 5000, b'{"port":"1"}', b'{"port":-1}', b"nonsense", b"[]"):
            await client.publish("router.register", payload)
        await client.publish("router.unregister", b'{"route_service_url":"http://x"}')
        await client.publish("router.register", registration(1))
        await h.until(lambda: len(h.heard) == 1)
        assert dict(h.bus.malformed) == {"json": 3, "type": 2, "port": 1, "route_service_url": 1}
        logged = h.log.of("validation-error")
        assert [(e["subject"], e["payload"]) for e in logged] == [
            ("router.register", "{"),
            ("router.register", '{"port":"1"}'),
            ("router.register", '{"port":-1}'),
            ("router.unregister", '{"route_service_url":"http://x"}'),
        ]
        assert logged[3]["error"] == "Unable to validate message. route_service_url must be https"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0),"
                " [Errno 111] Connect call failed ('127.0.0.1', 1)"
            ),
            "Connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (TimeoutError(), "no answer in time"),
        (ValueError("nats: no servers"), "nats: no servers"),
    ],
)
def test_why_a_connection_failed_is_told_in_the_system_s_words(error: Exception, said: str) -> None:
    assert reason(error) == said


async def test_a_server_that_comes_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RECONNECT_WAIT", 0.05)
    server = EmbeddedNats()
    async with house(server, connected=False) as h:
        tried = await h.log.wait_for("nats-connection-still-disconnected")
        assert tried["servers"] == server.url
        assert tried["error"] == "Connection refused"
        await server.start()
        try:
            await h.until(lambda: h.changes == [True])
        finally:
            server.kill()


async def test_a_restarted_server_is_found_again_and_told(
    server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RECONNECT_WAIT", 0.05)
    async with house(server) as h:
        server.kill()
        await h.until(lambda: h.changes == [True, False])
        assert not h.bus.connected
        await server.start()
        await h.until(lambda: h.changes == [True, False, True])
        assert [name for name, _ in h.log.events if name != "nats-connection-still-disconnected"] == [
            "Successfully-connected-to-nats",
            "nats-connection-disconnected",
            "nats-connection-reconnected",
        ]
        async with plain_client(server) as client:
            assert json.loads((await client.request("router.greet", b"", TIMEOUT)).data)["id"] == h.bus._identity.id
            await client.publish("router.register", registration(1))
            await h.until(lambda: len(h.heard) == 1)


async def test_the_start_message_is_sent_again_after_a_reconnect(
    server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "RECONNECT_WAIT", 0.5)
    async with house(server) as h, plain_client(server) as client:
        starts = await client.subscribe("router.start")
        await client.flush()
        server.kill()
        await h.until(lambda: h.changes == [True, False])
        await server.start()
        # The plain client tries far more often than the bus, so it is there to hear it.
        assert json.loads((await starts.next_msg(TIMEOUT)).data)["id"] == h.bus._identity.id


async def test_a_user_and_a_password_are_shown_to_the_server() -> None:
    server = EmbeddedNats(0, "127.0.0.1", "--user", "me", "--pass", "p@ss:/word")
    await server.start()
    try:
        async with house(server, user="me", password="p@ss:/word") as h:
            assert h.log.of("Successfully-connected-to-nats") == [{"addr": f"127.0.0.1:{server.port}"}]
        async with house(server, connected=False, user="me", password="wrong") as h:
            assert "authorization" in (await h.log.wait_for("nats-connection-still-disconnected"))["error"].lower()
    finally:
        server.kill()


@pytest.mark.parametrize(("target", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1")])
def test_the_local_address_is_the_one_towards_the_target(target: str, address: str) -> None:
    assert local_ip(target) in (address, "127.0.0.1")
