"""The HTML template of error pages, in the part of Go's template language that such pages use (contract §6.2).

`{{.Status}}` `{{.StatusText}}` `{{.Message}}` `{{.Header.Get "Name"}}`, `{{if}}` with `{{else if}}` `{{else}}`
`{{end}}`, `eq ne lt le gt ge and or not print`, parentheses, comments, `{{-` and `-}}`. Anything else is refused when
the template is read, with its line; so is a value where HTML quoting would not make it harmless (script, style,
an attribute without quotes). A template that was read can be rendered: it is tried on all kinds of values first.
"""

from __future__ import annotations

import html
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Value = str | int | bool

_ACTION = re.compile(r"\{\{(?:-(?=\s))?(.*?)(?:(?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<number>-?\d+)|(?P<field>(?:\.\w+)+)|(?P<word>\w+)"""
    r"""|(?P<mark>[()]))"""
)
_ELEMENT = re.compile(r"<(/?)(script|style)\b", re.IGNORECASE)
_IN_TAG = re.compile(r"<[A-Za-z/][^<>]*\Z")
_IN_CODE = re.compile(r"""\s(?:on\w+|style)\s*=\s*["'][^"']*\Z""", re.IGNORECASE)
_QUOTED = re.compile(r"""(?:"[^"]*"|'[^']*'|[^"'])*""")
_SUPPORTED = (
    "supported are .Status, .StatusText, .Message, .Header.Get, if, else, end, eq, ne, lt, le, gt, ge, and, or, not"
    " and print"
)


class TemplateError(ValueError):
    """A template that can't be used; the text says why and where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")


class Page(NamedTuple):
    """What a template is rendered with. `headers` are by lower-case name."""

    status: int
    status_text: str
    message: str
    headers: Mapping[str, str]


Expression = Callable[[Page], Value]
Node = Callable[[Page, list[str]], None]

_FIELDS: dict[str, Expression] = {
    ".Status": lambda page: page.status,
    ".StatusText": lambda page: page.status_text,
    ".Message": lambda page: page.message,
}


def _compare(test: Callable[[Value, Value], bool]) -> Callable[[Sequence[Value]], Value]:
    def compare(values: Sequence[Value]) -> Value:
        first, *others = values
        if not others or any(type(other) is not type(first) for other in others):
            raise TypeError("compares values of different kinds, or nothing")
        if test is operator.eq:
            return any(test(first, other) for other in others)
        if len(others) != 1:
            raise TypeError("compares two values")
        return test(first, others[0])

    return compare


def _and(values: Sequence[Value]) -> Value:
    return next((value for value in values if not value), values[-1])


def _or(values: Sequence[Value]) -> Value:
    return next((value for value in values if value), values[-1])


_FUNCTIONS: dict[str, Callable[[Sequence[Value]], Value]] = {
    "eq": _compare(operator.eq),
    "ne": _compare(operator.ne),
    "lt": _compare(operator.lt),
    "le": _compare(operator.le),
    "gt": _compare(operator.gt),
    "ge": _compare(operator.ge),
    "and": _and,
    "or": _or,
    "not": lambda values: not values[0],
    "print": lambda values: "".join(_text(value) for value in values),
}
_SAMPLES = [Page(status, text, text, {}) for status in (400, 404, 502, 503) for text in ("", "text")]


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Template:
    """A template that was read. Raises TemplateError at construction."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._pieces = self._split()
        self._position = 0
        self._nodes, end = self._block()
        if end:
            raise TemplateError(self._line(self._pieces[self._position - 1][0]), f"`{end}` without `if`")
        for sample in _SAMPLES:
            self.render(sample)

    def render(self, page: Page) -> str:
        """The page as HTML."""
        out: list[str] = []
        for node in self._nodes:
            node(page, out)
        return "".join(out)

    # -------------------------------------------------------- reading

    def _split(self) -> list[tuple[int, str, bool]]:
        """(where, text, whether it is an action) in order, white space trimmed where a `-` asks for it."""
        pieces: list[tuple[int, str, bool]] = []
        source, at, trim = self._source, 0, False
        for action in _ACTION.finditer(source):
            text = source[at : action.start()]
            text = text.lstrip() if trim else text
            text = text.rstrip() if re.match(r"\{\{-\s", action[0]) else text
            pieces += [(at, text, False), (action.start(), action[1].strip(), True)]
            at, trim = action.end(), re.search(r"\s-\}\}\Z", action[0]) is not None
        rest = source[at:]
        if "{{" in rest:
            raise TemplateError(self._line(at + rest.index("{{")), "`{{` without `}}`")
        return [*pieces, (at, rest.lstrip() if trim else rest, False)]

    def _line(self, at: int) -> int:
        return self._source.count("\n", 0, at) + 1

    def _block(self) -> tuple[list[Node], str]:
        """Nodes up to the end of the template, or to an `else …` or `end`, which is returned."""
        nodes: list[Node] = []
        while self._position < len(self._pieces):
            at, text, action = self._pieces[self._position]
            self._position += 1
            if not action:
                nodes.append(lambda page, out, text=text: out.append(text))  # type: ignore[misc]
            elif text.startswith("/*") and text.endswith("*/"):
                continue
            elif (word := text.partition(" ")[0]) in ("else", "end"):
                return nodes, text
            elif word == "if":
                nodes.append(self._if(at, text[2:]))
            else:
                value = self._expression(at, text)
                self._check_place(at)
                nodes.append(lambda page, out, value=value: out.append(_quoted(value(page))))  # type: ignore[misc]
        return nodes, ""

    def _if(self, at: int, text: str) -> Node:
        condition = self._expression(at, text)
        then, end = self._block()
        otherwise: list[Node] = []
        if end.startswith("else"):
            rest = end[4:].strip()
            if rest.startswith("if "):
                otherwise = [self._if(at, rest[2:])]
                end = "end"
            elif rest:
                raise TemplateError(self._line(at), f"`{end}` is not understood; {_SUPPORTED}")
            else:
                otherwise, end = self._block()
        if end != "end":
            raise TemplateError(self._line(at), "`if` without `end`")

        def run(page: Page, out: list[str]) -> None:
            for node in then if condition(page) else otherwise:
                node(page, out)

        return run

    def _check_place(self, at: int) -> None:
        """Quoting makes a value harmless in text and in quoted attributes only."""
        before = self._source[:at]
        elements = list(_ELEMENT.finditer(before))
        if elements and not elements[-1][1]:
            raise TemplateError(self._line(at), f"a value inside <{elements[-1][2]}> can't be made harmless")
        tag = _IN_TAG.search(_ACTION.sub("", before))
        if tag is not None and _IN_CODE.search(tag[0]):
            raise TemplateError(self._line(at), "a value inside an attribute that is code can't be made harmless")
        if tag is not None and _QUOTED.fullmatch(tag[0]):
            raise TemplateError(self._line(at), "a value inside a tag must stand between quotes")

    # -------------------------------------------------------- expressions

    def _expression(self, at: int, text: str) -> Expression:
        tokens: list[tuple[str, str]] = []
        position = 0
        text = text.strip()
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                raise TemplateError(self._line(at), f"`{{{{{text}}}}}` is not understood; {_SUPPORTED}")
            tokens.append((token.lastgroup or "", token[0].strip()))
            position = token.end()
        try:
            value, rest = _call(tokens)
            if rest:
                raise ValueError(f"`{rest[0][1]}` is one too many")
            for sample in _SAMPLES:
                value(sample)
        except (ValueError, TypeError) as error:
            raise TemplateError(self._line(at), f"`{{{{{text}}}}}`: {error}; {_SUPPORTED}") from None
        return value


