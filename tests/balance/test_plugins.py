"""Strategies of others: the example of the documentation, and broken ones. Installed as pip would leave them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from router.balance.strategy import Guarded, StrategyError
from router.table.pool import Pool
from tests.support.routers import running
from tests.support.table import Asking, pool_of
from tests.support.wire import STRATEGIES, Client, answering, serving
from tests.support.workers import backend

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/plug-in-example"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def install(site: Path, name: str, module: Path, strategies: dict[str, str]) -> None:
    """Put a module and its metadata into a directory of packages."""
    site.mkdir(exist_ok=True)
    (site / module.name).write_text(module.read_text())
    about = site / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in strategies.items()]
    (about / "entry_points.txt").write_text("\n".join(["[router.strategies]", *lines, ""]))


def install_example(site: Path) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(site, project["name"], EXAMPLE / "router_first_fit.py", project["entry-points"]["router.strategies"])


def command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{site}:{ROOT}"}
    argv = [sys.executable, "-m", "router.cli.main", *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_the_example_is_short() -> None:
    assert sum(len(path.read_text().splitlines()) for path in EXAMPLE.iterdir() if path.is_file()) < 40


async def test_the_example_is_installed_and_used(tmp_path: Path) -> None:
    install_example(tmp_path / "site")
    listed = command(tmp_path / "site", "plugins", "--json")
    assert listed.returncode == 0
    assert {
        "name": "first-fit",
        "strategy": "router_first_fit:FirstFit",
        "package": "router-first-fit 1.0",
        "error": None,
    } in json.loads(listed.stdout)
    os.environ["PYTHONPATH"], before = f"{tmp_path / 'site'}:{ROOT}", os.environ.get("PYTHONPATH")
    try:
        async with (
            running(tmp_path, balancing_algorithm="first-fit") as (router, party),
            backend(lambda head: b"one") as one,
            backend(lambda head: b"two") as two,
        ):
            await party.say("register", one, "a.test")
            await router.answers("a.test", 200)
            await party.say("register", two, "a.test")
            assert {(await router.get("a.test"))[2] for _ in range(6)} == {b"one"}
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere_at_all\n", "No module named"),
        ("class It: pass\n", "has no method pick(pool, request)"),
        ("class It:\n    interface_version = 99\n    def pick(self, pool, request): ...\n", "wants version 99"),
        ("class It:\n    def __init__(self): raise OSError('no disk')\n    def pick(self, p, r): ...\n", "no disk"),
    ],
)
def test_a_router_does_not_start_with_a_broken_one_and_says_why(tmp_path: Path, text: str, words: str) -> None:
    module = tmp_path / "broken_strategy.py"
    module.write_text(text)
    install(tmp_path / "site", "broken", module, {"broken": "broken_strategy:It"})
    (tmp_path / "router.yml").write_text("balancing_algorithm: broken\nworkers: 0\n")
    started = command(tmp_path / "site", "run", "-c", str(tmp_path / "router.yml"))
    assert started.returncode == 1
    assert "balancing_algorithm: " in started.stderr
    assert "'broken'" in started.stderr
    assert words in started.stderr
    assert "Traceback" not in started.stderr
    listed = command(tmp_path / "site", "plugins", "--json")
    assert listed.returncode == 1
    assert words in next(about["error"] for about in json.loads(listed.stdout) if about["name"] == "broken")
    assert "broken" in command(tmp_path / "site", "plugins").stdout


class Raising:
    def pick(self, pool: Pool, request: Any) -> Any:
        raise ZeroDivisionError("a bug")


class Stranger:
    def pick(self, pool: Pool, request: Any) -> Any:
        return "10.0.0.1:80"


class BadListener:
    def pick(self, pool: Pool, request: Any) -> Any:
        return pool.endpoints[0]

    def done(self, endpoint: Any, request: Any, seconds: float, ok: bool) -> None:
        raise ValueError("another bug")


@pytest.mark.parametrize("strategy", ["Raising", "Stranger", "BadListener"])
async def test_a_strategy_that_breaks_loses_the_pool_and_no_request(strategy: str) -> None:
    known = {**STRATEGIES, "broken": f"tests.balance.test_plugins:{strategy}"}
    async with serving(answering(OK), strategies=known) as (bench, backends):
        bench.route("b.test", backends[0].port, algorithm="broken")
        client: Client = await bench.client()
        for _ in range(3):
            assert (await client.get("b.test"))[0] == 200
        assert bench.log.names().count("balancing-strategy-failed") == 1
        assert type(bench.plane.table.pools["b.test"].strategy).__name__ == "RoundRobin"


def test_what_is_not_of_the_pool_is_not_taken() -> None:
    pool, endpoints, _ = pool_of(2)
    other = endpoints[1]

    class Memory:
        def pick(self, pool: Pool, request: Any) -> Any:
            return other

    guarded = Guarded(Memory())
    assert guarded.pick(pool, Asking()) is other
    pool.drop(other.id)
    with pytest.raises(StrategyError, match="no endpoint of the pool"):
        guarded.pick(pool, Asking())
