"""`http_rewrite`: headers that responses lose, and those that they get when they have none of the name (contract §5.5).

It holds for every response to a request that could be read, the router's own included; not for a 101. Interim
responses (1xx) only lose headers. What frames a message or belongs to one connection can't be named: the configuration
refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.http.headers import RESPONSE_RULES
from router.http.message import HeaderList, header_text

FIXED = frozenset(name for name, rule in RESPONSE_RULES.items() if not rule.passed) | {b"date"}
"""Headers, lower case, that no rewriting may touch."""
_ALWAYS_SET = b"x-vcap-request-id"


class Rewrite:
    """The rules: names to remove, then fields to add; several fields of one name are all added."""

    __slots__ = ("_add", "_remove")

    def __init__(self, add: Iterable[tuple[str, str]], remove: Iterable[str]) -> None:
        self._remove = frozenset(name.lower().encode() for name in remove)
        fields = [(name.encode(), value.encode("utf-8", "replace")) for name, value in add]
        self._add = [
            (name.lower(), (name, value))
            for name, value in fields
            if name.lower() != _ALWAYS_SET or _ALWAYS_SET in self._remove
        ]

    def headers(self, headers: HeaderList, status: int) -> HeaderList:
        """The headers that a backend's response of this status goes out with."""
        if status == 101:
            return headers
        if self._remove:
            headers = [field for field in headers if field[0].lower() not in self._remove]
        if status < 200 or not self._add:
            return headers
        present = {field[0].lower() for field in headers}
        return headers + [field for name, field in self._add if name not in present]

    def lines(self, lines: bytes) -> bytes:
        """Header lines that the router adds to a backend's response, less those to be removed."""
        return header_text(self._kept(lines)) if self._remove and lines else lines

    def answer(self, lines: bytes) -> bytes:
        """All header lines of a response that the router makes."""
        return header_text(self.headers(self._kept(lines), 200))

    def _kept(self, lines: bytes) -> HeaderList:
        fields = [line.partition(b": ")[::2] for line in lines.split(b"\r\n")[:-1]]
        return [field for field in fields if field[0].lower() not in self._remove or field[0].lower() in FIXED]