Tokens = list[tuple[str, str]]


def _call(tokens: Tokens) -> tuple[Expression, Tokens]:
    """A value, or a function with its arguments. Raises ValueError."""
    if not tokens:
        raise ValueError("a value is missing")
    kind, text = tokens[0]
    if kind == "word" and text in _FUNCTIONS:
        arguments, rest = _arguments(tokens[1:])
        if not arguments:
            raise ValueError(f"`{text}` wants a value")
        function = _FUNCTIONS[text]
        return lambda page: function([argument(page) for argument in arguments]), rest
    if kind == "field" and text == ".Header.Get":
        arguments, rest = _arguments(tokens[1:])
        if len(arguments) != 1:
            raise ValueError("`.Header.Get` wants one name")
        return lambda page: page.headers.get(str(arguments[0](page)).lower(), ""), rest
    return _operand(tokens)


def _arguments(tokens: Tokens) -> tuple[list[Expression], Tokens]:
    found = []
    while tokens and tokens[0] != ("mark", ")"):
        value, tokens = _operand(tokens)
        found.append(value)
    return found, tokens


def _operand(tokens: Tokens) -> tuple[Expression, Tokens]:
    kind, text = tokens[0]
    rest = tokens[1:]
    if kind == "mark" and text == "(":
        value, rest = _call(rest)
        if rest[:1] != [("mark", ")")]:
            raise ValueError("`)` is missing")
        return value, rest[1:]
    if kind == "field" and text in _FIELDS:
        return _FIELDS[text], rest
    constant: Value
    if kind == "number":
        constant = int(text)
    elif kind == "string":
        constant = text[1:-1] if text[0] == "`" else re.sub(r"\\(.)", _unescaped, text[1:-1])
    elif text in ("true", "false"):
        constant = text == "true"
    else:
        raise ValueError(f"`{text}` is not known")
    return lambda page: constant, rest


def _unescaped(match: re.Match[str]) -> str:
    return {"n": "\n", "t": "\t"}.get(match[1], match[1])


def _quoted(value: Value) -> str:
    return html.escape(_text(value))
