"""What control leaves on disk: locked, private, whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from router.control.errors import StartError
from router.control.state import (
    PidFile,
    RunDir,
    StatusAccess,
    WorkerState,
    load_status,
    start_time,
)


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_the_directory_is_private(tmp_path: Path) -> None:
    path = tmp_path / "run" / "8081-0"
    RunDir(path).release()
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_second_control_is_refused_and_told_whose_it_is(tmp_path: Path) -> None:
    first = RunDir(tmp_path)
    with pytest.raises(StartError, match=rf"in use by the router with pid {os.getpid()}"):
        RunDir(tmp_path)
    first.release()
    RunDir(tmp_path).release()


def test_the_lock_goes_with_the_process_however_it_dies(tmp_path: Path) -> None:
    child = (
        "import os, sys, pathlib; from router.control.state import RunDir; "
        "held = RunDir(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", child, str(tmp_path)], cwd=root, timeout=30, check=False)
    assert done.returncode == -9
    RunDir(tmp_path).release()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"run_dir: .* too long for a socket .* shorter directory"):
        RunDir(tmp_path / ("x" * 100))


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"run_dir: can't use .*file/run: .*`run_dir:`"):
        RunDir(tmp_path / "file" / "run")


def test_living_workers_are_recognised(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    run_dir = RunDir(tmp_path)
    living = WorkerState(0, sleeper.pid, start_time(sleeper.pid))
    same_pid_other_process = WorkerState(1, sleeper.pid, living.started + 1)
    run_dir.save([living, same_pid_other_process])
    assert run_dir.load() == [living]
    sleeper.kill()
    sleeper.wait()
    assert run_dir.load() == []
    run_dir.release()
    assert (tmp_path / "state.json").exists()


def test_a_dead_process_that_nobody_has_reaped_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    state = WorkerState(0, sleeper.pid, start_time(sleeper.pid))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not state.alive


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1, "workers": [{"slot": "x"}]}'])
def test_a_state_that_cannot_be_read_is_no_state(tmp_path: Path, content: bytes) -> None:
    run_dir = RunDir(tmp_path)
    (tmp_path / "state.json").write_bytes(content)
    assert run_dir.load() == []
    run_dir.release()


def test_the_command_line_finds_the_credentials_and_others_do_not(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    access = StatusAccess("http://127.0.0.1:8082", "user", "secret")
    run_dir.save([])
    run_dir.save_status(access)
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o600
    assert load_status(tmp_path) == access
    run_dir.forget()
    run_dir.release()
    assert load_status(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


class TestPidFile:
    def test_written_and_removed(self, tmp_path: Path) -> None:
        path = tmp_path / "router.pid"
        held = PidFile(str(path))
        assert path.read_text() == f"{os.getpid()}\n"
        held.remove()
        assert not path.exists()

    def test_refused_while_it_names_a_living_process(self, tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
        path = tmp_path / "router.pid"
        path.write_text(str(sleeper.pid))
        with pytest.raises(StartError, match=rf"pid_file: .*router\.pid names process {sleeper.pid}"):
            PidFile(str(path))
        assert path.read_text() == str(sleeper.pid)

    @pytest.mark.parametrize("old", ["", "nonsense", "99999999", "4" * 31])
    def test_taken_over_from_the_dead(self, tmp_path: Path, old: str) -> None:
        path = tmp_path / "router.pid"
        path.write_text(old)
        PidFile(str(path))
        assert path.read_text() == f"{os.getpid()}\n"

    def test_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(StartError, match=r"pid_file: can't write .*/no/router\.pid: No such file"):
            PidFile(str(tmp_path / "no" / "router.pid"))
