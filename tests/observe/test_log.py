"""The event log (contract §12.4) and what keeps it from flooding."""

from __future__ import annotations

import json
import os
import pty
import re
from pathlib import Path
from typing import Any

import pytest

from router.observe.log import Limiter, Log


def lines(tmp_path: Path, **options: Any) -> list[dict[str, Any]]:
    """What a log with these options writes of one event of each level."""
    with (tmp_path / "log").open("wb") as file:
        log = Log(fd=file.fileno(), **options).component("nats")
        for level in ("debug", "info", "warn", "error"):
            getattr(log, level)(f"a-{level}", number=1, path=Path("/x"))
    return [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]


def test_one_json_object_a_line(tmp_path: Path) -> None:
    first, *others = lines(tmp_path, level="debug")
    assert list(first) == ["log_level", "timestamp", "message", "source", "data"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", first.pop("timestamp"))
    assert first == {"log_level": 0, "message": "a-debug", "source": "router.nats", "data": {"number": 1, "path": "/x"}}
    assert [line["log_level"] for line in others] == [1, 2, 3]


@pytest.mark.parametrize(("level", "written"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1), ("fatal", 1)])
def test_levels(tmp_path: Path, level: str, written: int) -> None:
    assert len(lines(tmp_path, level=level)) == written


def test_unix_time(tmp_path: Path) -> None:
    assert isinstance(lines(tmp_path, timestamp="unix-epoch")[0]["timestamp"], float)


def test_a_terminal_gets_text_that_cannot_steer_it() -> None:
    ours, theirs = pty.openpty()
    Log("router", fd=theirs).warn("odd-host", host="\033[2J evil", size=3)
    text = os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert "odd-host" in text
    assert "\\x1b[2J evil" in text
    assert "\033[2J" not in text
    assert "size=3" in text


def test_a_log_nobody_reads_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    Log(fd=write).error("nobody-hears-this")
    os.close(write)


def test_once_a_key_and_time_and_the_rest_counted() -> None:
    now = 100.0
    limiter = Limiter(60.0, lambda: now)
    assert [limiter.allow("a") for _ in range(3)] == [0, None, None]
    assert limiter.allow("b") == 0
    now = 160.0
    assert [limiter.allow("a"), limiter.allow("a")] == [2, None]
    now = 1000.0
    assert limiter.allow("a") == 1
    assert limiter.allow("b") == 0
