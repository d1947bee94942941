"""The way in: the usual start goes past the command line's machinery, and does what that would have done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router.__main__ import main, plain_run
from router.cli import run as running
from router.cli.main import app


@pytest.mark.parametrize("words", [["run", "-c", "a.yml"], ["run", "--config", "a b"], ["-c", "x"], ["--config", "x"]])
def test_a_plain_run_is_what_the_command_line_makes_of_it(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(running, "run", lambda *given: calls.append(given) or 3)
    monkeypatch.setattr(sys, "argv", ["router", *words])
    assert plain_run(words) is not None
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == CliRunner().invoke(app, words).exit_code == 3
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    "words",
    [[], ["run"], ["run", "-c"], ["run", "-c", "x", "-p", "81"], ["check", "-c", "x"], ["--help"], ["run", "-cx"]],
)
def test_everything_else_is_for_the_command_line(words: list[str]) -> None:
    assert plain_run(words) is None


def test_a_plain_run_loads_no_command_line(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from router.__main__ import main\n"
        f"sys.argv[1:] = ['run', '-c', {str(tmp_path / 'absent.yml')!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, 'typer' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "1 False\n"
    assert "absent.yml" in done.stderr


def test_both_names_of_the_program_answer() -> None:
    for module in ("router", "router.cli.main"):
        done = subprocess.run(
            [sys.executable, "-m", module, "version"], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout.startswith("router ")
