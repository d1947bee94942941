"""Any other configuration file of ours: one model, one file, every mistake at once with its line (YAML or JSON)."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import ValidationError

from router.config import document
from router.config.explain import explained, presentable, written_path
from router.config.keys import kind_at
from router.config.layers import Findings
from router.config.problems import ConfigError, Notice, Place
from router.config.section import Section

Model = TypeVar("Model", bound=Section)


def load_file(path: str, model: type[Model], unsupported: dict[str, str]) -> tuple[Model, list[Notice]]:
    """What the file says, and warnings. `unsupported`: top-level keys that are read past, and what that means.

    Raises ConfigError.
    """
    findings = Findings()
    node = _read(path, findings)
    if findings.problems or node is None:
        if not findings.problems:
            findings.problem("", Place(path), None, "the file is empty")
        raise ConfigError(path, findings.problems, findings.warnings)
    value = _value(node, (), model)
    if isinstance(value, dict) and isinstance(node, yaml.MappingNode):
        for entry in document.entries(node):
            if entry.key in unsupported:
                del value[entry.key]
                message = f"key '{entry.key}' is known but not supported: {unsupported[entry.key]}"
                findings.warn(entry.key, document.place_of(entry.key_node, path), message)
    try:
        loaded = model.model_validate(value)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            inside = details["loc"]
            found = explained(details, model)
            at, key_node = document.descend(node, inside)
            missing = not found.about_value
            place = document.place_of(key_node if missing else at, path)
            shown = None
            if found.about_value:
                shown = "***" if found.kind.secret else presentable(document.written(at))
            findings.problem(written_path(inside), place, shown, found.expected, found.hint)
        findings.sort()
        raise ConfigError(path, findings.problems, findings.warnings) from None
    return loaded, findings.warnings


def _read(path: str, findings: Findings) -> yaml.Node | None:
    try:
        with open(path, "rb") as file:
            data = file.read(document.MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        findings.problem("", Place(path), None, f"cannot be read: {reason}", "name the file with -c FILE")
        return None
    try:
        node = document.compose(data, path)
    except document.DocumentError as error:
        findings.problems.append(error.problem)
        return None
    for inside, first, again in document.duplicates(node, "") if node is not None else ():
        line = document.place_of(first.key_node, path).line
        place = document.place_of(again.key_node, path)
        findings.problem(inside, place, None, f"it is already given in line {line}", "keep one of the two")
    return node


def _value(node: yaml.Node, path: tuple[str | int, ...], model: type[Section]) -> object:
    """The Python value of `node`; scalars as written where the model wants text."""
    if isinstance(node, yaml.MappingNode):
        return {entry.key: _value(entry.value, (*path, entry.key), model) for entry in document.entries(node)}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), model) for index, item in enumerate(node.value)]
    return document.plain(node, kind_at(path, model)[0].text)
