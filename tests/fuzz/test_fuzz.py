"""A short run of the fuzzer; `make fuzz` is the long one."""

from __future__ import annotations

from tests.fuzz.run import Tally, run
from tests.fuzz.run_h2 import TallyH2, run_h2


def test_nothing_leaves_the_router_that_has_two_readings() -> None:
    tally = Tally()
    for seed in range(4):
        run(seed, 300, tally)
    print(tally)
    assert tally.requests == tally.responses == 1200
    assert tally.forwarded > 300  # enough gets through for the claim to mean something
    assert tally.compared > 200
    assert tally.passed > 300
    assert tally.refused > 300


def test_nor_anything_that_came_as_strange_frames() -> None:
    tally = TallyH2()
    for seed in range(4):
        run_h2(seed, 120, tally)
    print(tally)
    assert tally.conversations == tally.answers == 480
    assert tally.forwarded > 150
    assert tally.compared > 100
    assert tally.passed > 100
    assert tally.broken_off > 100
