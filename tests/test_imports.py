"""Imports run downward only (docs/architecture.md). Read from the sources, so lazy and type-only imports count too.

`MAY_IMPORT` is the rule: a row is a package or module of `router`, and which others it may know. `observe` is two
layers in one folder: what workers write, and what control makes of it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

SHARED = {"messages", "table"}
DATA_PLANE = {
    "messages",
    "frames",
    "in_flight",
    "table",
    "http",
    "balance",
    "observe",
    "proxy",
    "worker",
    "worker_link",
}
CONTROL_SIDE = {"config", "control", "admin", "observe (control)"}

MAY_IMPORT = {
    "messages": set(),
    "table": {"messages"},
    "http": {"messages"},
    "balance": SHARED,
    "frames": {"messages"},
    "in_flight": set(),
    "observe": SHARED,
    "proxy": SHARED | {"http", "balance", "observe", "in_flight"},
    "worker": DATA_PLANE,
    "worker_link": DATA_PLANE,
    "config": SHARED | {"http"},
    "observe (control)": SHARED | {"observe", "config"},
    "admin": SHARED | {"observe", "observe (control)", "config"},
    "control": DATA_PLANE | CONTROL_SIDE,
    "registrar": {"config", "control", "observe"},
    "front": {"config", "control"},
    "demo": set(),
    "simulate": SHARED | {"balance", "in_flight"},
    "cli": DATA_PLANE | CONTROL_SIDE | {"demo", "front", "registrar", "simulate"},
}
"""Every layer may import itself."""

OBSERVE_CONTROL = {
    "apps",
    "directory",
    "events",
    "histograms",
    "load_feed",
    "metrics",
    "otlp",
    "series",
    "span_words",
    "varz",
}
"""Modules of `observe` that belong to control."""

DATA_PLANE_LIBRARIES = {"uvloop", "httptools", "msgspec", "setproctitle", "cryptography"}
"""All that a worker imports besides Python's own library: it starts in a tenth of a second. Not at its start, but when
needed: cryptography for signatures of route services."""


class Found(NamedTuple):
    """One import: where it stands, the layer it stands in, and what it names."""

    place: str
    layer: str
    module: str


def layer_of(module: str) -> str:
    """`router.proxy.plane` → `proxy`."""
    parts = module.split(".")[1:]
    if parts[:1] == ["observe"] and parts[1:2] and parts[1] in OBSERVE_CONTROL:
        return "observe (control)"
    return parts[0] if parts else ""


def imports() -> Iterator[Found]:
    """Every import in every file of `router`."""
    for path in sorted((ROOT / "router").rglob("*.py")):
        relative = path.relative_to(ROOT)
        package = relative.parent.parts
        layer = layer_of(".".join(relative.with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text(), str(relative))):
            for module in _modules(node, package):
                yield Found(f"{relative}:{node.lineno}", layer, module)  # type: ignore[attr-defined]


def _modules(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]) if node.level else node.module
        base = (base or "").rstrip(".")
        if (ROOT / base.replace(".", "/")).is_dir():  # what is imported from a package of ours may be a module of it
            return [f"{base}.{alias.name}" for alias in node.names]
        return [base]
    return []


@pytest.fixture(scope="module")
def found() -> list[Found]:
    return list(imports())


def test_every_layer_has_its_row(found: list[Found]) -> None:
    layers = {f.layer for f in found if f.layer} - {"__init__", "__main__"}
    assert layers <= set(MAY_IMPORT), f"no row in MAY_IMPORT for {sorted(layers - set(MAY_IMPORT))}"


def test_imports_run_downward(found: list[Found]) -> None:
    wrong = []
    for place, layer, module in found:
        if module.split(".")[0] != "router" or layer == "__main__":
            continue
        target = layer_of(module)
        if target != layer and target not in MAY_IMPORT[layer]:
            allowed = ", ".join(sorted(MAY_IMPORT[layer])) or "nothing else of router"
            wrong.append(f"{place} imports {module}; {layer} may import {allowed}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_data_plane_imports_only_what_a_worker_needs(found: list[Found]) -> None:
    wrong = [
        f"{place} imports {module}; the data plane may import {', '.join(sorted(DATA_PLANE_LIBRARIES))}"
        for place, layer, module in found
        if layer in DATA_PLANE
        and module.split(".")[0] not in {"router", *DATA_PLANE_LIBRARIES, *sys.stdlib_module_names}
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_packages_are_empty_so_that_importing_one_costs_nothing() -> None:
    full = [str(p.relative_to(ROOT)) for p in (ROOT / "router").rglob("__init__.py") if p.read_text().strip()]
    assert not full


def test_the_rule_itself_runs_downward() -> None:
    """Nothing may import what may import it."""
    both = [f"{a} and {b}" for a, allowed in MAY_IMPORT.items() for b in allowed if a != b and a in MAY_IMPORT[b]]
    assert set(both) <= {"worker and worker_link", "worker_link and worker"}
