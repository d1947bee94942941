"""Where values come from: the file, the environment, flags. Each makes one layer, a table from key to value.

A layer speaks the names of `model.py` only: older names are translated here, keys that are known but not
supported become notices, unknown ones problems. Values are not checked yet; that is `load.py`'s business,
over all layers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from router.config import document, duration
from router.config.dialects import (
    ACTIVE_APPS,
    CLASSIC_DEFAULTS,
    CLASSIC_ONLY,
    RENAMED,
    Dialect,
    active_apps_interval,
    parse_mbus,
    respell,
)
from router.config.explain import presentable
from router.config.keys import LEAVES, MBUS, NAMES, SECTIONS, nearest, suggest
from router.config.known import KNOWN, NEEDLESS, asks_for_nothing
from router.config.problems import Notice, Place, Problem

PREFIX = "ROUTER__"
_FILE = "_file"

PUBLISH_ACTIVE_APPS = "publish_active_apps_interval"


@dataclass(frozen=True, slots=True)
class Given:
    """One value somebody wrote."""

    key: str
    """The key as written, which may be an older name."""
    value: object
    origin: Place
    """Where the key is."""
    node: yaml.Node | None = None
    """The value in its document, for the position of what is inside; None for flags and plain text."""

    def place(self, path: tuple[str | int, ...] = ()) -> Place:
        """Where the value is, or the part of it at `path`."""
        if self.node is None or self.origin.line is None:
            return self.origin
        return document.place_of(document.descend(self.node, path)[0], self.origin.source)


Layer = dict[str, Given]
"""Key of the model -> value; `nats` itself only as null."""


@dataclass(slots=True)
class Findings:
    """What was noticed so far."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)

    def problem(self, path: str, place: Place, value: str | None, expected: str, hint: str = "") -> None:
        self.problems.append(Problem(path, place, value, expected, hint))

    def warn(self, path: str, place: Place, message: str) -> None:
        self.warnings.append(Notice(path, place, message))

    def sort(self) -> None:
        """In the order of the file, what comes from elsewhere after it."""
        for found in (self.problems, self.warnings):
            found.sort(key=_position)


def _position(found: Problem | Notice) -> tuple[bool, int, int]:
    return found.place.line is None, found.place.line or 0, found.place.column or 0


