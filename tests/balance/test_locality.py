"""Zone preference, by the table of contract §4.3, with every kind of strategy; slow start beside it."""

from __future__ import annotations

import pytest

from router.balance.least_connection import LeastConnection
from router.balance.locality import Locality
from router.balance.round_robin import RoundRobin
from router.balance.slow_start import warmed
from router.messages import EndpointSpec
from router.table.endpoint import Loads
from router.table.pool import Pool
from tests.support.table import Lanes, endpoint_of

STRATEGIES = {"round-robin": RoundRobin, "least-connection": LeastConnection}


class Ask:
    attempt = 1
    scratch = None
    client = b"10.0.0.1"

    def header(self, name: bytes) -> bytes | None:
        return None


def pool_of(*zones: str, algorithm: str = "round-robin") -> Pool:
    loads = Loads(Lanes())
    loads.now = 100.0
    pool = Pool("a.com", "/", algorithm, STRATEGIES[algorithm]())
    for id, zone in enumerate(zones, 1):
        pool.put(endpoint_of(id, id, EndpointSpec("10.0.0.1", id, availability_zone=zone), loads), 0)
    return pool


def picks(pool: Pool, zone: str, count: int = 60) -> set[int]:
    locality = Locality(zone, lambda name, options: STRATEGIES[name]())
    found = set()
    for _ in range(count):
        part = locality.narrowed(pool)
        endpoint = part.strategy.pick(part, Ask())
        assert endpoint is not None
        found.add(endpoint.id)
    return found


TABLE = [
    # zones of the endpoints, the router's, marked failed, at their limit, who is picked
    (("z1", "z2", "z1"), "z1", (), (), {1, 3}),
    (("z1", "z2", "z1"), "z3", (), (), {1, 2, 3}),
    (("z1", "z1"), "z1", (), (), {1, 2}),
    (("", "z2", ""), "", (), (), {1, 3}),
    (("z1", "z2", "z1"), "z1", (1,), (), {3}),
    (("z1", "z2", "z1"), "z1", (1, 3), (), {2}),
    (("z1", "z2", "z1"), "z1", (), (1, 3), {2}),
    (("z1", "z2", "z1"), "z1", (1,), (3,), {2}),
]


@pytest.mark.parametrize("algorithm", STRATEGIES)
@pytest.mark.parametrize(("zones", "zone", "failed", "full", "picked"), TABLE)
def test_who_is_picked(
    zones: tuple[str, ...], zone: str, failed: tuple[int, ...], full: tuple[int, ...], picked: set[int], algorithm: str
) -> None:
    pool = pool_of(*zones, algorithm=algorithm)
    for endpoint in pool.endpoints:
        endpoint.loads.max_conns = 1
        if endpoint.id in failed:
            endpoint.failed_at = 100.0
        if endpoint.id in full:
            endpoint.loads.counts.lanes[0][endpoint.slot] = 1  # type: ignore[index]
    assert picks(pool, zone) == picked
    assert all(pool.endpoints[id - 1].failed_at for id in failed), "failure marks stay"


def test_the_pool_changes_and_the_local_part_with_it() -> None:
    pool = pool_of("z1", "z2")
    assert picks(pool, "z1") == {1}
    pool.put(endpoint_of(3, 3, EndpointSpec("10.0.0.1", 3, availability_zone="z1"), pool.endpoints[0].loads), 0)
    assert picks(pool, "z1") == {1, 3}
    pool.drop(1)
    assert picks(pool, "z1") == {3}


def test_slow_start_gives_a_new_endpoint_its_share_by_and_by() -> None:
    pool = pool_of("", "", "")
    newest = pool.endpoints[2]
    loads = newest.loads
    loads.slow_start = 10.0

    def share(age: float) -> float:
        newest.warm_since, loads.now = 100.0, 100.0 + age
        count = 0
        for _ in range(3000):
            ask = Ask()
            endpoint = pool.strategy.pick(pool, ask)
            if endpoint.warm_since:
                endpoint = warmed(pool, endpoint, lambda ask=ask: pool.strategy.pick(pool, ask))
            count += endpoint is newest
        return count / 3000

    assert 0.01 < share(0.0) < 0.06
    assert 0.12 < share(5.0) < 0.21
    assert share(10.0) == pytest.approx(1 / 3, abs=0.01)
    assert not newest.warm_since
