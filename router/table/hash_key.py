"""The notation for what a hashing strategy hashes, checked in one place for configuration and registrations."""

from __future__ import annotations

import re

EXPECTED = "`client_address`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`"
_WHOLE = frozenset(("client_address", "path"))
_NAMED = re.compile(r"(header|cookie|query):([!#$%&'*+.^_`|~0-9A-Za-z-]+)")


class BadHashKey(ValueError):
    """Not a hash key; `EXPECTED` says what is."""


def hash_key(text: str) -> str:
    """`text` in its one spelling: kinds and header names in lower case. Raises BadHashKey."""
    kind, colon, name = text.strip().partition(":")
    kind = kind.strip().lower()
    if not colon and kind in _WHOLE:
        return kind
    match = _NAMED.fullmatch(f"{kind}:{name.strip()}")
    if match is None:
        raise BadHashKey(f"{text!r} given, expected {EXPECTED}")
    return f"{kind}:{match[2].lower() if kind == 'header' else match[2]}"
