"""HTTP/2 header fields and what this router makes of them: requests and responses in, header blocks out (RFC 9113 §8).
No I/O.

A header block has to keep the rules of RFC 9113 §8.2 and §8.3: pseudo-headers first and once each, names in lower
case, no header that speaks of a connection. The request is written to HTTP/1.1 backends as text, so nothing passes
that could end a line or mean another host.
"""

from __future__ import annotations

import re

from router.http.headers import REQUEST_RULES, RESPONSE_RULES, unsafe_trailer
from router.http.hpack import Field, encode, literal
from router.http.message import CHUNKED, NO_BODY, BadMessage, HeaderList, Rule, RuleBook, content_length, header_text
from router.http.request import BODY_EXPECTED, HOST_KEYS, TOKEN, RequestHead, line_of
from router.http.response import MATTERING, ResponseHead
from router.http.rewrite import Rewrite

_NO_OPTIONS: frozenset[bytes] = frozenset()
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_TARGET = re.compile(rb"/[\x21-\x7e]*\Z")
_SINGLE = frozenset((b"host", b"content-length"))
_ONLY_HTTP1 = frozenset((b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection"))


class RecentFields:
    """The request that came last over a connection, and the fields before and after its `:path`.

    The requests of one client resemble each other: mostly all but that one field is the same. Then only the path has to
    be read (docs/decisions/0003 says it of HTTP/1.1).
    """

    __slots__ = ("after", "before", "ended", "request")

    def __init__(self) -> None:
        self.request: RequestHead | None = None
        self.before: list[Field] = []
        self.after: list[Field] = []
        self.ended = False
        """It had no body."""

    def forget(self) -> None:
        """Give up what is remembered, and its memory."""
        self.request = None
        self.before = self.after = []


class FieldReader:
    """Reads header blocks of requests. `withheld` are further headers that are noted and not passed on."""

    def __init__(self, withheld: tuple[bytes, ...] = ()) -> None:
        self._rules = RuleBook(REQUEST_RULES | {name: Rule(name, False) for name in withheld})

    def request(self, fields: list[Field], ended: bool, recent: RecentFields) -> RequestHead:
        """The request that a header block makes; `ended`: it has no body. Raises BadMessage.

        `recent` carries what it has in common with others over the connection.
        """
        known = recent.request
        at = len(recent.before)
        if (
            known is not None
            and recent.ended is ended
            and len(fields) > at
            and fields[at + 1 :] == recent.after
            and fields[:at] == recent.before
        ):
            name, target = fields[at]
            if name == b":path":
                if target == known.target:
                    return known
                if _TARGET.match(target) and b"#" not in target:
                    line, clean = line_of(known.method, target)
                    size = known.size + len(target) - len(known.target)
                    return known.like(line, known.method, target, size, clean)
        request = self._read(fields, ended)
        for at, field in enumerate(fields):
            if field[0] == b":path":
                recent.request, recent.ended = request, ended
                recent.before, recent.after = fields[:at], fields[at + 1 :]
                break
        return request

    def _read(self, fields: list[Field], ended: bool) -> RequestHead:
        pseudo: dict[bytes, bytes] = {}
        headers: HeaderList = []
        noted: dict[bytes, bytes] = {}
        crumbs: list[bytes] = []
        size = count = 0
        for name, value in fields:
            size += len(name) + len(value) + 4
            if name[:1] == b":":
                if name not in _PSEUDO or name in pseudo or count:
                    raise BadMessage(400, "a pseudo-header that is unknown, repeated or late")
                pseudo[name] = value
                continue
            if not _NAME.match(name) or not _VALUE.match(value):
                raise BadMessage(400, "a header with characters that can't be in one")
            if name in _ONLY_HTTP1 or (name == b"te" and value != b"trailers"):
                raise BadMessage(400, "a header that HTTP/2 does not have")
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
        if noted.get(b"expect", b"100-continue").lower() != b"100-continue":
            raise BadMessage(417, "Expect holds something else than 100-continue")
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
        if not TOKEN.match(method) or b":scheme" not in pseudo:
            raise BadMessage(400, "invalid method, or no scheme")
        if (not _TARGET.match(target) and not (target == b"*" and method == b"OPTIONS")) or b"#" in target:
            raise BadMessage(400, "invalid request target")
        authority, host = pseudo.get(b":authority"), noted.get(b"host")
        if authority is not None and host is not None and authority.lower() != host.lower():
            raise BadMessage(400, "Host differs from :authority")
        request = RequestHead()
        request.method, request.target, request.version = method, target, b"2.0"
        request.line, request.clean = line_of(method, target)
        request.raw_host = authority if authority is not None else host or b""
        request.host = HOST_KEYS[request.raw_host]
        request.headers, request.noted, request.options = headers, noted, _NO_OPTIONS
        request.text = header_text(headers)
        request.keep_alive = True
        request.meaning = None
        length = noted.get(b"content-length")
        size_of_body = content_length(length) if length is not None else CHUNKED
        request.body = NO_BODY if ended else size_of_body
        if ended and length is not None and size_of_body:
            raise BadMessage(400, "Content-Length without the content")
        request.header_count, request.size = count, size
        return request


_RESPONSE_RULES = RuleBook(RESPONSE_RULES)


def response_head(fields: list[Field], ended: bool, method: bytes, rewrite: Rewrite | None = None) -> ResponseHead:
    """The response head that a header block makes, as an answer to `method`. Raises BadMessage(502)."""
    head = ResponseHead()
    headers: HeaderList = []
    noted: dict[bytes, bytes] = {}
    head.status = 0
    for name, value in fields:
        if name == b":status":
            head.status = int(value) if len(value) == 3 and value.isdigit() else 0
            continue
        if not _NAME.match(name) or not _VALUE.match(value) or name in _ONLY_HTTP1:
            raise BadMessage(502, "a header that HTTP/2 does not have")
        rule = _RESPONSE_RULES[name]
        if rule is None or rule.passed:
            headers.append((name, value))
        if rule is not None:
            if name == b"content-length" and name in noted:
                raise BadMessage(502, "more than one Content-Length")
            noted[name] = noted[name] + b", " + value if name in noted else value
    if head.status < 100 or head.status == 101:
        raise BadMessage(502, "no status that HTTP/2 has")
    if rewrite is not None:
        headers = rewrite.headers(headers, head.status)
    head.plain = MATTERING.isdisjoint(noted)
    head.headers, head.noted, head.text = headers, noted, header_text(headers)
    head.keep_alive = True
    head.length = noted.get(b"content-length")
    size = content_length(head.length) if head.length is not None else CHUNKED
    without = method == b"HEAD" or head.status < 200 or head.status in (204, 304)
    if ended and not without and head.length is None:
        head.length = b"0"
    head.body = NO_BODY if ended or without else size
    if head.status < 200 or head.status == 204:
        head.length = None
    return head


_STATUS = [encode([(b":status", b"%d" % status)]) for status in range(1000)]


def request_block(request: RequestHead, lines: bytes, takes_trailers: bool) -> bytes:
    """The header block of a request to a backend; `lines` are the header lines that the router adds."""
    fields = [
        (b":method", request.method),
        (b":scheme", b"https"),
        (b":authority", request.raw_host),
        (b":path", request.target),
        *request.headers,
    ]
    if request.body > 0 or (request.body == NO_BODY and request.method in BODY_EXPECTED):
        fields.append((b"content-length", b"%d" % request.body))
    if takes_trailers:
        fields.append((b"te", b"trailers"))
    return encode(fields) + _of_lines(lines)


def response_block(head: ResponseHead, lines: bytes) -> bytes:
    """The header block of a response to a client; `lines` are the header lines that the router adds."""
    block = _STATUS[head.status] + encode(head.headers) + _of_lines(lines)
    return block if head.length is None else block + encode([(b"content-length", head.length)])


def interim_block(head: ResponseHead) -> bytes:
    """The header block of a 1xx response."""
    return _STATUS[head.status] + encode(head.headers)


def answer_block(status: int, lines: bytes) -> bytes:
    """The header block of a response that the router makes, of its header lines."""
    return _STATUS[status] + _of_lines(lines)


def safe_trailers(fields: list[Field]) -> HeaderList:
    """The trailers that may be passed on (RFC 9110 §6.5.1). Raises BadMessage where a pseudo-header is among them."""
    for name, _ in fields:
        if name[:1] == b":":
            raise BadMessage(400, "a pseudo-header in the trailers")
    return [
        (name, value)
        for name, value in fields
        if _NAME.match(name) and _VALUE.match(value) and not unsafe_trailer(name)
    ]


def _of_lines(lines: bytes) -> bytes:
    """Header lines, each ending in CRLF, as part of a header block."""
    block = []
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            block.append(literal(name, value.strip(b" \t")))
    return b"".join(block)
