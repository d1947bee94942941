"""What control leaves on disk, in its `run_dir`, and the pid file.

    lock           held (flock) as long as this control lives, even frozen; holds its pid
    state.json     the workers: enough to recognise them after control has died
    control.sock   where orphaned workers offer themselves (`control.adoption`)
    status.json    where to find the status server, and its credentials: for the command line
    routes.json    routes that came by the API (`control.static_routes`); stays when the router stops

The directory is the user's alone (0700). Files are written whole or not at all. A state that can't be read is no state.
A process is recognised by its pid and the moment it started, because pids are used again.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import msgspec

from router.control.errors import StartError
from router.worker_link import CONTROL_SOCKET

_LONGEST_SOCKET_PATH = 107  # bytes, unix(7)


class WorkerState(msgspec.Struct, frozen=True):
    """One worker process. `started` is its start time in clock ticks since boot, from /proc."""

    slot: int
    pid: int
    started: int
    lane: int = 0
    """Where it counts requests in flight."""
    leaving: bool = False
    """It only finishes what it has begun."""

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


class State(msgspec.Struct, frozen=True):
    """What `state.json` holds."""

    pid: int
    workers: list[WorkerState]


class StatusAccess(msgspec.Struct, frozen=True):
    """What `status.json` holds: the base URL of the routes listener and how to be let in, and that of `/health`."""

    url: str
    user: str
    password: str
    health_url: str = ""


def address_for(listens_on: str) -> str:
    """The address of this machine, for a URL, at which a server answers that listens there; "" = everywhere."""
    if listens_on in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{listens_on}]" if ":" in listens_on else listens_on


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when there is no such process, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return 0 if fields[0] in "ZX" else int(fields[19])


def write_whole(path: Path, content: bytes) -> None:
    """Write a file for this user only, whole or not at all. Raises OSError."""
    draft = path.with_name(f"{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


class RunDir:
    """The directory, locked. Raises StartError when it can't be used or another control has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket_path = path / CONTROL_SOCKET
        if len(os.fsencode(self.socket_path)) > _LONGEST_SOCKET_PATH:
            raise StartError(
                f"run_dir: {self.socket_path} is too long for a socket "
                f"(at most {_LONGEST_SOCKET_PATH} bytes); choose a shorter directory"
            )
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.stat()
            if found.st_uid != os.geteuid():
                raise StartError(f"run_dir: {path} belongs to another user; choose another with `run_dir:`")
            if stat.S_IMODE(found.st_mode) & 0o077:
                path.chmod(0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"run_dir: can't use {path}: {error.strerror}; choose another with `run_dir:`") from error
        self._take()

    def _take(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise StartError(
                f"run_dir: {self.path} is in use by the router with pid {holder}; "
                "stop that one, or give this one another `run_dir:` or `index:`"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def load(self) -> list[WorkerState]:
        """Workers that an earlier control left behind and that still live."""
        try:
            state = msgspec.json.decode((self.path / "state.json").read_bytes(), type=State)
        except (OSError, msgspec.MsgspecError):
            return []
        return [worker for worker in state.workers if worker.alive]

    def save(self, workers: list[WorkerState]) -> None:
        """Note the workers."""
        self._write("state.json", msgspec.json.encode(State(os.getpid(), workers)))

    def save_status(self, access: StatusAccess) -> None:
        """Tell the command line how to ask this router."""
        self._write("status.json", msgspec.json.encode(access))

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self.path / name, content)

    def forget(self) -> None:
        """There are no workers any more."""
        (self.path / "state.json").unlink(missing_ok=True)

    def release(self) -> None:
        """This control ends. Workers that it could not take over are still noted, for the next one."""
        for name in ("status.json", CONTROL_SOCKET):
            (self.path / name).unlink(missing_ok=True)
        os.close(self._lock)


def running_pid(run_dir: Path) -> int | None:
    """The process that holds the lock of this `run_dir`; None when nobody does."""
    try:
        lock = os.open(run_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(lock, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else None
    finally:
        os.close(lock)
    return None


def load_status(run_dir: Path) -> StatusAccess | None:
    """How to ask the router of this `run_dir`; None when none has left word."""
    try:
        return msgspec.json.decode((run_dir / "status.json").read_bytes(), type=StatusAccess)
    except (OSError, msgspec.MsgspecError):
        return None


class PidFile:
    """The file `pid_file` with our pid (contract §13.2). Refused while it names a living other process."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StartError(f"pid_file: can't write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # while it is written, as the classic router did
            text = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            if text.isdecimal() and int(text) != os.getpid() and start_time(int(text)):
                raise StartError(
                    f"pid_file: {path} names process {text}, which lives; "
                    "stop it, or choose another file with `pid_file:`"
                )
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        finally:
            os.close(self._descriptor)

    def remove(self) -> None:
        """At an orderly stop."""
        self._path.unlink(missing_ok=True)
