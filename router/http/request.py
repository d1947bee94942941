"""Request heads: bytes in, `RequestHead` out (RFC 9112 §2–§6, contract §3.1, §5.3).

One reading of every message: llhttp (strict) takes the head apart, this file refuses what still has two readings and
decides framing, host and target. The head is later built anew from these parts, never copied. No I/O here.

`headers` holds what is passed to the backend unseen; what the router routes by, sets itself or must not pass on
(hop-by-hop) is in `noted` under its lower-case name.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from router.http.headers import REQUEST_RULES
from router.http.message import (
    CHUNKED,
    CONNECTION_OPTIONS,
    NO_BODY,
    OWN_OPTIONS,
    REMEMBERED,
    BadMessage,
    HeaderList,
    Rule,
    RuleBook,
    content_length,
    header_text,
    without_named,
)

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.%A-Za-z0-9]+\])(?::[0-9]{0,5})?\Z")
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(.*)\Z", re.DOTALL)
_VERSIONS = {b" HTTP/1.1": b"1.1", b" HTTP/1.0": b"1.0"}
_NO_OPTIONS: frozenset[bytes] = frozenset()
_UPGRADE = frozenset((b"upgrade",))
_COMMON = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"POST", b"PUT", b"PATCH"))
_PLAIN_IN_TARGETS = bytes(c for c in range(0x21, 0x7F) if c not in b'"#;<>\\^`{|}')
"""What a path and a query may hold (RFC 3986 §3.3, §3.4), but for semicolons (contract §5.6)."""
_SINGLE = frozenset((b"host", b"content-length"))
BODY_EXPECTED = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods that say so when they have no body (contract §5.2)."""


class RequestHead:
    """One request without its body."""

    __slots__ = (
        "body",
        "clean",
        "header_count",
        "headers",
        "host",
        "keep_alive",
        "line",
        "meaning",
        "method",
        "noted",
        "options",
        "raw_host",
        "size",
        "target",
        "text",
        "version",
    )

    line: bytes
    """Method and target, with a space between them."""
    method: bytes
    target: bytes
    """Origin form (`/path?query`) or `*`; absolute form is reduced to it (RFC 9112 §3.2.2)."""
    clean: bool
    """Nothing is in its target that a log would have to quote, and no semicolon."""
    version: bytes
    """`1.0`, `1.1` or `2.0`."""
    raw_host: bytes
    """The authority as sent, with port."""
    host: bytes
    """Look-up key: lower case, no port (contract §3.1); empty if none."""
    headers: HeaderList
    text: bytes
    """`headers` as they go out."""
    noted: dict[bytes, bytes]
    options: frozenset[bytes]
    """Options of `Connection`, lower case."""
    keep_alive: bool
    body: int
    """Bytes of body, 0 for none, CHUNKED."""
    header_count: int
    """Header lines, `Host` not counted (contract §8.3)."""
    size: int
    """Bytes of the head as the contract counts them (§8.3)."""
    meaning: Any
    """What the proxy makes of the header lines (`proxy.meaning`); None until it does."""

    def like(self, line: bytes, method: bytes, target: bytes, size: int, clean: bool) -> RequestHead:
        """A request with these header lines (shared, not copied) and another request line."""
        other = RequestHead()
        other.line = line
        other.method = method
        other.target = target
        other.clean = clean
        other.size = size
        other.meaning = self.meaning
        other.version = self.version
        other.raw_host = self.raw_host
        other.host = self.host
        other.headers = self.headers
        other.text = self.text
        other.noted = self.noted
        other.options = self.options
        other.keep_alive = self.keep_alive
        other.body = self.body
        other.header_count = self.header_count
        return other

    def header(self, name: bytes) -> bytes | None:
        """Value of the first header of this lower-case name, or None."""
        value = self.noted.get(name)
        if value is None:
            for key, passed in self.headers:
                if key.lower() == name:
                    return passed
        return value


def line_of(method: bytes, target: bytes) -> tuple[bytes, bool]:
    """`line` and `clean` of a request with these."""
    return b"%b %b" % (method, target), not target.translate(None, _PLAIN_IN_TARGETS)


