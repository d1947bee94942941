"""The in-flight block: lanes of several workers, in one process and over two."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from router import in_flight
from router.in_flight import InFlight

CAPACITY = 2048
ROOT = Path(__file__).parents[1]


@pytest.fixture
def block() -> Iterator[int]:
    fd = in_flight.create(CAPACITY)
    yield fd
    os.close(fd)


def test_a_new_block_is_idle_and_takes_no_memory() -> None:
    fd = in_flight.create()
    try:
        view = InFlight(fd, workers=4)
        assert view.capacity == in_flight.CAPACITY
        assert os.fstat(fd).st_blocks == 0
        assert view.slot_idle(1)
        view.close()
    finally:
        os.close(fd)


def test_each_worker_writes_its_lane_and_all_see_the_sum(block: int) -> None:
    first, second = InFlight(block, 0, 2), InFlight(block, 1, 2)
    first.own[7] += 1
    second.own[7] += 2
    assert first.total(7) == second.total(7) == 3
    assert not first.slot_idle(7)
    assert first.total(8) == 0


def test_a_lane_of_a_worker_that_is_gone_is_cleared_and_only_that(block: int) -> None:
    first, second = InFlight(block, 0, 2), InFlight(block, 1, 2)
    first.own[7], second.own[7] = 1, 1
    second.own[CAPACITY - 1] = 5
    first.clear(1)
    assert first.total(7) == 1
    assert second.own[CAPACITY - 1] == 0


def test_lanes_beyond_the_number_of_workers_do_not_count(block: int) -> None:
    view = InFlight(block, 0, 1)
    InFlight(block, 1, 2).own[7] = 1
    assert view.total(7) == 0
    view.activate(range(2))
    assert view.total(7) == 1


def test_two_processes_share_it(block: int) -> None:
    child = (
        "import sys; from router.in_flight import InFlight; "
        "v = InFlight(int(sys.argv[1]), 1, 2); v.own[9] += 4; print(v.total(9))"
    )
    mine = InFlight(block, 0, 2)
    mine.own[9] = 1
    done = subprocess.run(
        [sys.executable, "-c", child, str(block)],
        pass_fds=[block],
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.strip() == "5"
    assert mine.total(9) == 5


def test_nobody_can_resize_it(block: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(block, 4096)


def test_what_is_no_block_has_no_capacity(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"x" * 100)
    with path.open("rb") as other:
        assert in_flight.capacity_of(other.fileno()) == 0
