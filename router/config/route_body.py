"""A route that came as JSON: the same model, and messages of the same quality, as for one in the configuration."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from router.config.explain import explained, presentable, written_path
from router.config.static import StaticRoute


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


def _explain(details: ErrorDetails) -> tuple[str, str]:
    found = explained(details, below=("routes", 0))
    message = found.expected + (f" ({found.hint})" if found.hint else "")
    if found.about_value:
        value = details["input"]
        shown = (
            "" if isinstance(value, dict | list) else f"{presentable(json.dumps(value, ensure_ascii=False))} given, "
        )
        message = f"{shown}expected {message}"
    return written_path(details["loc"]), message
