"""Round robin (contract §4.1)."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from router.balance.round_robin import RoundRobin
from router.table.endpoint import Endpoint
from router.table.pool import Pool
from tests.support.table import Asking, pool_of


def beginning_at(position: int) -> RoundRobin:
    strategy = RoundRobin()
    strategy.position = position
    return strategy


def picked(strategy: RoundRobin, pool: Pool, request: Asking | None = None) -> int | None:
    """The slot of the endpoint that one request gets."""
    endpoint = strategy.pick(pool, request or Asking())
    return None if endpoint is None else endpoint.slot


@given(st.integers(1, 9), st.integers(1, 20))
def test_every_endpoint_gets_exactly_its_share_and_they_take_turns(size: int, rounds: int) -> None:
    pool, _, _ = pool_of(size)
    strategy = RoundRobin()
    order = [picked(strategy, pool) for _ in range(size * rounds)]
    assert Counter(order) == dict.fromkeys(range(size), rounds)
    assert order == order[:size] * rounds
    assert order[:size] == [(order[0] + n) % size for n in range(size)]  # in the order of registration


def test_pools_begin_at_random() -> None:
    pool, _, _ = pool_of(2)
    assert {picked(RoundRobin(), pool) for _ in range(100)} == {0, 1}


def test_an_empty_pool_gives_nothing() -> None:
    pool, _, _ = pool_of(0)
    assert picked(RoundRobin(), pool) is None


def test_retries_step_on_and_leave_the_position_alone() -> None:
    pool, _, _ = pool_of(3)
    strategy, request = beginning_at(0), Asking()
    assert [picked(strategy, pool, request) for _ in range(4)] == [0, 1, 2, 0]
    assert picked(strategy, pool) == 1


def test_a_pool_that_shrinks_or_grows_goes_on() -> None:
    pool, endpoints, _ = pool_of(3)
    strategy = beginning_at(2)
    last = endpoints.pop()
    assert [picked(strategy, pool) for _ in range(3)] == [0, 1, 0]
    endpoints.append(last)
    assert [picked(strategy, pool) for _ in range(3)] == [1, 2, 0]


def test_a_retry_after_the_pool_shrank() -> None:
    pool, endpoints, _ = pool_of(3)
    strategy, request = beginning_at(2), Asking()
    assert picked(strategy, pool, request) == 2
    del endpoints[1:]
    assert picked(strategy, pool, request) == 0


def mark(*endpoints: Endpoint, seconds_ago: float = 1.0) -> None:
    for endpoint in endpoints:
        endpoint.failed_at = endpoint.loads.now - seconds_ago


def test_marked_endpoints_are_passed_over() -> None:
    pool, endpoints, _ = pool_of(3)
    mark(endpoints[1])
    strategy = beginning_at(0)
    assert [picked(strategy, pool) for _ in range(6)] == [0, 2, 2, 0, 2, 2]


def test_an_old_mark_is_dropped_when_it_is_looked_at() -> None:
    pool, endpoints, _ = pool_of(2)
    mark(endpoints[0], seconds_ago=29.9)
    mark(endpoints[1], seconds_ago=30.0)
    strategy = beginning_at(0)
    assert [picked(strategy, pool) for _ in range(2)] == [1, 1]
    assert endpoints[0].failed_at
    assert not endpoints[1].failed_at


def test_when_all_are_marked_all_marks_are_cleared() -> None:
    pool, endpoints, _ = pool_of(3)
    mark(*endpoints)
    assert picked(beginning_at(1), pool) == 1
    assert not any(endpoint.failed_at for endpoint in endpoints)


def test_overloaded_endpoints_are_passed_over() -> None:
    pool, endpoints, lanes = pool_of(3, workers=2)
    endpoints[0].loads.max_conns = 2
    lanes.lanes[0][0] = lanes.lanes[1][0] = 1  # the limit counts over all workers
    lanes.lanes[0][1] = 1
    strategy = beginning_at(0)
    assert [picked(strategy, pool) for _ in range(3)] == [1, 1, 2]


def test_when_all_are_overloaded_there_is_none_and_marks_stay() -> None:
    pool, endpoints, lanes = pool_of(2)
    endpoints[0].loads.max_conns = 1
    lanes.lanes[0][0:2] = [1, 5]
    mark(endpoints[0])
    assert picked(RoundRobin(), pool) is None
    assert endpoints[0].failed_at


def test_marked_is_better_than_overloaded() -> None:
    pool, endpoints, lanes = pool_of(2)
    endpoints[0].loads.max_conns = 1
    lanes.lanes[0][0] = 1
    mark(endpoints[1])
    assert picked(beginning_at(0), pool) == 1


def test_without_a_limit_nothing_is_overloaded() -> None:
    pool, _, lanes = pool_of(1)
    lanes.lanes[0][0] = 10**6
    assert picked(RoundRobin(), pool) == 0
