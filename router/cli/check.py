"""`router check`, and the report of a bad configuration that every command shows.

Problems and warnings go to standard error, one a line, each beginning with its place as editors know it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from router.config.load import Loaded, load
from router.config.problems import ConfigError, Notice, Problem

_RED, _YELLOW, _PLAIN = "\033[31m", "\033[33m", "\033[0m"


def check(config_path: str | None, overrides: Mapping[str, object], as_json: bool) -> int:
    """Check a configuration and say all that is wrong with it; gives the exit status, 0 or 1."""
    try:
        loaded = load(config_path, overrides=overrides)
    except ConfigError as error:
        if as_json:
            print_json(error.name, error.problems, error.warnings)
        else:
            report(error)
        return 1
    if as_json:
        print_json(loaded.name, (), loaded.warnings)
    else:
        report_warnings(loaded)
        print(f"{loaded.name}: ok, {_count(len(loaded.warnings), 'warning')}")
    return 0


def load_or_report(config_path: str | None, overrides: Mapping[str, object] | None = None) -> Loaded | None:
    """The configuration with its warnings shown, or None when its problems are shown: the caller gives exit
    1."""
    try:
        loaded = load(config_path, overrides=overrides)
    except ConfigError as error:
        report(error)
        return None
    report_warnings(loaded)
    return loaded


def report(error: ConfigError, stream: TextIO | None = None) -> None:
    """Show all warnings and problems on `stream` (standard error), in colour on a terminal."""
    stream = stream or sys.stderr
    _print_lines(error.warnings, _YELLOW, stream)
    _print_lines(error.problems, _RED, stream)
    print(f"{error.name}: {_count(len(error.problems), 'problem')}", file=stream)


def report_warnings(loaded: Loaded, stream: TextIO | None = None) -> None:
    """Show the warnings of a usable configuration on `stream` (standard error)."""
    report_notices(loaded.warnings, stream)


def report_notices(warnings: Sequence[Notice], stream: TextIO | None = None) -> None:
    """Show warnings on `stream` (standard error)."""
    _print_lines(warnings, _YELLOW, stream or sys.stderr)


def _print_lines(found: Sequence[Problem] | Sequence[Notice], colour: str, stream: TextIO) -> None:
    coloured = stream.isatty() and not os.environ.get("NO_COLOR")
    for item in found:
        place, text = item.place.exact() if isinstance(item, Problem) else str(item.place), str(item)
        print(f"{colour}{place}{_PLAIN}{text[len(place) :]}" if coloured else text, file=stream)


def print_json(name: str, problems: Sequence[Problem], warnings: Sequence[Notice]) -> None:
    """Write the report of a configuration file for programs."""
    report = {
        "file": name,
        "ok": not problems,
        "problems": [problem.as_json() for problem in problems],
        "warnings": [warning.as_json() for warning in warnings],
    }
    print(json.dumps(report, indent=2, ensure_ascii=False))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
