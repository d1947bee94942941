"""Worker processes: how one is made, how its end is noticed.

Children and processes adopted from an earlier control are treated alike: each is held by a pidfd, which never means
another process, and which the loop can wait on. No SIGCHLD, no waiting by number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from router.control.state import start_time

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


class Process:
    """A living process. `on_exit` is told once how it ended; adopted ones keep that to themselves."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pid: int,
        on_exit: Callable[[str], None],
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Raises ProcessLookupError when there is no such process."""
        self.pid = pid
        self.started = start_time(pid)
        """In clock ticks since boot: with the pid, which process this is."""
        self.alive = True
        self._loop = loop
        self._on_exit = on_exit
        self._child = child
        self._pidfd = os.pidfd_open(pid)
        loop.add_reader(self._pidfd, self._exited)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self.alive:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _exited(self) -> None:
        self.alive = False
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._on_exit(self._how())

    def _how(self) -> str:
        if self._child is not None:
            status = self._child.wait()
        else:
            try:  # a child of ours it is when this process was another program before (an upgrade)
                status = os.waitstatus_to_exitcode(os.waitpid(self.pid, os.WNOHANG)[1])
            except ChildProcessError:
                return "gone, status unknown: an earlier control had started it"
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"


def spawn(
    loop: asyncio.AbstractEventLoop,
    slot: int,
    feed: socket.socket,
    block: int,
    listeners: list[socket.socket],
    on_exit: Callable[[str], None],
) -> Process:
    """Start the worker of a slot; it inherits its end of the feed, the in-flight block and what it listens on.

    Raises OSError when the system has no room for another process.
    """
    sockets = [sock.fileno() for sock in listeners]
    arguments = (slot, feed.fileno(), block, time.monotonic(), *sockets)
    child = subprocess.Popen(
        # -P: the worker is the one of this installation, whatever lies in the current directory.
        [sys.executable, "-P", "-m", "router.worker", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        pass_fds=[feed.fileno(), block, *sockets],
        env={**os.environ, "PYTHONPATH": _python_path()},
    )
    return Process(loop, child.pid, on_exit, child)


def _python_path() -> str:
    given = os.environ.get("PYTHONPATH")
    return f"{_PACKAGE_PARENT}{os.pathsep}{given}" if given else _PACKAGE_PARENT
