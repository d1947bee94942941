"""The simulator: the same strategy objects, the same result for the same seed, and what a user may ask for wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
from typer.testing import CliRunner

from router.balance.peak_ewma import PeakEwma
from router.balance.round_robin import RoundRobin
from router.cli.main import app
from router.simulate.engine import Simulation
from router.simulate.scenario import DISTRIBUTIONS, Scenario, ScenarioError, arrivals, replayed

FEW = Scenario(requests=2000)


def test_equal_seeds_give_equal_results_and_others_do_not() -> None:
    first, again = (Simulation(FEW, PeakEwma()).run(arrivals(FEW)) for _ in range(2))
    assert first == again
    other = Scenario(requests=2000, seed=2)
    assert Simulation(other, PeakEwma()).run(arrivals(other)) != first


@pytest.mark.parametrize("service", DISTRIBUTIONS)
def test_service_times_have_the_mean_that_was_asked_for(service: str) -> None:
    scenario = Scenario(service=service, mean=0.05, requests=20_000)
    assert fmean(arrival.service for arrival in arrivals(scenario)) == pytest.approx(0.05, rel=0.15)


def test_without_load_a_request_takes_its_service_time() -> None:
    scenario = Scenario(slow=0, service="constant", mean=0.05, load=0.01, requests=100)
    result = Simulation(scenario, RoundRobin()).run(arrivals(scenario))
    assert result.percentile(0.5) == pytest.approx(0.05)
    assert result.latencies[-1] == pytest.approx(0.05)
    assert result.served == [10] * 10
    assert result.imbalance == 1.0


def test_a_slow_backend_costs_round_robin_more_than_a_latency_strategy() -> None:
    robin = Simulation(FEW, RoundRobin()).run(arrivals(FEW))
    ewma = Simulation(FEW, PeakEwma()).run(arrivals(FEW))
    assert ewma.percentile(0.99) * 3 < robin.percentile(0.99)
    assert ewma.served[0] < robin.served[0]


def test_a_dead_backend_is_marked_and_no_request_is_lost() -> None:
    scenario = Scenario(slow=0, dead=1, requests=2000)
    result = Simulation(scenario, RoundRobin()).run(arrivals(scenario))
    assert result.failed == 0
    assert result.served[-1] == 0
    assert len(result.latencies) == 2000


def test_bursts_come_closer_together() -> None:
    calm, bursting = (list(arrivals(Scenario(requests=5000, burst=burst))) for burst in (1.0, 3.0))
    assert bursting[-1].at < calm[-1].at


def test_an_access_log_is_replayed_as_it_came(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    line = (
        'a.test - [2026-01-01T00:00:0{}.500000000Z] "GET /x?{} HTTP/1.1" 200 0 2 "-" "curl" "192.0.2.{}:99" '
        '"10.0.0.1:80" x_forwarded_for:"-"\n'
    )
    log.write_text(line.format(2, "b", 2) + "no such line\n" + line.format(1, "a", 1))
    found = replayed(log, FEW)
    assert [(arrival.at, arrival.client, arrival.target) for arrival in found] == [
        (0.0, b"192.0.2.1", b"/x?a"),
        (1.0, b"192.0.2.2", b"/x?b"),
    ]
    (tmp_path / "empty").write_text("nothing\n")
    for name in ("empty", "absent"):
        with pytest.raises(ScenarioError, match=name):
            replayed(tmp_path / name, FEW)


def asked(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["simulate", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_shows_every_strategy_or_those_asked_for() -> None:
    code, shown, _ = asked("--requests", "300")
    assert code == 0
    assert all(name in shown for name in ("round-robin", "peak-ewma", "weighted-least-connection"))
    code, shown, _ = asked("--requests", "300", "--strategy", "random", "--json")
    assert code == 0
    assert set(json.loads(shown)) == {"random"}
    assert set(json.loads(shown)["random"]) == {"p50_ms", "p99_ms", "p99_9_ms", "imbalance", "failed"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strategy", "fastest"), "--strategy fastest: expected one of consistent-hash"),
        (("--service", "slow"), "--service slow: expected one of constant"),
        (("--slow", "6", "--dead", "6"), "6 slow and 6 dead backends are more than 10"),
        (("--slow", "0", "--dead", "10"), "all backends are dead"),
        (("--replay", "/nowhere/at.log"), "/nowhere/at.log: No such file"),
    ],
)
def test_what_can_not_be_simulated_is_told(arguments: tuple[str, ...], words: str) -> None:
    code, _, told = asked(*arguments)
    assert code == 1
    assert words in told


def test_a_picture_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `simulate` is not installed")
    code, _, _ = asked("--requests", "300", "--strategy", "random", "--plot", str(tmp_path / "p.svg"))
    assert code == 0
    assert b"<svg" in (tmp_path / "p.svg").read_bytes()
    code, _, told = asked("--requests", "300", "--strategy", "random", "--plot", str(tmp_path / "no" / "p.svg"))
    assert code == 1
    assert "--plot" in told
