"""Log and metrics against requests of known kinds; `python -m bench.exact` does the same with 100,000."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from bench import counts
from router.control.app import Control
from router.messages import EndpointSpec
from tests.support.processes import free_port
from tests.support.router import router

TOTAL = 2003


@asynccontextmanager
async def serving(directory: Path, workers: int) -> AsyncIterator[tuple[Control, Path]]:
    """A router before the apps of `counts`, and its access log."""
    log = directory / "access.log"
    async with (
        counts.backend() as port,
        router(directory, workers=workers, access_log={"file": str(log)}, backends={"max_attempts": 1}) as control,
    ):
        for app, where in (("one", port), ("two", port), ("dead", free_port())):
            control.registry.register(EndpointSpec("127.0.0.1", where, app=app), [f"{app}.test"])
        yield control, log


async def metrics(control: Control) -> str:
    return (await control.observing.metrics()).decode()


async def test_log_and_metrics_say_exactly_what_was_sent(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=0) as (control, log):
        bounds = (await counts.send(control.port, TOTAL)).bounds(0)

        async def wrong() -> list[str]:
            return counts.wrong_in_log(log, bounds) + counts.wrong_in_metrics(await metrics(control), bounds)

        assert not await counts.settled(wrong)


async def test_a_killed_worker_takes_its_last_second_with_it_and_nothing_else(tmp_path: Path) -> None:
    scrapes: list[str] = []
    async with serving(tmp_path, workers=2) as (control, log):

        def at(number: int) -> None:
            if number == TOTAL // 2:
                os.kill(control.keeper.states()[0].pid, signal.SIGKILL)

        first = await counts.send(control.port, TOTAL)

        async def wrong() -> list[str]:
            scrapes.append(await metrics(control))
            text, bounds = scrapes[-1], ledger.bounds(lost_seconds=60)
            return counts.wrong_in_log(log, bounds) + counts.wrong_in_metrics(text, bounds)

        ledger = first
        assert not await counts.settled(wrong)
        more = await counts.send(control.port, TOTAL, at)
        assert more.broken
        ledger = counts.Ledger(first.answered, {}, first.unanswered)
        ledger.add(more)
        assert not await counts.settled(wrong)
        assert not [fell for before, now in pairwise(scrapes) for fell in counts.fallen(before, now)]