class _HostKeys(dict[bytes, bytes]):
    """Authority as sent → look-up key. Raises BadMessage for one that is no authority."""

    def __missing__(self, raw: bytes) -> bytes:
        if b"@" in raw or not _HOST.match(raw):
            raise BadMessage(400, "malformed Host header")
        key = raw[:colon].lower() if (colon := raw.find(b":")) >= 0 else raw.lower()
        if len(self) < REMEMBERED:
            self[raw] = key
        return key


HOST_KEYS = _HostKeys()


class Recent:
    """The header lines that came last over a connection, and what was read from them.

    The requests of one client resemble each other: mostly all but the request line is the same, byte for byte. Then
    only that line has to be read (docs/decisions/0003).
    """

    __slots__ = ("block", "request")

    def __init__(self) -> None:
        self.block = b""
        """Everything after the target: version, header lines, empty line; empty = nothing worth remembering."""
        self.request: RequestHead | None = None

    def forget(self) -> None:
        """Give up what is remembered, and its memory."""
        self.block = b""
        self.request = None


MAX_REMEMBERED_BLOCK = 4096
"""Bytes of header lines that a connection remembers."""


class RequestParser:
    """Parses whole heads. One object serves all connections of a worker: it keeps nothing between calls."""

    def __init__(self, withheld: tuple[bytes, ...] = (), kept: frozenset[bytes] = frozenset()) -> None:
        """`withheld` are further headers that are noted and not passed on, `kept` those that `Connection` can't remove.

        Both are lower case.
        """
        rules = REQUEST_RULES | {name: Rule(name, False) for name in withheld}
        self._rules = RuleBook(rules)
        self._kept = kept | frozenset(rules)
        self._parser: Any = None
        self._target = b""
        self._headers: HeaderList = []
        self._noted: dict[bytes, bytes] = {}
        self._repeated = b""
        self._withheld = 0

    # -------------------------------------------------------- llhttp's callbacks

    def on_url(self, url: bytes) -> None:
        self._target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        rule = self._rules[name]
        value = value.rstrip(b" \t")  # white space around it is no part of a value (RFC 9112 §5.1)
        if rule is None:
            self._headers.append((name, value))
            return
        if rule.passed:
            self._headers.append((name, value))
        else:
            self._withheld += 1
        key = rule.name
        noted = self._noted
        if key in noted:
            if key in _SINGLE:
                self._repeated = key
            value = noted[key] + b", " + value
        noted[key] = value

    # -------------------------------------------------------- a head

    def parse_next(self, head: bytes, recent: Recent) -> RequestHead:
        """As `parse`, for one of several requests over a connection: `recent` carries what they have in common."""
        end = head.find(b"\r")
        block = head[end - 9 :]
        if block == recent.block:
            known = recent.request
            assert known is not None
            # The line has to be read all the same. What follows the target belongs to the block.
            line = head[: end - 9]
            method, _, target = line.partition(b" ")
            if method in _COMMON and target[:1] == b"/" and not target.translate(None, _PLAIN_IN_TARGETS):
                return known.like(line, method, target, len(head) - 2, True)
        request = self.parse(head)
        if (
            request.keep_alive
            and request.version == b"1.1"
            and request.raw_host == request.noted.get(b"host")
            and len(block) <= MAX_REMEMBERED_BLOCK
        ):
            recent.block = block
            recent.request = request
        return request

    def parse(self, head: bytes) -> RequestHead:
        """Parse one head, from the request line to the empty line. Raises BadMessage with the status to answer."""
        headers = self._headers = []
        noted = self._noted = {}
        self._repeated = b""
        self._withheld = 0
        # llhttp goes on from message to message only after a plain one: its parser is put back in that case alone.
        parser = self._parser or httptools.HttpRequestParser(self)
        self._parser = None
        request = RequestHead()
        try:
            parser.feed_data(head)
            plain = True
            request.method = parser.get_method()
        except httptools.HttpParserUpgrade:
            plain = False
            request.method = parser.get_method()
            if request.method == b"CONNECT":  # for llhttp, always an upgrade
                raise BadMessage(405, "CONNECT is not supported") from None
        except httptools.HttpParserInvalidMethodError:
            plain = False
            request.method = self._parse_unusual_method(head)
            headers, noted = self._headers, self._noted
        except httptools.HttpParserError as error:
            raise BadMessage(400, str(error)) from None
        end = head.find(b"\r")
        version = _VERSIONS.get(head[end - 9 : end], b"")
        if not version:  # llhttp takes a line without a version for HTTP/0.9, and 0.9 and 2.0 for versions like others
            raise BadMessage(505, "unsupported protocol version")
        request.version = version
        if self._repeated:
            raise BadMessage(400, f"more than one {self._repeated.decode()} header")
        request.meaning = None
        request.noted = noted
        request.size = len(head) - 2
        request.header_count = len(headers) + self._withheld - 1
        connection = noted.get(b"connection")
        if connection is None:
            request.options = _NO_OPTIONS
            request.headers = headers
            keep = version == b"1.1"
        else:
            options = CONNECTION_OPTIONS[connection]
            if version == b"1.0":  # RFC 9110 §7.8: HTTP/1.0 can't ask for another protocol
                options -= _UPGRADE
            request.options = options
            request.headers = headers if options <= OWN_OPTIONS else without_named(headers, options, self._kept)
            keep = b"close" not in options and (version == b"1.1" or b"keep-alive" in options)
        request.keep_alive = keep
        if b"expect" in noted:
            self._expectation(request)
        if b"content-length" in noted or b"transfer-encoding" in noted:
            request.body = self._framing(version)
        else:
            request.body = NO_BODY
            if plain and keep:
                self._parser = parser
        target = self._target
        raw_host = noted.get(b"host")
        if target[:1] != b"/" or b"#" in target or raw_host is None:
            target, raw_host = self._aim(request, target, raw_host)
        request.target = target
        request.line, request.clean = line_of(request.method, target)
        request.raw_host = raw_host
        request.text = header_text(request.headers)
        request.host = HOST_KEYS[raw_host]
        return request

    def _parse_unusual_method(self, head: bytes) -> bytes:
        """llhttp knows a fixed list of methods; any token is one (RFC 9110 §9.1). Parses the rest under another."""
        method, _, rest = head.partition(b" ")
        if not TOKEN.match(method):
            raise BadMessage(400, "invalid method")
        self._headers, self._noted, self._withheld = [], {}, 0
        try:
            httptools.HttpRequestParser(self).feed_data(b"GET " + rest)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise BadMessage(400, str(error)) from None
        return method

    def _expectation(self, request: RequestHead) -> None:
        """RFC 9110 §10.1.1: one expectation is known, and HTTP/1.0 has none."""
        if request.version == b"1.0":
            del self._noted[b"expect"]
            request.headers = [field for field in request.headers if field[0].lower() != b"expect"]
        elif self._noted[b"expect"].lower() != b"100-continue":
            raise BadMessage(417, "Expect holds something else than 100-continue")

    def _framing(self, version: bytes) -> int:
        """RFC 9112 §6: how long the body is."""
        coding = self._noted.get(b"transfer-encoding")
        length = self._noted.get(b"content-length")
        if coding is None:
            assert length is not None
            return content_length(length)
        if length is not None:
            raise BadMessage(400, "both Content-Length and Transfer-Encoding")
        if version == b"1.0":
            raise BadMessage(400, "Transfer-Encoding in an HTTP/1.0 request")
        if coding.lower() != b"chunked":
            raise BadMessage(501, "Unsupported transfer encoding")
        return CHUNKED

    def _aim(self, request: RequestHead, target: bytes, raw_host: bytes | None) -> tuple[bytes, bytes]:
        """RFC 9112 §3.2: target and authority where they aren't simply a path and a Host; they must agree."""
        if b"#" in target:
            raise BadMessage(400, "fragment in the request target")
        if not target.startswith(b"/") and (target != b"*" or request.method != b"OPTIONS"):
            absolute = _ABSOLUTE.match(target)
            if absolute is None or not absolute[1]:
                raise BadMessage(400, "invalid request target")
            authority, target = absolute.groups()
            if raw_host is not None and raw_host.lower() != authority.lower():
                raise BadMessage(400, "Host differs from the request target's authority")
            raw_host = authority
            if not target.startswith(b"/"):
                target = b"/" + target
        if raw_host is None:
            if request.version == b"1.1":
                raise BadMessage(400, "missing required Host header")
            raw_host = b""
        return target, raw_host
