"""The load generator: wrk, one thread, closed loop. One call is one run and gives a `Load`."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BenchError, find
from .processes import pinned
from .scenarios import Scenario

REPORT = Path(__file__).with_name("report.lua")
GRACE_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk sent and saw in one run."""

    requests: int
    seconds: float
    bytes: int
    p50_us: int
    p99_us: int
    errors: dict[str, int]


def wrk() -> str:
    """The path of wrk."""
    return find("wrk", "apt-get install wrk")


def run(scenario: Scenario, port: int, seconds: int, cores: frozenset[int]) -> Load:
    """Send one scenario's requests to a port for some seconds."""
    headers = [f"--header={name}: {value}" for name, value in scenario.sent_headers.items()]
    argv = [
        wrk(),
        "--threads=1",
        f"--connections={scenario.connections}",
        f"--duration={seconds}s",
        f"--script={REPORT}",
        *headers,
        f"http://127.0.0.1:{port}{scenario.path}",
        "--",
        scenario.method,
        str(scenario.body_bytes),
    ]
    return Load(**_last_line(argv, seconds, cores))


def script(path: Path, port: int, seconds: int, cores: frozenset[int], *, connections: int) -> dict[str, float]:
    """Send what a Lua script has to send; gives the object that it prints at the end."""
    argv = [
        wrk(),
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        "--timeout=10s",
        f"--script={path}",
        f"http://127.0.0.1:{port}/",
    ]
    return _last_line(argv, seconds, cores)


def _last_line(argv: list[str], seconds: int, cores: frozenset[int]) -> dict[str, Any]:
    try:
        finished = subprocess.run(pinned(argv, cores), capture_output=True, text=True, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk did not end {GRACE_SECONDS} s after its {seconds} s") from None
    if finished.returncode != 0:
        raise BenchError(f"wrk failed: {(finished.stderr or finished.stdout).strip()}")
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found
