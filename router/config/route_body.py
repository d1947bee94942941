"""A route that came as JSON: the same model, and messages of the same quality, as for one in the configuration."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from router.config.keys import kind_at, nearest
from router.config.static import StaticRoute

_LONGEST_SHOWN = 60


class RouteError(Exception):
    """What is wrong with a route: (field, what is expected there) one by one."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {message}" if field else message for field, message in fields))
        self.fields = fields


def read_route(body: Any) -> StaticRoute:
    """The route that a decoded JSON value describes. Raises RouteError with every mistake."""
    if not isinstance(body, dict):
        raise RouteError([("", "expected a JSON object with `uris` and `endpoints`")])
    try:
        return StaticRoute.model_validate(body)
    except ValidationError as error:
        raise RouteError([_explain(details) for details in error.errors(include_url=False)]) from None


def _explain(details: Any) -> tuple[str, str]:
    path = details["loc"]
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    kind, siblings = kind_at(("routes", 0, *path))
    match details["type"]:
        case "extra_forbidden":
            hint = nearest(str(path[-1]), {name: name for name in siblings})
            return field, "there is no such key" + (f" ({hint})" if hint else "")
        case "missing":
            return field, f"it is missing, expected {kind.expected}"
    reason = str(details.get("ctx", {}).get("error", "")) if details["type"] == "value_error" else ""
    value = details["input"]
    shown = f"{_shown(value)} given, " if not isinstance(value, dict | list) else ""
    return field, f"{shown}expected {reason or kind.expected}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
