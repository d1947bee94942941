"""The body of an error of the router's own: plain text, the operator's HTML template, or JSON (contract §6, §6.2).

JSON is for clients that ask for it in `Accept` by name and no less than for text or HTML; it has the members of
RFC 9457 and is called `application/problem+json` if that is what was asked for. Bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from router.http.response import reason_phrase
from router.http.template import Page, Template

PLAIN_TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"
_JSON = (b"application/problem+json", b"application/json")
_OTHERS = (b"text/html", b"text/plain", b"text/*")


class Look(NamedTuple):
    """How an error is shown: to a client with this `Accept`, by a router with this template."""

    accept: bytes | None = None
    template: Template | None = None


class Facts(NamedTuple):
    """What there is to say. `headers` are those of the response that a template may show, by lower-case name."""

    status: int
    router_error: str
    message: str
    hints: Sequence[str]
    headers: dict[str, str]


def error_page(facts: Facts, look: Look, text: str, *, templated: bool = True) -> tuple[bytes, bytes]:
    """Content type and body; `text` is the plain form."""
    if look.accept is not None and (kind := json_kind(look.accept)):
        return kind, _json(facts)
    if look.template is not None and templated:
        page = Page(facts.status, reason_phrase(facts.status), facts.message, facts.headers)
        return HTML, look.template.render(page).encode("utf-8", "replace")
    return PLAIN_TEXT, text.encode("utf-8", "replace")


def json_kind(accept: bytes) -> bytes:
    """The JSON type that is asked for by name, and no less than text (RFC 9110 §12.5.1); empty when none is."""
    if b"json" not in accept.lower():
        return b""
    wanted: dict[bytes, float] = {}
    for part in accept.lower().split(b","):
        kind, *parameters = (piece.strip(b" \t") for piece in part.split(b";"))
        weight = next((p[2:] for p in parameters if p.startswith(b"q=")), b"1")
        wanted[kind] = float(weight) if weight.replace(b".", b"", 1).isdigit() else 0.0
    best = max(_JSON, key=lambda kind: wanted.get(kind, 0.0))
    weight_of_best = wanted.get(best, 0.0)
    return best if weight_of_best > 0 and weight_of_best >= max(wanted.get(other, 0.0) for other in _OTHERS) else b""


def _json(facts: Facts) -> bytes:
    body: dict[str, object] = {
        "type": "about:blank",
        "status": facts.status,
        "title": reason_phrase(facts.status),
        "detail": facts.message,
    }
    if facts.router_error:
        body["router_error"] = facts.router_error
    if facts.hints:
        body["hints"] = list(facts.hints)
    return msgspec.json.encode(body) + b"\n"
