"""Routers that compare tables, on a bus that loses, doubles, delays and shuffles, with clocks that don't agree."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.bus.exchange import PieceError, apply, pieces, read_piece
from router.control.bus.fleet import ANNOUNCE, GET, TAKE, About, Fleet
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.messages import EndpointSpec
from tests.support.bus import event_log

INTERVAL = 2.0
Table = dict[str, set[EndpointSpec]]


class World:
    """Routers, a bus and the time. Each message arrives when and if `fate` says: a list of delays, empty = lost."""

    def __init__(self, routers: int, fate: Callable[[], list[float]], threshold: float = 100_000.0) -> None:
        self.now = 1000.0
        self.fate = fate
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.routers = [Router(self, number, threshold) for number in range(routers)]

    def later(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay, next(self._numbers), act))

    def send(self, to: list[Router], act: Callable[[Router], None]) -> None:
        for router in to:
            for delay in self.fate():
                self.later(delay, lambda router=router: act(router))  # type: ignore[misc]

    def publish(self, subject: str, payload: bytes) -> None:
        """A message between routers."""
        if subject == ANNOUNCE:
            self.send(self.routers, lambda router: router.fleet.heard(payload))
            return
        (to,) = [router for router in self.routers if subject.endswith(f".{router.id}")]
        if subject.startswith(GET):
            self.send([to], lambda router: [self.publish(*answer) for answer in router.fleet.asked(payload)] and None)
        else:
            assert subject.startswith(TAKE)
            self.send([to], lambda router: router.fleet.told(payload))

    def register(self, port: int, app: str = "a", tls: bool = False) -> None:
        """An instance registers, as far as the bus lets it."""
        spec = EndpointSpec("10.0.0.1", port, app=app, tls=tls, stale_after=0)
        self.send(self.routers, lambda router: router.registry.register(spec, [f"h{port % 3}.test"]))

    def unregister(self, port: int) -> None:
        self.send(self.routers, lambda router: router.registry.unregister("10.0.0.1", port, [f"h{port % 3}.test"]))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, act = heapq.heappop(self._due)
            act()
        self.now = end

    def settle(self, rounds: int) -> None:
        """Time in which nothing happens but the routers' own talk."""
        for _ in range(rounds):
            for router in self.routers:
                router.fleet.announce()
            self.run(INTERVAL)

    def tables(self) -> list[Table]:
        return [router.table() for router in self.routers]


class Router:
    def __init__(self, world: World, number: int, threshold: float) -> None:
        self.id = f"{number}-router"
        skew = number * 1000.0
        self.registry = Registry(
            RegistrySettings(stale_threshold=threshold), lambda ops: None, event_log(), clock=lambda: world.now + skew
        )
        about = About(self.id, "1", "10.0.0.1:80", "all")
        self.fleet = Fleet(
            self.registry, about, world.publish, event_log(), INTERVAL, time_of_day=lambda: world.now + number * 30.0
        )

    def table(self) -> Table:
        return {key: set(specs) for key, specs in self.registry.routes()}


def ports(table: Table) -> set[int]:
    return {spec.port for specs in table.values() for spec in specs}


EVENTS = st.lists(st.tuples(st.sampled_from("rrru"), st.integers(1, 8), st.sampled_from("ab")), max_size=30)

SEEDS = st.integers(0, 1 << 32)
"""Chance is ours and not Hypothesis's, which would find the bus on which everything is lost for ever."""


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), EVENTS, SEEDS)
def test_any_loss_doubling_and_shuffling_ends_in_equal_tables(
    routers: int, events: list[tuple[str, int, str]], seed: int
) -> None:
    chance = random.Random(seed)

    def fate() -> list[float]:
        return [chance.uniform(0, 3) for _ in range(chance.choice([0, 1, 1, 1, 2]))]

    world = World(routers, fate)
    for kind, port, app in events:
        world.register(port, app) if kind == "r" else world.unregister(port)
        world.run(chance.uniform(0, 1))
    world.run(10)
    world.settle(40)
    assert all(table == world.tables()[0] for table in world.tables())


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), EVENTS, SEEDS)
def test_the_last_word_that_any_router_heard_holds_everywhere(
    routers: int, events: list[tuple[str, int, str]], seed: int
) -> None:
    """Messages are lost here, but come soon or never: so what is last is beyond doubt."""
    heard = False
    chance = random.Random(seed)

    def fate() -> list[float]:
        nonlocal heard
        delays = [] if chance.random() < 0.4 else [chance.uniform(0, 0.3)]
        heard = heard or bool(delays)
        return delays

    world = World(routers, fate)
    expected: dict[int, str] = {}
    for kind, port, app in events:
        heard = False
        world.register(port, app) if kind == "r" else world.unregister(port)
        if heard:
            expected[port] = app if kind == "r" else ""
        world.run(3)
    world.settle(40)
    for table in world.tables():
        assert {spec.port: spec.app for specs in table.values() for spec in specs} == {
            port: app for port, app in expected.items() if app
        }


