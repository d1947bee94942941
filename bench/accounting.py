"""What processes cost, read from /proc.

- CPU time is utime and stime of whole processes, all threads, living and dead. Their sum is exact to the
  10 ms of a clock tick; the split between user and system is sampled and needs a second to settle.
- A core's own counters show what else ran on it: figures with much foreign work are not worth quoting.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU time."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_of(pids: Iterable[int]) -> Cpu:
    """CPU time so far of these processes."""
    spent = Cpu()
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += Cpu(int(fields[11]) * TICK, int(fields[12]) * TICK)
    return spent


def rss_of(pids: Iterable[int]) -> int:
    """Resident bytes of these processes; pages they share count for each."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def busy_of(cores: Iterable[int]) -> float:
    """Seconds these cores were not idle, time taken by the hypervisor included."""
    names = {f"cpu{core}" for core in cores}
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, ticks)
            busy += user + nice + system + irq + softirq + steal
    return busy * TICK
