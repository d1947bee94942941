"""The arithmetic of `bench.scaling`, `bench.soak` and `bench.lostrouter`: what they conclude from times and samples."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.lostrouter import BEFORE, REST, Request, normal_after
from bench.scaling import BURST, NATS_CORES, PAUSE, Costs, Plan, _left, convergence
from bench.soak.figures import trend

PLAN = Plan(10, 20_000, 1, Costs(1e-6, 2e-6, 4e-6))


def test_a_queue_serves_one_after_another_and_pauses() -> None:
    assert _left([0.0, 0.0, 5.0], 1.0, []) == [1.0, 2.0, 6.0]
    assert _left([0.0, 3.0], 1.0, [2.5]) == pytest.approx([1.0, max(3.0, 2.5 + PAUSE) + 1.0])


def test_what_a_fleet_costs() -> None:
    assert PLAN.rate == 1000.0
    assert PLAN.bus_cores == pytest.approx(1000 * (1e-6 + 10 * 2e-6))
    assert PLAN.control == pytest.approx(1000 * 4e-6)
    # Of three servers the busiest has four of the routers, and hands two thirds of a message on.
    assert replace(PLAN, servers=3).service == pytest.approx(1e-6 + 2 / 3 * 2e-6 + 4 * 2e-6)


def test_no_change_is_known_sooner_than_it_is_served_and_half_wait_for_half_a_burst() -> None:
    times = convergence(PLAN, seed=1)
    bus, control = PLAN.service / NATS_CORES, PLAN.costs.heartbeat
    assert times[0] == pytest.approx(bus + control, rel=0.01)
    assert times[len(times) // 2] == pytest.approx(BURST / 2 * max(bus, control), rel=0.2)


def test_a_trend_is_change_an_hour_with_its_error() -> None:
    line = trend([0.0, 1.0, 2.0, 3.0], [5.0, 7.0, 9.0, 11.0])
    assert (line.per_hour, line.error) == pytest.approx((120.0, 0.0))
    assert trend([0.0, 1.0, 2.0, 3.0], [5.0, 7.0, 8.0, 11.0]).error > 1.0


def test_traffic_is_normal_when_windows_are_as_before() -> None:
    kill = 100.0
    steady = [
        Request(at / 100, at / 100 + 0.01, True) for at in range(int((kill - BEFORE) * 100), int((kill + REST) * 100))
    ]
    assert normal_after(steady, kill) == 0.0
    broken = [replace(each, good=not 100.2 <= each.ended < 100.25) for each in steady]
    assert normal_after(broken, kill) == pytest.approx(0.3)
    with pytest.raises(BenchError):
        normal_after([each for each in steady if each.ended < kill], kill)
