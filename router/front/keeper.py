"""A configuration in a file, kept current: checked by the front's own program, replaced as a whole, then reloaded.

The program always finds a whole file there that it has accepted. A reload that failed is tried again with the next
look, also if nothing has changed since.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

CHECK_SECONDS = 30.0
RELOAD_SECONDS = 60.0
CHECKS = {
    "nginx": ("nginx", "-t", "-q", "-c"),
    "haproxy": ("haproxy", "-c", "-q", "-f"),
}
"""How each program checks the file whose name follows."""
SYSTEM_PATH = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
"""Where a user's PATH may not lead."""


class KeeperError(Exception):
    """Why the file was not replaced, or the front not reloaded, in words for the user."""


class Keeper:
    """The file at `path`, of a `kind` of CHECKS. `reload` is a shell command, or empty."""

    def __init__(self, kind: str, path: Path, reload: str) -> None:
        """Raises KeeperError when the program that checks is not there."""
        program, *arguments = CHECKS[kind]
        found = shutil.which(program) or shutil.which(program, path=SYSTEM_PATH)
        if found is None:
            raise KeeperError(
                f"{program} is not installed, so its configuration can't be checked; install it here, or "
                "print the configuration (no --output) and check it where it is used"
            )
        self._check = (found, *arguments)
        self._path = path
        self._reload = reload
        self._stale = False

    async def put(self, text: str) -> bool:
        """Have this text in the file and in force; True when something was done. Raises KeeperError."""
        changed = text != self._read()
        if changed:
            await self._replace(text)
            self._stale = True
        if not self._stale or not self._reload:
            return changed
        status, said = await _run("/bin/sh", "-c", self._reload, seconds=RELOAD_SECONDS)
        if status:
            raise KeeperError(f"`{self._reload}` failed{_why(status, said)}")
        self._stale = False
        return True

    def _read(self) -> str:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise KeeperError(f"{self._path} can't be read: {getattr(error, 'strerror', None) or error}") from error

    async def _replace(self, text: str) -> None:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent, text=True)
        except OSError as error:
            raise KeeperError(
                f"{self._path.parent}: {error.strerror or error}; --output needs to write there"
            ) from error
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            status, said = await _run(*self._check, name, seconds=CHECK_SECONDS)
            if status:
                said = said.replace(name, str(self._path))
                raise KeeperError(f"{' '.join(self._check)} refuses the configuration{_why(status, said)}")
            os.replace(name, self._path)
        except OSError as error:
            raise KeeperError(f"{self._path} can't be written: {error.strerror or error}") from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


async def _run(*argv: str, seconds: float) -> tuple[int, str]:
    """Exit status and output of a command; one that takes too long is killed with all it started."""
    with tempfile.TemporaryFile() as output:  # and not a pipe, which a daemon that the command starts would keep open
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            async with asyncio.timeout(seconds):
                status = await process.wait()
        except TimeoutError:
            return -1, f"it took more than {seconds:.0f} s"
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        output.seek(0)
        return status, output.read().decode(errors="replace").strip()


def _why(status: int, said: str) -> str:
    return f":\n{said}" if said else f" with status {status}"
