"""What the documents point at exists: links, headings, files of the tree, make targets, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"])

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FILE = re.compile(r"`((?:router|tests|docs|config|bench|\.ci)/[\w./-]+)`")
_MAKE = re.compile(r"\bmake ([a-z]+(?:-[a-z]+)*)")
_COMMAND = re.compile(r"^router ([a-z]+)", re.MULTILINE)
_CODE = re.compile(r"`([^`\n]+)`|^    (.+)$", re.MULTILINE)
"""Code spans, and lines of indented blocks."""

on_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(text: str) -> set[str]:
    """What headings are called in links."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


@on_every_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken


@on_every_page
def test_files_that_are_named_exist(page: Path) -> None:
    assert [name for name in _FILE.findall(page.read_text()) if not (ROOT / name).exists()] == []


@on_every_page
def test_make_targets_and_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    in_code = "\n".join(span or line for span, line in _CODE.findall(page.read_text()))
    assert set(_MAKE.findall(in_code)) <= targets
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(_COMMAND.findall(in_code)) <= commands


def test_every_page_can_be_found_from_the_readme() -> None:
    found: set[Path] = set()
    to_read = [ROOT / "README.md"]
    while to_read:
        page = to_read.pop()
        if page in found or page.suffix != ".md":
            continue
        found.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(page.read_text()) if "://" not in link)
        to_read += [(page.parent / link).resolve() for link in links if link]
    assert set(PAGES) <= found


def test_the_index_of_decisions_has_them_all() -> None:
    folder = ROOT / "docs/decisions"
    listed = _LINK.findall((folder / "README.md").read_text())
    assert listed == sorted(page.name for page in folder.glob("0*.md"))
