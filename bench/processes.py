"""Starting, pinning and stopping the servers of a bench.

- Every server is a child in a process group of its own, stopped by that handle and nothing else.
- It is pinned before it starts (taskset) and dies with the bench, however that ends (setpriv --pdeathsig).
- The proxy under test has a core of its own; backend and load generator share the others.
"""

import asyncio
import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError, find

START_SECONDS = 20.0
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores run what."""

    proxy: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The second core for the proxy, all others for the load; one core is shared by both."""
        usable = sorted(os.sched_getaffinity(0))
        proxy = usable[1] if len(usable) > 1 else usable[0]
        return cls(frozenset({proxy}), frozenset(usable) - {proxy} or frozenset({proxy}))

    @property
    def shared(self) -> bool:
        return self.proxy == self.load


def pinned(argv: Sequence[str], cores: frozenset[int]) -> list[str]:
    """The command line that runs argv on these cores, until this process dies."""
    cpus = ",".join(map(str, sorted(cores)))
    taskset, setpriv = (find(program, "apt-get install util-linux") for program in ("taskset", "setpriv"))
    return [taskset, "--cpu-list", cpus, setpriv, "--pdeathsig", "TERM", *argv]


@contextmanager
def server(
    argv: Sequence[str], cores: frozenset[int], output: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the length of a with block, its output appended to a file."""
    with output.open("ab") as sink:
        process = subprocess.Popen(
            pinned(argv, cores),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)  # what outlived its parent: the group is ours alone
        except ProcessLookupError:
            pass
        process.wait()


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    """Return once the port accepts connections."""

    def probe() -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return ""

    _wait(process, output, probe)


async def listening(port: int, patience: float, remedy: str = "") -> None:
    """Return once the port of 127.0.0.1 accepts connections; after `patience` seconds a BenchError, with the remedy."""
    for _ in range(int(patience / 0.05)):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.05)
    raise BenchError(f"nobody listens on port {port}{remedy}")


def wait_until_serving(
    process: subprocess.Popen[bytes], port: int, host: str, output: Path, *, https: bool = False
) -> None:
    """Return once a GET is answered 200."""

    def probe() -> str:
        if https:
            unchecked = ssl._create_unverified_context()
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=unchecked)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/small", headers={"Host": host})
            status = connection.getresponse().status
        finally:
            connection.close()
        return "" if status == 200 else f"status {status}"

    _wait(process, output, probe)


def _wait(process: subprocess.Popen[bytes], output: Path, probe: Callable[[], str]) -> None:
    """Probe until it has no complaint; a server that died or is late is an error, with its last words."""
    deadline = time.monotonic() + START_SECONDS
    complaint = "never asked"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            complaint = probe()
        except (OSError, http.client.HTTPException) as error:
            complaint = str(error) or type(error).__name__
        if not complaint:
            return
        time.sleep(0.05)
    state = "is not serving" if process.poll() is None else f"exited with {process.returncode}"
    last_words = "\n".join(output.read_text(errors="replace").splitlines()[-8:])
    raise BenchError(f"{output.stem} {state} ({complaint})\n{last_words}".rstrip())
