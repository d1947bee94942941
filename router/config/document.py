"""YAML text to nodes that know their line and column.

YAML 1.1 through PyYAML's C loader, as a gorouter.yml expects: `on` and `yes` are true, `0777` is octal. A
field that wants text gets it as written (`trace_key: 022` is "022"), which is what the Go router does.

A configuration is data from outside: size, depth and alias expansion are bounded before a tree is built, a
document that refers to itself is refused, and tags make no objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from router.config.problems import Place, Problem

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
MAX_DEPTH = 30
_TAG = "tag:yaml.org,2002:"


class DocumentError(Exception):
    """The text as a whole cannot be read; `problem` says where and why."""

    def __init__(self, place: Place, expected: str, hint: str = "") -> None:
        self.problem = Problem("", place, None, expected, hint)
        super().__init__(str(self.problem))


def compose(data: bytes, source: str) -> yaml.Node | None:
    """The root node of one YAML document of UTF-8 text, None when it is empty; DocumentError otherwise."""
    if len(data) > MAX_BYTES:
        raise DocumentError(Place(source), f"expected a file of at most {MAX_BYTES // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place_of_offset(data.decode("latin-1"), error.start, source)
        raise DocumentError(place, "expected UTF-8 text", "save the file as UTF-8") from None
    try:
        _guard(text, source)
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        why = ", ".join(str(part) for part in (error.context, error.problem) if part)
        raise DocumentError(_place(error.problem_mark, source), f"not valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        place = _place_of_offset(text, error.position, source)
        raise DocumentError(place, f"not valid YAML: {error.reason}") from None
    return node


@dataclass(slots=True)
class _Open:
    """A collection whose end is not read yet."""

    anchor: str | None = None
    nodes: int = 1
    height: int = 1


def _guard(text: str, source: str) -> None:
    """Refuse, from the events alone, what would grow without bound as a tree, and more than one document.

    An alias counts as much as the node it stands for, so nested aliases show their true size here; a node is
    known only after its end, so an alias to something it is part of is an unknown one.
    """
    known: dict[str, _Open] = {}
    stack = [_Open()]
    documents = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        place = _place(event.start_mark, source)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise DocumentError(place, "expected one YAML document", "remove this `---` and what follows")
        elif isinstance(event, yaml.CollectionStartEvent):
            known.pop(event.anchor or "", None)
            stack.append(_Open(event.anchor))
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in known:
                hint = "put the value in quotes if it is meant to begin with `*`"
                raise DocumentError(place, "this alias names nothing defined above it", hint)
            _add(stack, known[event.anchor], place)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent):
            done = _Open(event.anchor) if isinstance(event, yaml.ScalarEvent) else stack.pop()
            if done.anchor:
                known[done.anchor] = done
            _add(stack, done, place)
        if len(stack) > MAX_DEPTH:
            raise DocumentError(place, f"expected at most {MAX_DEPTH} levels of nesting")


def _add(stack: list[_Open], part: _Open, place: Place) -> None:
    """Count `part` into the innermost open collection."""
    parent = stack[-1]
    parent.nodes += part.nodes
    parent.height = max(parent.height, part.height + 1)
    if parent.nodes > MAX_NODES or len(stack) + parent.height > MAX_DEPTH + 2:
        raise DocumentError(place, f"expected at most {MAX_NODES} values in {MAX_DEPTH} levels, aliases expanded")


def _place(mark: Any, source: str) -> Place:
    """The place of one of PyYAML's marks, which come in two unrelated classes, or not at all."""
    return Place(source) if mark is None else Place(source, mark.line + 1, mark.column + 1)


def _place_of_offset(text: str, offset: int, source: str) -> Place:
    return Place(source, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def place_of(node: yaml.Node, source: str) -> Place:
    """Where `node` begins."""
    return _place(node.start_mark, source)


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of a mapping; `key` is the text as written."""

    key: str
    key_node: yaml.Node
    value: yaml.Node


def _text(key_node: yaml.Node) -> str:
    return str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else written(key_node)


def entries(mapping: yaml.MappingNode) -> Iterator[Entry]:
    """All entries in the order written, those of `<<` merges last and only where the key is not written
    itself."""
    merged: list[Entry] = []
    seen: set[str] = set()
    for key_node, value in mapping.value:
        if key_node.tag == _TAG + "merge":
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            if all(isinstance(source, yaml.MappingNode) for source in sources):
                merged.extend(entry for source in sources for entry in entries(source))
                continue
        key = _text(key_node)
        seen.add(key)
        yield Entry(key, key_node, value)
    for entry in merged:
        if entry.key not in seen:
            seen.add(entry.key)
            yield entry


def duplicates(node: yaml.Node, path: str) -> Iterator[tuple[str, Entry, Entry]]:
    """Every (dotted key, first, again) of equal keys in one mapping, at any depth under `node` at `path`."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from duplicates(item, f"{path}[{index}]")
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, Entry] = {}
    for key_node, value in node.value:
        entry = Entry(_text(key_node), key_node, value)
        below = f"{path}.{entry.key}" if path else entry.key
        if entry.key in first and key_node.tag != _TAG + "merge":
            yield below, first[entry.key], entry
        first.setdefault(entry.key, entry)
        yield from duplicates(value, below)


def is_null(node: yaml.Node) -> bool:
    """True for `null`, `~` and nothing at all."""
    return bool(node.tag == _TAG + "null")


def plain(node: yaml.Node, as_text: bool) -> object:
    """The Python value of `node`; with `as_text` scalars stay as written, whatever YAML makes of them."""
    if isinstance(node, yaml.MappingNode):
        return {entry.key: plain(entry.value, as_text) for entry in entries(node)}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item, as_text) for item in node.value]
    if as_text and not is_null(node):
        return node.value
    try:
        return SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError):  # a tag that does not fit its text
        return node.value


def written(node: yaml.Node) -> str:
    """How to show `node` in a message: scalars as written, quoted when they were quoted."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"'):
        return f'"{node.value}"'
    return str(node.value)


def descend(node: yaml.Node, path: Sequence[str | int]) -> tuple[yaml.Node, yaml.Node]:
    """The node at `path` under `node` and the node of its key; the nearest ones above where there is none."""
    key_node = node
    for step in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            key_node = node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            found = next((entry for entry in entries(node) if entry.key == step), None)
            if found is None:
                break
            key_node, node = found.key_node, found.value
        else:
            break
    return node, key_node
