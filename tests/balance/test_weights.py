"""Shares of the traffic: exact where a strategy counts, within bounds where it draws."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.balance.least_connection import LeastConnection
from router.balance.least_response_time import LeastResponseTime
from router.balance.peak_ewma import PeakEwma
from router.balance.power_of_two import PowerOfTwo
from router.balance.round_robin import RoundRobin
from router.balance.weighted_least_connection import WeightedLeastConnection
from router.balance.weighted_random import Random
from router.balance.weighted_round_robin import WeightedRoundRobin
from router.table.endpoint import Endpoint
from router.table.pool import Pool
from tests.support.table import Asking, pool_of

ALL: tuple[Callable[[], Any], ...] = (
    RoundRobin,
    WeightedRoundRobin,
    LeastConnection,
    WeightedLeastConnection,
    Random,
    PowerOfTwo,
    PeakEwma,
    LeastResponseTime,
)
every = pytest.mark.parametrize("strategy", ALL)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(5)


def picks(strategy: Any, pool: Pool, times: int) -> Counter[str]:
    """How often each instance is picked by requests that end at once."""
    return Counter(picked(strategy, pool).spec.instance_id for _ in range(times))


def picked(strategy: Any, pool: Pool) -> Endpoint:
    endpoint = strategy.pick(pool, Asking())
    assert endpoint is not None
    return endpoint  # type: ignore[no-any-return]


@pytest.mark.parametrize("strategy", [RoundRobin, WeightedRoundRobin])
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 30))
def test_turns_by_weight_are_exact_in_every_round(strategy: Any, weights: list[int], before: int) -> None:
    pool, _, _ = pool_of(len(weights), weights=weights)
    turns = strategy()
    picks(turns, pool, before)
    assert picks(turns, pool, sum(weights)) == {f"i{n}": weight for n, weight in enumerate(weights)}


def test_turns_of_a_heavy_endpoint_are_spread_out() -> None:
    pool, _, _ = pool_of(3, weights=[5, 1, 1])
    turns = WeightedRoundRobin()
    row = [picked(turns, pool).spec.instance_id for _ in range(7)] * 2
    longest = max(len(run) for run in "".join("a" if name == "i0" else " " for name in row).split())
    assert longest <= 4


@pytest.mark.parametrize("strategy", [RoundRobin, WeightedRoundRobin, LeastConnection, WeightedLeastConnection])
def test_a_canary_of_5_to_95_gets_5_percent(strategy: Any) -> None:
    pool, _, _ = pool_of(2, weights=[95, 5])
    share = picks(strategy(), pool, 20_000)["i1"] / 20_000
    assert share == pytest.approx(0.05, abs=0.01)


@every
def test_weights_hold_when_nothing_else_tells_endpoints_apart(strategy: Any) -> None:
    pool, _, _ = pool_of(4, weights=[1, 2, 3, 4])
    found = picks(strategy(), pool, 20_000)
    if strategy not in (PowerOfTwo, PeakEwma, LeastResponseTime):  # these compare what is drawn by weight once more
        assert {name: count / 2000 for name, count in found.items()} == pytest.approx(
            {"i0": 1.0, "i1": 2.0, "i2": 3.0, "i3": 4.0}, rel=0.1
        )
    assert found["i3"] >= found["i0"]


@every
def test_equal_ones_get_equal_shares(strategy: Any) -> None:
    pool, _, _ = pool_of(5)
    found = picks(strategy(), pool, 10_000)
    assert [found[f"i{n}"] / 2000 for n in range(5)] == pytest.approx([1.0] * 5, rel=0.1)


@every
def test_weight_0_is_for_when_nothing_else_is_left(strategy: Any) -> None:
    pool, endpoints, lanes = pool_of(3, weights=[0, 1, 1])
    made = strategy()
    lanes.lanes[0][1:3] = [9, 9]
    assert set(picks(made, pool, 200)) <= {"i1", "i2"}
    endpoints[1].failed_at = endpoints[2].failed_at = 999.0
    assert set(picks(made, pool, 20)) == {"i0"}


@every
def test_only_weights_of_0_are_as_good_as_none(strategy: Any) -> None:
    pool, _, _ = pool_of(3, weights=[0, 0, 0])
    assert set(picks(strategy(), pool, 300)) == {"i0", "i1", "i2"}


@every
@pytest.mark.parametrize("weights", [(), (1, 1, 2)])
def test_what_may_not_be_picked_is_not_and_what_is_gone_never(strategy: Any, weights: tuple[int, ...]) -> None:
    pool, endpoints, _ = pool_of(3, weights=weights)
    made = strategy()
    endpoints[2].failed_at = 999.0
    assert set(picks(made, pool, 200)) == {"i0", "i1"}
    pool.drop(1)
    assert set(picks(made, pool, 50)) == {"i1"}
    pool.drop(2)
    assert set(picks(made, pool, 20)) == {"i2"}  # in doubt, and better than none
    pool.drop(3)
    assert made.pick(pool, Asking()) is None


@every
@pytest.mark.parametrize("weights", [(), (1, 1, 2)])
def test_a_pool_that_is_full_gives_nothing(strategy: Any, weights: tuple[int, ...]) -> None:
    pool, endpoints, lanes = pool_of(3, weights=weights)
    endpoints[0].loads.max_conns = 2
    lanes.lanes[0][:3] = [2, 2, 2]
    assert strategy().pick(pool, Asking()) is None
    lanes.lanes[0][1] = 1
    assert set(picks(strategy(), pool, 20)) == {"i1"}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), min_size=1, max_size=12))
def test_weighted_least_connection_takes_the_least_for_its_weight(rows: list[tuple[int, int]]) -> None:
    pool, _, lanes = pool_of(len(rows), weights=[weight for weight, _ in rows])
    lanes.lanes[0][: len(rows)] = [count for _, count in rows]
    endpoint = picked(WeightedLeastConnection(), pool)
    weight, count = rows[endpoint.slot]
    assert count / weight == min(count / weight for weight, count in rows)


def test_least_connection_reads_big_counts_scattered_slots_and_big_pools() -> None:
    pool, endpoints, lanes = pool_of(100, workers=2)
    lanes.lanes[0][:100] = [300] * 100
    lanes.lanes[1][63] = -5
    assert picked(LeastConnection(), pool).slot in (63, *range(50, 100), *range(50))
    few, _, lanes = pool_of(5, workers=2)
    lanes.lanes[0][:5] = [300, 299, 400, 400, 400]
    assert picked(LeastConnection(), few).slot == 1
    pool, endpoints, lanes = pool_of(3)
    endpoints[2].slot = 200
    lanes.lanes[0][:3] = [2, 2, 0]
    lanes.lanes[0][200] = 1
    pool.version += 1
    assert picked(LeastConnection(), pool) is endpoints[2]


def test_of_two_the_less_busy_one() -> None:
    pool, _, lanes = pool_of(2)
    lanes.lanes[0][:2] = [3, 1]
    found = picks(PowerOfTwo(), pool, 400)
    assert found["i1"] > found["i0"]


def test_a_slow_endpoint_is_avoided_until_its_estimate_has_faded() -> None:
    for strategy in (PeakEwma(), LeastResponseTime()):
        pool, endpoints, _ = pool_of(3)
        for n, endpoint in enumerate(endpoints):
            strategy.done(endpoint, Asking(), 0.5 if n == 0 else 0.01, True)
        assert "i0" not in picks(strategy, pool, 300) or isinstance(strategy, PeakEwma)
        assert picks(strategy, pool, 300)["i0"] < 100
        endpoints[0].loads.now += 1000.0
        assert picks(strategy, pool, 300)["i0"] > 50


def test_failing_fast_is_not_being_fast() -> None:
    for strategy in (PeakEwma(), LeastResponseTime()):
        pool, endpoints, _ = pool_of(2)
        for n, endpoint in enumerate(endpoints):
            strategy.done(endpoint, Asking(), 0.001 if n == 0 else 0.1, n != 0)
        assert picks(strategy, pool, 300)["i1"] > 200


def test_a_new_endpoint_counts_as_usual() -> None:
    strategy = LeastResponseTime()
    pool, endpoints, lanes = pool_of(3)
    for endpoint in endpoints[:2]:
        strategy.done(endpoint, Asking(), 0.1, True)
    lanes.lanes[0][2] = 1
    assert "i2" not in picks(strategy, pool, 100)


def test_counts_are_settled_when_another_worker_came_to_the_same_endpoint() -> None:
    for strategy, weights in ((LeastConnection(), ()), (WeightedLeastConnection(), ()), (LeastConnection(), (2, 2, 3))):
        pool, _, lanes = pool_of(3, workers=2, weights=weights)
        lanes.lanes[0][:3] = [1, 1, 1]
        request = Asking()
        endpoint = strategy.pick(pool, request)  # type: ignore[attr-defined]
        assert endpoint is not None
        lanes.own[endpoint.slot] += 1
        assert strategy.settle(pool, endpoint, request) is endpoint  # nobody else came
        lanes.lanes[1][endpoint.slot] += 5
        better = strategy.settle(pool, endpoint, request)
        assert better is not endpoint
        assert sum(lanes.own[:3]) == 4
        assert lanes.own[better.slot] == 2
        request.scratch = None
        assert strategy.settle(pool, endpoint, request) is endpoint  # not picked by the strategy: by a cookie, say