def test_three_routers_that_lose_one_message_in_twenty_agree_within_ten_seconds() -> None:
    chance = random.Random(4)
    world = World(3, lambda: [] if chance.random() < 0.05 else [chance.uniform(0, 0.01)])
    for number in range(2000):
        world.register(number)
        if number % 3 == 0:
            world.run(1.5 if number % 300 == 0 else 0.01)
            world.unregister(number)
    world.settle(5)
    tables = world.tables()
    assert tables[0] == tables[1] == tables[2]
    assert not {port for port in ports(tables[0]) if port % 300 == 0}


def test_what_was_unregistered_while_a_router_was_away_does_not_come_back() -> None:
    """Even if it never ages, and its tombstone is gone when the router returns."""
    world = World(2, lambda: [0.0], threshold=120.0)
    here, away = world.routers
    world.run(1)
    world.register(1, tls=True)
    world.register(2, tls=True)
    world.run(1)
    world.routers = [here]
    world.unregister(1)
    for _ in range(20):
        world.register(2, tls=True)
        world.run(10)
        here.registry.prune()
    assert ports(away.table()) == {1, 2}
    world.routers = [here, away]
    away.registry.listening_since = away.registry.now
    world.settle(3)
    assert ports(here.table()) == ports(away.table()) == {2}


def test_clocks_are_compared_as_well_as_messages_allow() -> None:
    chance = random.Random(1)
    world = World(3, lambda: [chance.uniform(0.01, 1.5)])
    world.settle(1)
    assert world.routers[0].fleet.clocks() == {}  # once may be chance
    world.settle(20)
    for number, router in enumerate(world.routers):
        found = router.fleet.clocks()
        for other in set(range(3)) - {number}:
            ahead = found[f"{other}-router (10.0.0.1:80)"]
            assert (other - number) * 30.0 - 0.5 <= ahead <= (other - number) * 30.0


def test_a_router_of_another_scope_is_left_alone() -> None:
    world = World(2, lambda: [0.0])
    one, other = world.routers
    other.fleet._about = About(other.id, "1", "10.0.0.1:80", "segments x")
    world.routers = [one]
    world.register(1)
    world.run(0)
    world.routers = [one, other]
    world.settle(5)
    assert ports(other.table()) == set()
    assert other.id in one.fleet.peers


@pytest.mark.parametrize("payload", [b"", b"{}", b"null", b"\x00\xff", b'{"id": 5}', b'{"id":"x y","buckets":[1]}'])
def test_messages_that_are_no_messages_are_without_effect(payload: bytes) -> None:
    (router,) = World(1, lambda: [0.0]).routers
    router.fleet.heard(payload)
    router.fleet.told(payload)
    assert list(router.fleet.asked(payload)) == []
    assert not router.fleet.peers


# ---------------------------------------------------------------- pieces


def filled(count: int) -> Registry:
    registry = Registry(RegistrySettings(), lambda ops: None, event_log())
    for number in range(count):
        spec = EndpointSpec(f"10.0.{number >> 8}.{number & 255}", 1, instance_id=f"{number * 7919:036d}", stale_after=0)
        registry.register(spec, [f"h{number % 500}.test/{number}"])
    registry.unregister("10.9.9.9", 1, ["gone.test"])
    return registry


def carried(registry: Registry, buckets: Any = None) -> Iterator[bytes]:
    return pieces(registry, "sender", buckets)


def test_a_table_goes_over_in_pieces_that_the_bus_carries() -> None:
    source = filled(6000)
    copy = Registry(RegistrySettings(), lambda ops: None, event_log())
    data = list(carried(source))
    assert len(data) > 2
    assert max(map(len, data)) < 1 << 20
    changes = sum(apply(copy, read_piece(piece), 0.0) for piece in data)
    assert changes == 6000
    assert list(copy.routes()) == list(source.routes())
    assert copy.digest.pack() == source.digest.pack()
    assert sum(apply(copy, read_piece(piece), 0.0) for piece in data) == 0


@pytest.mark.parametrize("damage", [b"", b"no", b"x\x9c"])
def test_a_piece_that_is_none_says_why(damage: bytes) -> None:
    with pytest.raises(PieceError):
        read_piece(damage)
    with pytest.raises(PieceError):
        read_piece(next(carried(filled(3)))[:-5] + damage)
