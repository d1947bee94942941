"""What pydantic found wrong with a value, in words: what is expected in its place, and the remedy."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic_core import ErrorDetails

from router.config.keys import kind_at, nearest
from router.config.kinds import Kind
from router.config.model import RouterConfig
from router.config.section import Section

_LONGEST_SHOWN = 60


class Explained(NamedTuple):
    """`about_value`: the value is wrong, so it may be shown; else it is missing, or its key is."""

    kind: Kind
    expected: str
    hint: str = ""
    about_value: bool = False


def explained(
    details: ErrorDetails, model: type[Section] = RouterConfig, below: tuple[str | int, ...] = ()
) -> Explained:
    """One error of `model`; its place is below `below` in it."""
    path = (*below, *details["loc"])
    kind, siblings = kind_at(path, model)
    match details["type"]:
        case "extra_forbidden":
            hint = nearest(str(path[-1]), {name: name for name in siblings})
            return Explained(kind, "there is no such key", hint)
        case "missing":
            return Explained(kind, f"it is missing, expected {kind.expected}")
    reason = str(details.get("ctx", {}).get("error", "")) if details["type"] == "value_error" else ""
    return Explained(kind, reason or kind.expected, about_value=True)


def written_path(path: tuple[str | int, ...]) -> str:
    """`endpoints[0].port`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def presentable(text: str) -> str:
    """A value for a message: on one line, cut short, credentials in URLs masked."""
    text = re.sub(r"(^\"?|://).*@", r"\1***@", text, flags=re.DOTALL)
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return (text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…") or "nothing"
