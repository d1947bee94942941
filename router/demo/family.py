"""Processes that are started together and end together: for the demo, and for a cluster on one machine.

Each leads a process group, so that Ctrl-C reaches the family's head alone, which ends the others in order; what is left
of a group is killed with it. Should the head itself be killed, the kernel tells its children to end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

STOP_SECONDS = 5.0
LAST_WORDS = 15
"""Lines of a process's output that are shown when it failed."""


class Child:
    """One process. `ended` is done when it has ended, with its exit status."""

    def __init__(self, name: str, argv: tuple[str, ...], process: asyncio.subprocess.Process, output: Path) -> None:
        self.name = name
        self.argv = argv
        self.process = process
        self.output = output
        self.ended = asyncio.create_task(process.wait())

    def last_words(self) -> str:
        """The end of its output."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-LAST_WORDS:])

    def end(self) -> str:
        """How it ended, and its last words."""
        status = self.ended.result()
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return f"{self.name} ended {how}; it said:\n{self.last_words()}"

    async def stop(self) -> None:
        """Ask it to end, wait a little, and leave nothing of its process group behind."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        await asyncio.wait([self.ended], timeout=STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.ended


class Family:
    """Processes, and how they end: apps first, so that they can unregister, servers in reverse order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Child] = []
        """What the others can't do without, in the order of their start."""
        self.apps: list[Child] = []

    async def start(self, name: str, *argv: str) -> Child:
        """Run a command in a process group of its own, with its output in a file."""
        output = self.folder / f"{name}.log"
        setpriv = shutil.which("setpriv")
        parental = (setpriv, "--pdeathsig", "TERM") if setpriv is not None else ()
        with output.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *parental,
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return Child(name, argv, process, output)

    async def live(self, work: Coroutine[None, None, None]) -> None:
        """Do this work until it ends or a signal ends it, then stop everybody. Raises what it raised."""
        task = asyncio.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if task.cancelled():
            print("\nStopping.", flush=True)
        await self.stop()
        if not task.cancelled():
            task.result()

    async def stop(self) -> None:
        """End all that still runs."""
        await asyncio.gather(*(app.stop() for app in self.apps))
        for server in reversed(self.servers):
            await server.stop()
