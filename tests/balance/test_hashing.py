"""Hashing strategies: contract §4.8, and what consistent hashing promises."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from router.balance.consistent_hash import ConsistentHash
from router.balance.hash_source import source
from router.balance.header_hash import HeaderHash
from router.balance.least_connection import LeastConnection
from router.balance.maglev import BIG, STEP, fill
from router.balance.rendezvous import Rendezvous
from router.balance.round_robin import RoundRobin
from router.messages import EndpointSpec, RouteOptions
from router.table.hash_key import BadHashKey, hash_key
from router.table.pool import Pool
from tests.support.table import Asking, endpoint_of, pool_of

BY_TENANT = RouteOptions("hash", "header:tenant")
KEYS = [b"tenant-%d" % n for n in range(2000)]
every = pytest.mark.parametrize("kind", [HeaderHash, ConsistentHash, Rendezvous])


def pick(strategy: Any, pool: Pool, key: bytes, request: Asking | None = None) -> str | None:
    endpoint = strategy.pick(pool, request or Asking(tenant=key))
    return None if endpoint is None else endpoint.spec.instance_id


def made(kind: Any, balance: float = 0.0) -> Any:
    return kind(RouteOptions("hash", "header:tenant", balance), RoundRobin)


def owners(kind: Any, pool: Pool) -> dict[bytes, str | None]:
    strategy = made(kind)
    return {key: pick(strategy, pool, key) for key in KEYS}


@every
def test_every_router_sends_a_key_to_the_same_instance(kind: Any) -> None:
    pool, _, _ = pool_of(7)
    other = Pool("a.com", "/", "hash", None)
    for endpoint in reversed(pool.endpoints):  # another order of arrival, other addresses
        spec = EndpointSpec("192.0.2.7", endpoint.spec.port + 7, instance_id=endpoint.spec.instance_id)
        other.put(endpoint_of(endpoint.id + 50, endpoint.slot + 50, spec, endpoint.loads), 0)
    assert owners(kind, pool) == owners(kind, other)


@every
@pytest.mark.parametrize("size", [2, 10, 60])
def test_removing_one_of_n_moves_at_most_its_share_and_5_percent(kind: Any, size: int) -> None:
    pool, endpoints, _ = pool_of(size)
    before = owners(kind, pool)
    gone = endpoints[size // 2]
    pool.drop(gone.id)
    after = owners(kind, pool)
    moved = sum(before[key] != after[key] for key in KEYS) / len(KEYS)
    assert moved <= 1 / size + 0.05
    assert gone.spec.instance_id not in after.values()
    if kind is Rendezvous:
        assert all(before[key] == after[key] or before[key] == gone.spec.instance_id for key in KEYS)


@every
def test_keys_are_shared_out_evenly_and_by_weight(kind: Any) -> None:
    even = Counter(owners(kind, pool_of(5)[0]).values())
    assert [count / 400 for count in even.values()] == pytest.approx([1.0] * 5, abs=0.2)
    heavy = Counter(owners(kind, pool_of(3, weights=[1, 1, 2])[0]).values())
    assert heavy["i2"] / 1000 == pytest.approx(1.0, abs=0.15)
    assert "i0" not in owners(kind, pool_of(3, weights=[0, 1, 1])[0]).values()


@every
def test_a_retry_goes_to_the_next_and_every_router_agrees_on_it(kind: Any) -> None:
    pool, _, _ = pool_of(4)
    for key in KEYS[:50]:
        tried = []
        for strategy in (made(kind), made(kind)):
            request = Asking(tenant=key)
            tried.append([pick(strategy, pool, key, request) for _ in range(3)])
        assert tried[0] == tried[1]
        assert len(set(tried[0][:2])) == 2


@every
def test_an_endpoint_that_may_not_be_picked_is_stepped_over_alone(kind: Any) -> None:
    pool, endpoints, _ = pool_of(4)
    before = owners(kind, pool)
    endpoints[1].failed_at = 999.0
    after = owners(kind, pool)
    assert "i1" not in after.values()
    assert all(before[key] == after[key] for key in KEYS if before[key] != "i1")
    for endpoint in endpoints:
        endpoint.failed_at = 999.0
    assert None not in owners(kind, pool).values()
    endpoints[0].loads.max_conns = 1
    endpoints[0].loads.counts.own.__setitem__(slice(0, 4), [1] * 4)  # type: ignore[call-overload]
    assert set(owners(kind, pool).values()) == {None}


@every
def test_a_request_without_the_header_goes_by_the_default(kind: Any) -> None:
    pool, _, lanes = pool_of(3)
    lanes.lanes[0][:3] = [4, 0, 4]
    strategy = kind(BY_TENANT, LeastConnection)
    assert {strategy.pick(pool, Asking()).spec.instance_id for _ in range(20)} == {"i1"}
    itself = kind(BY_TENANT, lambda: kind(BY_TENANT, RoundRobin))  # whose header is missing as well
    assert {itself.pick(pool, Asking()).spec.instance_id for _ in range(3)} == {"i0", "i1", "i2"}


@pytest.mark.parametrize("kind", [ConsistentHash, Rendezvous])
@pytest.mark.parametrize("size", [3, 10, 24])
def test_bounded_load_holds(kind: Any, size: int) -> None:
    pool, _, lanes = pool_of(size)
    strategy = made(kind, 1.25)
    for total in range(200):
        endpoint = strategy.pick(pool, Asking(tenant=random.choice([b"hot", b"warm"])))
        lanes.own[endpoint.slot] += 1
        assert max(lanes.own[:size]) <= -(-1.25 * (total + 1) // size)


def test_the_balance_of_hash_is_a_factor_over_the_average() -> None:
    pool, _, lanes = pool_of(4)
    strategy = made(HeaderHash, 1.25)
    own = pick(strategy, pool, b"k")
    slot = int(own[1:])  # type: ignore[index]
    lanes.own[:4] = [4] * 4
    lanes.own[slot] = 5
    assert pick(strategy, pool, b"k") == own  # 5 is not above 1.25 times 4.25
    lanes.own[slot] = 6
    assert pick(strategy, pool, b"k") != own
    assert pick(made(HeaderHash), pool, b"k") == own  # without a factor load is not looked at


def test_a_popular_key_stays_at_home_until_its_endpoint_is_full() -> None:
    pool, _, lanes = pool_of(4)
    strategy = made(ConsistentHash, 2.0)
    homes = set()
    for _ in range(50):
        endpoint = strategy.pick(pool, Asking(tenant=b"hot"))
        homes.add(endpoint.spec.instance_id)
    assert len(homes) == 1
    assert not any(lanes.own)


def test_a_table_is_filled_in_steps_while_the_one_before_is_used() -> None:
    pool, _, lanes = pool_of(60)
    endpoints = list(pool.endpoints)
    strategy = made(ConsistentHash)
    before = {key: pick(strategy, pool, key) for key in KEYS[:40]}
    pool.drop(endpoints[0].id)
    moved = 0
    for _ in range(BIG // STEP + 2):
        for key in KEYS[:40]:
            now = pick(strategy, pool, key)
            assert now != "i0"
            moved += now != before[key] and before[key] != "i0"
    assert pick(strategy, pool, KEYS[0]) == pick(made(ConsistentHash), pool, KEYS[0])
    assert lanes.own[0] == 0
    again = endpoint_of(99, 5, endpoints[5].spec, endpoints[5].loads)
    pool.put(again, endpoints[5].id)  # registered anew: the same instance, so nothing moves
    key = next(key for key in KEYS if pick(strategy, pool, key) == "i5")
    assert strategy.pick(pool, Asking(tenant=key)) is again


def test_a_table_gives_each_its_share_to_within_one() -> None:
    for weights in ((1,), (1, 1, 1), (3, 1, 1)):
        names = tuple((f"i{n}", weight) for n, weight in enumerate(weights))
        table = next(table for table in fill(names) if table is not None)
        for index, weight in enumerate(weights):
            assert abs(table.count(index) - len(table) * weight / sum(weights)) <= 2


def test_instances_without_an_id_go_by_their_address() -> None:
    pool, _, _ = pool_of(0)
    lent = pool_of(1)[1][0].loads
    for n in range(4):
        pool.put(endpoint_of(n + 1, n, EndpointSpec("10.0.0.1", n + 1), lent), 0)
    strategy = made(ConsistentHash)
    found = {strategy.pick(pool, Asking(tenant=key)).address for key in KEYS}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("key", "request_", "found"),
    [
        ("client_address", Asking(), b"192.0.2.1"),
        ("path", Asking(b"/a/b?x=1"), b"/a/b"),
        ("header:tenant-id", Asking(tenant_id=b"t"), b"t"),
        ("header:tenant-id", Asking(), None),
        ("cookie:sid", Asking(cookie=b"a=1; sid=abc; sid=d"), b"abc"),
        ("cookie:sid", Asking(cookie=b"xsid=1; sid"), None),
        ("cookie:sid", Asking(), None),
        ("query:user", Asking(b"/p?a=1&user=u%20x&user=2"), b"u%20x"),
        ("query:user", Asking(b"/p"), None),
    ],
)
def test_what_is_hashed(key: str, request_: Asking, found: bytes | None) -> None:
    assert source(key)(request_) == found


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("client_address", "client_address"),
        (" Path ", "path"),
        ("Header: Tenant-Id", "header:tenant-id"),
        ("cookie:SID", "cookie:SID"),
        ("query:User", "query:User"),
    ],
)
def test_the_notation_of_keys(text: str, key: str) -> None:
    assert hash_key(text) == key


@pytest.mark.parametrize("text", ["", "header", "header:", "header:a b", "moon:x", "path:x", "header:a\nb"])
def test_what_is_no_key_is_told(text: str) -> None:
    with pytest.raises(BadHashKey, match="expected `client_address`"):
        hash_key(text)
