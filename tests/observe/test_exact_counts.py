"""Log and metrics against requests of known kinds; `python -m bench.observe` does the same with 100,000."""

from __future__ import annotations

from pathlib import Path

from bench import counts
from router.messages import EndpointSpec
from tests.support.processes import free_port
from tests.support.router import router

TOTAL = 2003


async def test_log_and_metrics_say_exactly_what_was_sent(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with (
        counts.backend() as port,
        router(tmp_path, access_log={"file": str(log)}, backends={"max_attempts": 1}) as control,
    ):
        for app, where in (("one", port), ("two", port), ("dead", free_port())):
            control.registry.register(EndpointSpec("127.0.0.1", where, app=app), [f"{app}.test"])
        await counts.send(control.port, TOTAL)

        async def wrong() -> list[str]:
            text = (await control.observing.metrics()).decode()
            return counts.wrong_in_log(log, TOTAL) + counts.wrong_in_metrics(text, TOTAL)

        assert not await counts.settled(wrong)
