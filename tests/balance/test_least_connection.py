"""Least connection (contract §4.2)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.balance.least_connection import LeastConnection
from router.table.pool import Pool
from tests.support.table import Asking, Lanes, pool_of


def picked(pool: Pool) -> int | None:
    endpoint = LeastConnection().pick(pool, Asking())
    return None if endpoint is None else endpoint.slot


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_the_least_busy_one(counts: list[int]) -> None:
    pool, _, lanes = pool_of(len(counts))
    lanes.lanes[0][: len(counts)] = counts
    slot = picked(pool)
    assert slot is not None
    assert counts[slot] == min(counts)


def test_counts_of_all_workers_count() -> None:
    pool, _, lanes = pool_of(2, workers=3)
    for lane, counts in zip(lanes.lanes, ([0, 2], [3, 0], [0, 0]), strict=True):
        lane[:2] = counts
    assert picked(pool) == 1


def test_ties_are_broken_at_random() -> None:
    pool, _, lanes = pool_of(3)
    lanes.lanes[0][:3] = [1, 2, 1]
    assert set(Counter(picked(pool) for _ in range(200))) == {0, 2}


def test_requests_that_stay_are_spread_exactly() -> None:
    pool, _, lanes = pool_of(4)
    for _ in range(40):
        hold(lanes, picked(pool))
    assert lanes.lanes[0][:4] == [10] * 4


def hold(lanes: Lanes, slot: int | None) -> None:
    assert slot is not None
    lanes.lanes[0][slot] += 1


def test_overloaded_ones_are_left_out() -> None:
    pool, endpoints, lanes = pool_of(2)
    endpoints[0].loads.max_conns = 2
    lanes.lanes[0][:2] = [2, 1]
    assert picked(pool) == 1
    lanes.lanes[0][1] = 2
    assert picked(pool) is None


def test_one_endpoint_unless_it_is_overloaded() -> None:
    pool, endpoints, lanes = pool_of(1)
    lanes.lanes[0][0] = 1
    assert picked(pool) == 0
    endpoints[0].loads.max_conns = 1
    assert picked(pool) is None


def test_an_empty_pool_gives_nothing() -> None:
    assert picked(pool_of(0)[0]) is None


def test_failure_marks_count_while_another_is_left() -> None:
    # docs/decisions/0004: a dead endpoint has nothing in flight and would draw every request.
    pool, endpoints, lanes = pool_of(2)
    lanes.lanes[0][1] = 7
    endpoints[0].failed_at = 999.0
    assert picked(pool) == 1
    endpoints[1].failed_at = 999.0
    assert picked(pool) == 0
    assert endpoints[0].failed_at
