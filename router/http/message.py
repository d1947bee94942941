"""What requests and responses have in common: framing values, header rules by spelling, the error of a bad message.

Header names are matched as lower-case bytes. A `RuleBook` remembers the rule of every spelling it met, so a name is
folded to lower case once in a worker's life and after that costs one dict look-up.
"""

from __future__ import annotations

from collections.abc import Mapping

NO_BODY = 0
CHUNKED = -1
UNTIL_CLOSE = -2

HeaderList = list[tuple[bytes, bytes]]
NO_TRAILERS: HeaderList = []
"""Most messages have none; never to be changed."""

REMEMBERED = 4096
"""Spellings (and other client-made keys) remembered per cache; more than that is an attack, not a habit."""


class BadMessage(Exception):
    """A message that has no single reading. `status` is what a client gets for it; `reason` says why, for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Rule:
    """A header that the router looks at: noted under its lower-case `name`; `passed` on as it came, or withheld."""

    __slots__ = ("name", "passed")

    def __init__(self, name: bytes, passed: bool) -> None:
        self.name = name
        self.passed = passed


class RuleBook(dict[bytes, Rule | None]):
    """Spelling of a header name → its rule; None = pass it on unseen, as most are.

    A name that differs from a withheld one by an underscore for a hyphen is withheld as well: to a gateway interface
    (CGI, WSGI, Rack) the two are the same variable, and one of them would be the client's to spoof.
    """

    def __init__(self, table: Mapping[bytes, Rule]) -> None:
        super().__init__()
        self._table = table

    def __missing__(self, spelling: bytes) -> Rule | None:
        name = spelling.lower()
        rule = self._table.get(name)
        if rule is None and b"_" in name:
            twin = self._table.get(name.replace(b"_", b"-"))
            if twin is not None and not twin.passed:
                rule = Rule(name, False)
        if len(self) < REMEMBERED:
            self[spelling] = rule
        return rule


class ConnectionOptions(dict[bytes, frozenset[bytes]]):
    """Value of `Connection` → its options in lower case (RFC 9110 §7.6.1)."""

    def __missing__(self, value: bytes) -> frozenset[bytes]:
        options = frozenset(token.strip(b" \t").lower() for token in value.split(b",")) - {b""}
        if len(self) < REMEMBERED:
            self[value] = options
        return options


CONNECTION_OPTIONS = ConnectionOptions()

OWN_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
"""Options of `Connection` that are no header names."""


def without_named(headers: HeaderList, options: frozenset[bytes], kept: frozenset[bytes]) -> HeaderList:
    """Headers less those that `Connection` names (RFC 9110 §7.6.1), but for those `kept` whatever it says.

    What the router sets is not in `headers` at all, what it reads is among the `kept`: no client can have it removed.
    """
    named = options - kept - OWN_OPTIONS
    if not named:
        return headers
    return [header for header in headers if header[0].lower() not in named]


def header_text(headers: HeaderList) -> bytes:
    """Header lines as they go out, each ending in CRLF."""
    return b"\r\n".join(map(b": ".join, headers)) + b"\r\n" if headers else b""


def content_length(value: bytes) -> int:
    """The one decimal number of Content-Length (RFC 9112 §6.3). Raises BadMessage."""
    if not value.isdigit() or len(value) > 18:
        raise BadMessage(400, "Content-Length is not a number")
    return int(value)
