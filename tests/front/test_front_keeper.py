"""A file that only ever holds what its program accepted, and a reload for every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.front.keeper import Keeper, KeeperError
from tests.support.programs import needs

GOOD = "events {}\n"
BETTER = "events {}\n# more\n"

pytestmark = needs("nginx")


def keeper(directory: Path, reload: str = "") -> Keeper:
    return Keeper("nginx", directory / "front.conf", reload)


def pid_file(directory: Path) -> str:
    """nginx -t opens it."""
    return f"pid {directory}/pid; error_log {directory}/log;\n"


async def test_written_once_and_reloaded_once_for_a_change(tmp_path: Path) -> None:
    file, reloads = tmp_path / "front.conf", tmp_path / "reloads"
    head = pid_file(tmp_path)
    kept = keeper(tmp_path, f"cat {file} >> {reloads}")
    assert await kept.put(head + GOOD)
    assert not await kept.put(head + GOOD)
    assert await kept.put(head + BETTER)
    assert reloads.read_text() == head + GOOD + head + BETTER
    assert file.stat().st_mode & 0o777 == 0o644
    assert not await keeper(tmp_path, "exit 1").put(head + BETTER)  # another start finds it in place


async def test_what_the_program_refuses_leaves_everything_as_it_was(tmp_path: Path) -> None:
    kept = keeper(tmp_path, f"touch {tmp_path}/reloaded")
    head = pid_file(tmp_path)
    (tmp_path / "front.conf").write_text(head + GOOD)
    with pytest.raises(KeeperError, match=r"(?s)nginx -t .* refuses .*unknown directive \"nonsense\".*/front\.conf:"):
        await kept.put(head + "nonsense;\n")
    assert (tmp_path / "front.conf").read_text() == head + GOOD
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    assert not (tmp_path / "reloaded").exists()


async def test_a_reload_that_failed_is_tried_again(tmp_path: Path) -> None:
    text = pid_file(tmp_path) + GOOD
    kept = keeper(tmp_path, f"echo not now; test -e {tmp_path}/ready")
    for _ in range(2):
        with pytest.raises(KeeperError, match=r"(?s)`echo not now.*failed:\nnot now"):
            await kept.put(text)
    (tmp_path / "ready").touch()
    assert await kept.put(text)
    assert not await kept.put(text)


async def test_a_daemon_that_the_reload_starts_is_not_waited_for(tmp_path: Path) -> None:
    assert await keeper(tmp_path, "sleep 5 &").put(pid_file(tmp_path) + GOOD)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeeperError, match="nowhere: No such file or directory; --output"):
        await Keeper("nginx", tmp_path / "nowhere" / "front.conf", "").put(GOOD)


def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("router.front.keeper.SYSTEM_PATH", str(tmp_path))
    with pytest.raises(KeeperError, match="nginx is not installed"):
        keeper(tmp_path)
