"""One run: warm up, then load one proxy with one scenario and see what it cost.

Everything is a difference around the measured load. What casts doubt on the figures (an error the client saw,
a process that came or went, requests missing in the log) is kept with the run as a problem, in words.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from . import load
from .accounting import Cpu, busy_of, cpu_of, rss_of
from .errors import BenchError
from .load import Load
from .processes import Cores
from .proxies.base import Running
from .scenarios import Scenario

WARM_UP_SECONDS = 1
LOGGED_SHARE = 0.9
"""Of the measured requests; a log may buffer a second, but it also holds the warm-up's."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed."""

    proxy: str
    scenario: str
    load: Load
    cpu: Cpu
    control_cpu: Cpu
    rss: int
    control_rss: int
    foreign: float
    """Seconds of the proxy's core spent on something else."""
    problems: tuple[str, ...]

    @property
    def rate(self) -> float:
        return self.load.requests / self.load.seconds

    @property
    def core_share(self) -> float:
        return self.cpu.total / self.load.seconds

    @property
    def foreign_share(self) -> float:
        return self.foreign / self.load.seconds

    def per_request(self, seconds: float) -> float:
        """Microseconds a request."""
        return seconds * 1e6 / max(self.load.requests, 1)


def measure(name: str, running: Running, scenario: Scenario, seconds: int, cores: Cores) -> Run:
    """Run one scenario against one proxy."""
    log = running.access_log
    if log:
        os.truncate(log, 0)
    load.run(scenario, running.port, WARM_UP_SECONDS, cores.load)
    workers, control = running.data_plane(), running.control_plane()
    cpu, control_cpu, busy = cpu_of(workers), cpu_of(control), busy_of(cores.proxy)
    result = load.run(scenario, running.port, seconds, cores.load)
    cpu, control_cpu = cpu_of(workers) - cpu, cpu_of(control) - control_cpu
    busy = busy_of(cores.proxy) - busy

    problems = [f"{count} {kind} errors" for kind, count in result.errors.items() if count]
    if result.requests == 0:
        problems.append("no request answered")
    if running.data_plane() != workers:
        problems.append("its processes changed")
    if log and (lines := _lines(log)) < result.requests * LOGGED_SHARE:
        problems.append(f"{lines} lines logged for {result.requests} requests")
    return Run(
        proxy=name,
        scenario=scenario.name,
        load=result,
        cpu=cpu,
        control_cpu=control_cpu,
        rss=rss_of(workers),
        control_rss=rss_of(control),
        foreign=max(0.0, busy - cpu.total - control_cpu.total),
        problems=tuple(problems),
    )


def cost(proxy: Running, scenario: Scenario, seconds: int, cores: Cores) -> float:
    """Microseconds of the workers' CPU for a request, without warming up. Raises BenchError when one failed."""
    if proxy.access_log:
        os.truncate(proxy.access_log, 0)
    before = cpu_of(proxy.data_plane()).total
    result = load.run(scenario, proxy.port, seconds, cores.load)
    if failed := sum(result.errors.values()):
        raise BenchError(f"{failed} requests failed")
    return (cpu_of(proxy.data_plane()).total - before) / result.requests * 1e6


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
