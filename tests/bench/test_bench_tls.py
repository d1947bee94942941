"""`bench.tls`: what is counted, in which order, and what the table says."""

from __future__ import annotations

import pytest

from bench.accounting import Cpu
from bench.errors import BenchError
from bench.tls import Run, heard, report, rotated

SAID = [
    "Warm-up started for thread #0.\n",
    "Main benchmark duration is started for thread #0.\n",
    "Main benchmark duration is over for thread #0. Stopping all clients.\n",
    "requests: 300 total, 300 started, 300 done, 300 succeeded, 0 failed, 0 errored, 0 timeout\n",
]


def test_cpu_time_counts_from_the_first_to_the_last_of_the_measured_requests() -> None:
    spent = iter([Cpu(1.0, 2.0), Cpu(1.5, 2.25)])
    run = heard(SAID, 3, lambda: next(spent))
    assert run == Run(300, 3, Cpu(0.5, 0.25))
    assert run.each(run.cpu.total) == pytest.approx(2500.0)


@pytest.mark.parametrize(
    "said",
    [SAID[:1] + SAID[3:], SAID[:3], [*SAID[:3], SAID[3].replace("0 failed", "1 failed")], ["no such option\n"]],
    ids=["no marks", "no count", "a failure", "no run"],
)
def test_a_run_that_did_not_go_well_is_no_run(said: list[str]) -> None:
    with pytest.raises(BenchError, match="h2load"):
        heard(said, 3, Cpu)


def test_every_proxy_is_first_once() -> None:
    assert [rotated(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_the_table_tells_the_median_and_the_least() -> None:
    def runs(*spent: float) -> list[Run]:
        return [Run(1_000_000, 2, Cpu(each, 0.0)) for each in spent]

    table = report({("https", "router"): runs(30, 45, 32), ("https", "nginx+log"): runs(20, 25, 22)})
    assert table.splitlines()[2:] == [
        "| https | router | 500,000 | 32.0 | 0.0 | **32.0** | **1.45** | 30.0 | 1.50 |",
        "| https | nginx+log | 500,000 | 22.0 | 0.0 | **22.0** | **1.00** | 20.0 | 1.00 |",
    ]