class _Reader:
    """Fills one layer."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.layer: Layer = {}
        self.keys: set[str] = set()

    def document(self, data: bytes, source: str, path: str, in_file: bool) -> None:
        """Read the YAML text `data` as the value of `path`; the whole file is the value of the empty path."""
        try:
            node = document.compose(data, source)
        except document.DocumentError as error:
            found = error.problem
            place = found.place if in_file else Place(source)
            self.findings.problem(path, place, None, found.expected, found.hint)
            return
        if node is None:
            return
        for inside, first, again in document.duplicates(node, path):
            line = document.place_of(first.key_node, source).line
            place = document.place_of(again.key_node, source) if in_file else Place(source)
            text = "it is already given" + (f" in line {line}" if in_file else "")
            self.findings.problem(inside, place, None, text, "keep one of the two")
        self.take(path, node, document.place_of(node, source) if in_file else Place(source))

    def take(self, path: str, node: yaml.Node, origin: Place) -> None:
        """Read `node` as the value of `path`."""
        if path in SECTIONS or not path:
            self.section(path, node, origin)
        elif path in NAMES:
            leaf = LEAVES.get(RENAMED.get(path, path))
            self.give(path, document.plain(node, leaf is not None and leaf.kind.text), origin, node)
        else:
            self.findings.problem(path, origin, None, "there is no such key", suggest(path))

    def section(self, path: str, node: yaml.Node, origin: Place) -> None:
        if document.is_null(node):
            if path == "nats":
                self.layer[path] = Given(path, None, origin, node)
        elif isinstance(node, yaml.MappingNode):
            for entry in document.entries(node):
                place = origin if origin.line is None else document.place_of(entry.key_node, origin.source)
                self.take(f"{path}.{entry.key}" if path else entry.key, entry.value, place)
        else:
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
            subject = f"the keys of `{path}`, indented below it" if path else "keys and values"
            self.findings.problem(path, origin, kind, subject)

    def give(self, key: str, value: object, origin: Place, node: yaml.Node | None = None) -> None:
        """Put one value under its name in the model; null leaves the default."""
        self.keys.add(key)
        if value is None:
            return
        if key in NEEDLESS:
            return
        if key in KNOWN:
            if not asks_for_nothing(value):
                message = f"key '{key}' is known but not supported yet: {KNOWN[key]}"
                self.findings.warn(key, origin, message)
            return
        name = RENAMED.get(key, key)
        if name in self.layer:
            self.clash(key, origin, self.layer[name])
            return
        self.layer[name] = Given(key, respell(name, value), origin, node)

    def clash(self, key: str, origin: Place, other: Given) -> None:
        """Report two names for one thing, both in use; a duplicate in a document is reported already."""
        if (key, origin.source) != (other.key, other.origin.source):
            text = f"it sets the same as `{other.key}` ({other.origin})"
            self.findings.problem(key, origin, None, text, "keep one of the two")

    def finish(self) -> Layer:
        """Translate `mbus` to the `nats` section, `ACTIVE_APPS` to one key, and give the layer."""
        self._translate_active_apps()
        given = self.layer.pop(MBUS, None)
        if given is None:
            return self.layer
        try:
            bus = parse_mbus(given.value)
        except ValueError as error:
            self.findings.problem(MBUS, given.place(), "***", str(error))
            return self.layer
        rivals = ["nats", "nats.hosts"] + (["nats.user", "nats.pass"] if bus.user or bus.password else [])
        rivals += ["nats.tls_enabled"] if bus.tls else []
        for name in rivals:
            if name in self.layer:
                self.clash(MBUS, given.origin, self.layer[name])
                return self.layer
        translated: dict[str, object] = {"nats.hosts": bus.hosts, "nats.user": bus.user, "nats.pass": bus.password}
        if bus.tls:
            translated["nats.tls_enabled"] = True
        for name, value in translated.items():
            self.layer.setdefault(name, Given(MBUS, value, given.origin))
        return self.layer

    def _translate_active_apps(self) -> None:
        found = {key: self.layer.pop(key) for key in ACTIVE_APPS if key in self.layer}
        if not found:
            return
        try:
            interval = active_apps_interval(*(found[key].value if key in found else None for key in ACTIVE_APPS))
        except ValueError as error:
            key, expected = error.args
            self.findings.problem(key, found[key].place(), presentable(str(found[key].value)), expected)
            return
        given = next(iter(found.values()))
        if PUBLISH_ACTIVE_APPS in self.layer:
            self.clash(given.key, given.origin, self.layer[PUBLISH_ACTIVE_APPS])
        elif interval is not None:
            self.layer[PUBLISH_ACTIVE_APPS] = Given(given.key, interval, given.origin)


def read_file(path: str, findings: Findings) -> tuple[Layer, Dialect]:
    """The layer of the YAML file `path`, and the dialect it speaks."""
    reader = _Reader(findings)
    try:
        with open(path, "rb") as file:
            data = file.read(document.MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        findings.problem("", Place(path), None, f"cannot be read: {reason}", "name the file with -c FILE")
        return {}, "gorouter"
    reader.document(data, path, "", in_file=True)
    layer = reader.finish()
    if not reader.keys & CLASSIC_ONLY:
        return layer, "gorouter"
    for key, value in CLASSIC_DEFAULTS.items():
        layer.setdefault(key, Given(key, value, Place(path)))
    return layer, "classic"


def read_environment(environ: Mapping[str, str], findings: Findings) -> Layer:
    """The layer of variables such as `ROUTER__NATS__USER`; `ROUTER__NATS__PASS_FILE` names a file to read."""
    reader = _Reader(findings)
    names = sorted(name for name in environ if name.startswith(PREFIX))
    for name in names:
        path, origin = name[len(PREFIX) :].lower().replace("__", "."), Place(f"environment {name}")
        text = environ[name]
        if path not in NAMES and path.endswith(_FILE) and path.removesuffix(_FILE) in NAMES:
            path = path.removesuffix(_FILE)
            try:
                with open(text, encoding="utf-8") as file:
                    text = file.read(document.MAX_BYTES).rstrip("\r\n")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not a text file"
                findings.problem(path, origin, None, f"the file it names cannot be read: {reason}")
                continue
        leaf = LEAVES.get(RENAMED.get(path, path))
        if path == MBUS or (leaf and leaf.is_plain_text):
            if text or (leaf and leaf.may_be_empty):
                reader.give(path, text, origin)
        elif path in NAMES or path in SECTIONS:
            reader.document(os.fsencode(text), origin.source, path, in_file=False)
        else:
            variables = {known: PREFIX + known.upper().replace(".", "__") for known in NAMES}
            findings.problem(path, origin, None, "there is no such key", nearest(path, variables))
    return reader.finish()


def read_overrides(overrides: Mapping[str, object], findings: Findings) -> Layer:
    """The layer of command line flags: dotted key -> value, None = not given."""
    reader = _Reader(findings)
    for key, value in overrides.items():
        if key in NAMES:
            reader.give(key, value, Place("flag"))
        else:
            findings.problem(key, Place("flag"), None, "there is no such key", suggest(key))
    return reader.finish()


def merge(*layers: Layer) -> Layer:
    """All values, later layers over earlier ones; a null `nats` and its keys replace one another."""
    merged: Layer = {}
    for layer in layers:
        if "nats" in layer:
            merged = {key: given for key, given in merged.items() if not key.startswith("nats.")}
        merged |= layer
        if any(key.startswith("nats.") for key in layer):
            merged.pop("nats", None)
    return merged


def warn_of_nanoseconds(layer: Layer, findings: Findings) -> None:
    """A bare number for a duration is nanoseconds, which is seldom what was meant."""
    for path, given in layer.items():
        text, leaf = given.value, LEAVES.get(path)
        if leaf and leaf.kind.duration and isinstance(text, str) and duration.looks_like_seconds(text):
            message = f"`{path}`: {text} means {text} nanoseconds; write {text}s for seconds"
            findings.warn(path, given.place(), message)
