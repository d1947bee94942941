"""HTTP/2 header fields and what this router makes of them: requests in, response fields out (RFC 9113 §8). No I/O.

The `h2` library has checked the shape of a header block (pseudo-headers, lower case, no connection headers). A request
is written to HTTP/1.1 backends as text, so here nothing passes that could end a line or mean another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from router.http.headers import REQUEST_RULES, unsafe_trailer
from router.http.message import CHUNKED, NO_BODY, BadMessage, HeaderList, Rule, RuleBook, content_length, header_text
from router.http.request import HOST_KEYS, TOKEN, RequestHead

_NO_OPTIONS: frozenset[bytes] = frozenset()
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_TARGET = re.compile(rb"/[\x21-\x7e\x80-\xff]*\Z")
_SINGLE = frozenset((b"host", b"content-length"))


class FieldReader:
    """Reads header blocks. `withheld` are further headers that are noted and not passed on."""

    def __init__(self, withheld: tuple[bytes, ...] = ()) -> None:
        self._rules = RuleBook(REQUEST_RULES | {name: Rule(name, False) for name in withheld})

    def request(self, fields: Iterable[tuple[bytes, bytes]], ended: bool) -> RequestHead:
        """The request that a header block makes; `ended`: it has no body. Raises BadMessage."""
        pseudo: dict[bytes, bytes] = {}
        headers: HeaderList = []
        noted: dict[bytes, bytes] = {}
        crumbs: list[bytes] = []
        size = count = 0
        for field in fields:
            name, value = field[0], field[1]
            size += len(name) + len(value) + 4
            if name[:1] == b":":
                pseudo[name] = value
                continue
            if not TOKEN.match(name) or not _VALUE.match(value):
                raise BadMessage(400, "a header with characters that can't be in one")
            count += 1
            if name == b"cookie":  # RFC 9113 §8.2.3: in HTTP/1.1 they are one
                crumbs.append(value)
                continue
            rule = self._rules[name]
            if rule is None:
                headers.append((name, value))
                continue
            if rule.passed:
                headers.append((name, value))
            if name in noted:
                if name in _SINGLE:
                    raise BadMessage(400, f"more than one {name.decode()} header")
                value = noted[name] + b", " + value
            noted[name] = value
        if crumbs:
            noted[b"cookie"] = b"; ".join(crumbs)
            headers.append((b"cookie", noted[b"cookie"]))
        return self._head(pseudo, headers, noted, ended, size, count)

    def _head(
        self,
        pseudo: dict[bytes, bytes],
        headers: HeaderList,
        noted: dict[bytes, bytes],
        ended: bool,
        size: int,
        count: int,
    ) -> RequestHead:
        method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        if method == b"CONNECT":
            raise BadMessage(405, "CONNECT is not supported")
        if not TOKEN.match(method):
            raise BadMessage(400, "invalid method")
        if (not _TARGET.match(target) and not (target == b"*" and method == b"OPTIONS")) or b"#" in target:
            raise BadMessage(400, "invalid request target")
        authority, host = pseudo.get(b":authority"), noted.get(b"host")
        if authority is not None and host is not None and authority.lower() != host.lower():
            raise BadMessage(400, "Host differs from :authority")
        request = RequestHead()
        request.method, request.target, request.version = method, target, b"2.0"
        request.raw_host = authority if authority is not None else host or b""
        request.host = HOST_KEYS[request.raw_host]
        request.headers, request.noted, request.options = headers, noted, _NO_OPTIONS
        request.text = header_text(headers)
        request.keep_alive = True
        length = noted.get(b"content-length")
        size_of_body = content_length(length) if length is not None else CHUNKED
        request.body = NO_BODY if ended else size_of_body
        if ended and length is not None and size_of_body:
            raise BadMessage(400, "Content-Length without the content")
        request.header_count, request.size = count, size
        return request


def safe_trailers(fields: Iterable[tuple[bytes, bytes]]) -> HeaderList:
    """The trailers that may be passed on (RFC 9110 §6.5.1)."""
    return [
        (field[0], field[1])
        for field in fields
        if TOKEN.match(field[0]) and _VALUE.match(field[1]) and not unsafe_trailer(field[0])
    ]


def fields_of(lines: bytes) -> HeaderList:
    """Header lines, each ending in CRLF, as fields with lower-case names."""
    found = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.lower(), value.strip(b" \t")))
    return found
