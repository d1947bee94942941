"""Who is there: answers as they come over a real bus, and members over time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from router.control.bus.client import BusSettings
from router.front.members import MISSES, Answers, BusError, Roster, inquiry
from router.front.plan import Address
from tests.support.bus import nats_server, party
from tests.support.processes import free_port

A, B = Address("10.0.0.1", 8081), Address("10.0.0.2", 8081)


def answers(*told: Any) -> Answers:
    heard = Answers()
    for each in told:
        heard.add(each if isinstance(each, bytes) else json.dumps(each).encode())
    return heard


def test_both_answers_of_a_router_are_one_router() -> None:
    greeting, announcement = {"id": "1", "hosts": ["10.0.0.1"]}, {"id": "1", "host": "10.0.0.1:8081", "routes": 5}
    for order in ((greeting, announcement), (announcement, greeting)):
        assert answers(*order).addresses(0) == ({A}, set())


def test_a_port_given_is_that_of_all() -> None:
    heard = answers({"id": "1", "hosts": ["10.0.0.1"]}, {"id": "2", "host": "10.0.0.2:9000"})
    assert heard.addresses(8081) == ({A, B}, set())
    assert heard.addresses(0) == ({Address("10.0.0.2", 9000)}, {"10.0.0.1"})


def test_addresses_of_ipv6() -> None:
    assert answers({"id": "1", "host": "2001:db8::5:8081"}).addresses(0)[0] == {Address("2001:db8::5", 8081)}
    assert answers({"id": "1", "host": "[2001:db8::5]:8081"}).addresses(0)[0] == {Address("2001:db8::5", 8081)}


@pytest.mark.parametrize(
    "payload",
    [b"", b"no json", b"[]", b'{"id": 5}', b'{"id": "1"}', b'{"id": "1", "hosts": []}', b'{"id": "1", "host": "x"}']
    + [json.dumps({"id": "1", "host": host}).encode() for host in ("evil; }:80", "example.com:80", "10.0.0.1:x")]
    + [json.dumps({"id": "1", "hosts": ["10.0.0.1; daemon off"]}).encode()],
)
def test_what_is_no_address_is_left_out(payload: bytes) -> None:
    assert answers(payload).addresses(8081) == (set(), set())


def test_one_lost_answer_takes_nobody_out_and_silence_nobody_at_all() -> None:
    roster = Roster()
    assert roster.members == ()
    roster.heard(frozenset({B, A}))
    assert roster.members == (A, B)
    for _ in range(MISSES - 1):
        roster.heard(frozenset({A}))
        assert roster.members == (A, B)
    roster.heard(frozenset({A}))
    assert roster.members == (A,)
    for _ in range(2 * MISSES):
        roster.heard(frozenset())
    assert roster.members == (A,)


@pytest.mark.parametrize("health", ["initializing", "degraded"])
def test_who_is_not_ready_or_drains_counts_as_silent(health: str) -> None:
    greeting, ready = {"id": "1", "hosts": ["10.0.0.1"]}, {"id": "2", "host": "10.0.0.2:8081", "health": "healthy"}
    assert answers(greeting, ready).addresses(8081)[0] == {A, B}
    assert answers(greeting, {"id": "1", "host": "10.0.0.1:8081", "health": health}, ready).addresses(8081)[0] == {B}


async def test_routers_are_asked_over_the_bus() -> None:
    async with nats_server() as server, party(server.port) as other:

        async def who(message: Any) -> None:
            await message.respond(b'{"id": "1", "host": "10.0.0.1:8081", "digests": ""}')

        async def greeted(message: Any) -> None:
            await message.respond(b'{"id": "1", "hosts": ["10.0.0.1"]}')
            await message.respond(b'{"id": "2", "hosts": ["10.0.0.2"]}')

        async with inquiry(BusSettings((("127.0.0.1", server.port),)), lasting=True) as asking:
            assert (await asking.ask()).routers == {}  # nobody listens: nothing is waited for
            await other.subscribe("router.fleet.who", cb=who)
            await other.subscribe("router.greet", cb=greeted)
            await other.flush()
            assert (await asking.ask()).addresses(0) == ({A}, {"10.0.0.2"})
            await other.publish("router.start", b"{}")
            await asyncio.wait_for(asking.started.wait(), 10)
            asking.started.clear()
            for health in ("initializing", "healthy"):
                about = {"id": "1", "host": "10.0.0.1:8081", "health": health}
                await other.publish("router.fleet.announce", json.dumps(about).encode())
            await asyncio.wait_for(asking.started.wait(), 10)
            server.kill()
            assert (await asking.ask()).routers == {}


async def test_a_bus_that_is_not_there_is_named() -> None:
    port = free_port()
    with pytest.raises(BusError, match=rf"NATS at 127\.0\.0\.1:{port} can't be reached: .*--nats"):
        async with inquiry(BusSettings((("127.0.0.1", port),)), lasting=False):
            pass
