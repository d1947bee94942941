"""The commands about configuration: what they print where, and their exit status."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from router.cli.check import load_or_report, report
from router.cli.main import app
from router.config.load import load
from router.config.problems import ConfigError

ROOT = Path(__file__).parents[2]
HEAVY = (
    "aiohttp",
    "nats",
    "pydantic",
    "yaml",
    "uvloop",
    "rich",
    "msgspec",
    "structlog",
    "asyncio",
    "router.config",
)


def router(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, prog_name="router")


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.yml"
    path.write_text("port: 70000\nprt: 1\ndebug_addr: 1.2.3.4:5\n")
    return str(path)


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.yml"
    path.write_text("port: 7000\ndebug_addr: 1.2.3.4:5\nnats: {user: u, pass: hunter2}\n")
    return str(path)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from router.cli.main import app; app(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Check a configuration" in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"


def test_help_fits_a_terminal_and_names_what_is_wanted() -> None:
    overview = router("--help").stdout
    assert "..." not in overview.partition("Commands:")[2]
    for command in app.registered_commands:
        assert command.callback is not None
        told = router(command.name or command.callback.__name__, "--help").stdout.partition("Options:")[2]
        assert re.search("<[a-z]", told) is None  # as in <str>: the type, not what it means


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "{file}: cannot be read: No such file or directory (name the file with -c FILE)"),
        ("port: 1\n  status: [", "{file}:2:9: not valid YAML: mapping values are not allowed in this context"),
        ("prot: 1", "{file}:1:1: prot: there is no such key (did you mean `port`?)"),
        ("port: abc", "{file}:1:7: port: abc given, expected a port number, 0 to 65535"),
        (
            "endpoint_timeout: 5 apples",
            "{file}:1:19: endpoint_timeout: 5 apples given, expected a duration such as 30s",
        ),
        (
            "balancing_algorithm: robin",
            "{file}:1:22: balancing_algorithm: robin given, expected one of `consistent-hash`",
        ),
        (
            "enable_ssl: true\ntls_pem: [{cert_chain: /no.pem, private_key: /no.key}]",
            "{file}:2:10: tls_pem: entry 1: can't read /no.pem: No such file or directory (give PEM text, or the path",
        ),
    ],
)
def test_run_names_the_mistake_and_the_remedy(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "router.yml"
    if text is not None:
        file.write_text(text)
    told = router("run", "-c", str(file))
    assert (told.exit_code, told.stdout) == (1, "")
    first, *rest = told.stderr.splitlines()
    assert first.startswith(said.format(file=file))
    assert rest in ([], [f"{file}: 1 problem"])


def test_check_of_a_good_file(good: str) -> None:
    result = router("check", "-c", good)
    assert result.exit_code == 0
    assert result.stdout == f"{good}: ok, 1 warning\n"
    assert result.stderr.startswith(f"{good}:2: key 'debug_addr' is known but not supported yet: ")


def test_check_of_a_bad_file(bad: str) -> None:
    result = router("check", "-c", bad)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[1:] == [
        f"{bad}:1:7: port: 70000 given, expected a port number, 0 to 65535",
        f"{bad}:2:1: prt: there is no such key (did you mean `port`?)",
        f"{bad}: 2 problems",
    ]


def test_check_of_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUD_FOUNDRY_CONFIG_PATH", raising=False)
    assert router("check").stdout == "configuration: ok, 0 warnings\n"


def test_check_of_the_sample_file() -> None:
    result = router("check", "-c", str(ROOT / "config/router.yml"))
    assert (result.exit_code, result.stderr) == (0, "")


def test_check_in_json(bad: str, good: str) -> None:
    result = router("check", "-c", bad, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["file"], found["ok"]) == (bad, False)
    assert [(problem["path"], problem["line"], problem["column"]) for problem in found["problems"]] == [
        ("port", 1, 7),
        ("prt", 2, 1),
    ]
    assert [warning["path"] for warning in found["warnings"]] == ["debug_addr"]

    found = json.loads(router("check", "-c", good, "--json").stdout)
    assert (found["ok"], found["problems"], len(found["warnings"])) == (True, [], 1)


def test_options_before_the_command_hold_for_it(good: str) -> None:
    assert router("-c", good, "check").stdout == f"{good}: ok, 1 warning\n"
    assert "port: 5 " in router("-c", good, "-p", "5", "config").stdout


def test_effective_values_and_origins(good: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER__INDEX", "3")
    result = router("config", "--effective", "-c", good, "-i", "127.0.0.1")
    lines = {line.split(":")[0]: line for line in result.stdout.splitlines()}
    assert lines["# dialect"] == "# dialect: gorouter"
    assert lines["port"].split("  ")[0] == "port: 7000"
    assert lines["port"].endswith(f"  # {good}:1")
    assert lines["index"].endswith("  # environment ROUTER__INDEX")
    assert lines["inet"].endswith("  # flag")
    assert lines["workers"].endswith("  # default")
    assert lines["nats.pass"].startswith("nats.pass: '***'")
    assert "hunter2" not in result.output


def test_effective_in_json(good: str) -> None:
    found = json.loads(router("config", "--json", "-c", good).stdout)
    assert (found["file"], found["dialect"]) == (good, "gorouter")
    assert found["settings"]["port"] == {"value": 7000, "origin": f"{good}:1"}
    assert found["settings"]["endpoint_timeout"] == {"value": "1m", "origin": "default"}


def test_effective_without_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER__NATS", "null")
    settings = json.loads(router("config", "--json").stdout)["settings"]
    assert settings["nats"] == {"value": None, "origin": "environment ROUTER__NATS"}
    assert not [key for key in settings if key.startswith("nats.")]


def test_effective_of_a_bad_file_is_its_report(bad: str) -> None:
    result = router("config", "-c", bad)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith(f"{bad}: 2 problems\n")


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["config", "--reference"], "docs/configuration.md"),
        (["config", "--sample"], "config/router.yml"),
        (["schema"], "config/router.schema.json"),
    ],
)
def test_what_is_made_from_the_model(arguments: list[str], file: str) -> None:
    assert router(*arguments).stdout == (ROOT / file).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["check", "--nope"], "No such option"),
        (["run", "-p", "x"], "Invalid value"),
        (["config", "--reference", "--sample"], "give only one of --effective, --reference and --sample"),
        (["config", "--reference", "--json"], "--json goes with --effective"),
        ([], "Usage: router"),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], message: str) -> None:
    result = router(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_version() -> None:
    assert router("--version").stdout == router("version").stdout
    assert router("--version").stdout.startswith("router ")


Calls = list[tuple[object, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of commands whose machinery is replaced; each gives exit status 7."""
    made: Calls = []

    def stand_in(name: str) -> Callable[..., int]:
        def command(*arguments: object) -> int:
            made.append((name, *arguments))
            return 7

        return command

    for name in ("run", "routes", "demo"):
        module = ModuleType(f"router.cli.{name}")
        setattr(module, name, stand_in(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["run"], ("run", None, {"port": None, "inet": None})),
        (["run", "-c", "f", "-p", "1", "-i", "::1"], ("run", "f", {"port": 1, "inet": "::1"})),
        (["-c", "f"], ("run", "f", {"port": None, "inet": None})),
        (["-p", "1"], ("run", None, {"port": 1, "inet": None})),
        (["-c", "f", "run", "-p", "1"], ("run", "f", {"port": 1, "inet": None})),
        (["routes"], ("routes", (None, None), None, False)),
        (["routes", "-c", "f", "--host", "h", "--json"], ("routes", ("f", None), "h", True)),
        (["demo"], ("demo", 8081, 8080, 4222)),
        (["demo", "--port", "1", "--status-port", "2", "--nats-port", "3"], ("demo", 1, 2, 3)),
    ],
)
def test_commands_get_their_options(calls: Calls, arguments: list[str], call: tuple[object, ...]) -> None:
    assert router(*arguments).exit_code == 7
    assert calls == [call]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_report_has_colour_on_a_terminal_only(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with pytest.raises(ConfigError) as caught:
        load(bad, {})
    plain, coloured, refused = io.StringIO(), Terminal(), Terminal()
    report(caught.value, plain)
    report(caught.value, coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    report(caught.value, refused)
    assert plain.getvalue() == refused.getvalue()
    assert f"\033[31m{bad}:1:7\033[0m: port: 70000 given" in coloured.getvalue()
    assert coloured.getvalue().replace("\033[31m", "").replace("\033[33m", "").replace("\033[0m", "") == (
        plain.getvalue()
    )


def test_load_or_report(good: str, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_or_report(good, {"port": 9})
    assert loaded is not None
    assert loaded.config.port == 9
    assert "debug_addr" in capsys.readouterr().err
    assert load_or_report(bad) is None
    assert capsys.readouterr().err.endswith("2 problems\n")
