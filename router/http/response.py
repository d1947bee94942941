"""Response heads: bytes in, `ResponseHead` out (RFC 9112 §4–§6, contract §5.5), and status lines.

As for requests: llhttp takes the head apart, this file decides framing and refuses what has two readings. A backend's
malformed head is a BadMessage, which the exchange turns into a 502. No I/O here.
"""

from __future__ import annotations

from http import HTTPStatus

import httptools

from router.http.headers import RESPONSE_RULES
from router.http.message import (
    CHUNKED,
    CONNECTION_OPTIONS,
    NO_BODY,
    OWN_OPTIONS,
    UNTIL_CLOSE,
    BadMessage,
    HeaderList,
    RuleBook,
    content_length,
    header_text,
    without_named,
)
from router.http.rewrite import Rewrite

_KEPT = frozenset(RESPONSE_RULES)
MATTERING = frozenset((b"set-cookie", b"trailer", b"x-vcap-request-id"))
"""Headers of a response that decide which lines the router adds."""


def reason_phrase(status: int) -> str:
    """The standard phrase of a status; unknown ones read `status code NNN` (contract §5.5)."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status code {status}"


STATUS_LINES = [f"HTTP/1.1 {status} {reason_phrase(status)}\r\n".encode() for status in range(1000)]
"""By status, for HTTP/1.1 clients."""
STATUS_LINES_10 = [line.replace(b"HTTP/1.1", b"HTTP/1.0", 1) for line in STATUS_LINES]
"""By status, for HTTP/1.0 clients."""


class ResponseHead:
    """One response without its body. `headers` are passed on, `noted` is for the router's own use."""

    __slots__ = ("body", "headers", "keep_alive", "length", "noted", "plain", "status", "text")

    status: int
    headers: HeaderList
    text: bytes
    """`headers` as they go out."""
    noted: dict[bytes, bytes]
    body: int
    """Bytes of body, 0 for none, CHUNKED, UNTIL_CLOSE."""
    length: bytes | None
    """Content-Length as to be told to the client, also where there is no body (HEAD, 304)."""
    plain: bool
    """Nothing in it bears on the header lines that the router adds."""
    keep_alive: bool
    """The backend will take another request on this connection."""


class ResponseParser:
    """Parses whole heads; one object for all connections of a worker."""

    def __init__(self, rewrite: Rewrite | None = None) -> None:
        self._rules = RuleBook(RESPONSE_RULES)
        self._rewrite = rewrite
        self._headers: HeaderList = []
        self._noted: dict[bytes, bytes] = {}
        self._repeated = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, from llhttp."""
        rule = self._rules[name]
        value = value.rstrip(b" \t")  # white space around it is no part of a value (RFC 9112 §5.1)
        if rule is None:
            self._headers.append((name, value))
            return
        if rule.passed:
            self._headers.append((name, value))
        key = rule.name
        noted = self._noted
        if key in noted:
            if key == b"content-length":
                self._repeated = True
            value = noted[key] + b", " + value
        noted[key] = value

    def parse(self, head: bytes, method: bytes) -> ResponseHead:
        """Parse one head, from the status line to the empty line, of an answer to `method`. Raises BadMessage."""
        headers = self._headers = []
        noted = self._noted = {}
        self._repeated = False
        # A parser serves once: after a head, llhttp waits for a body, and bodies are framed elsewhere.
        parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise BadMessage(502, str(error)) from None
        response = ResponseHead()
        status = response.status = parser.get_status_code()
        version = head[5:8]  # llhttp has checked that the line begins with HTTP/x.y
        if (version != b"1.1" and version != b"1.0") or status < 100:
            raise BadMessage(502, f"unsupported protocol version or status: {head[:12].decode('latin-1')}")
        response.noted = noted
        response.plain = MATTERING.isdisjoint(noted)
        connection = noted.get(b"connection")
        if connection is None:
            response.headers = headers
            response.keep_alive = version == b"1.1"
        else:
            options = CONNECTION_OPTIONS[connection]
            response.headers = headers if options <= OWN_OPTIONS else without_named(headers, options, _KEPT)
            response.keep_alive = b"close" not in options and (version == b"1.1" or b"keep-alive" in options)
        if self._rewrite is not None:
            response.headers = self._rewrite.headers(response.headers, status)
        response.text = header_text(response.headers)
        length = response.length = noted.get(b"content-length")
        if length is not None:
            if self._repeated:
                raise BadMessage(502, "more than one Content-Length")
            if b"transfer-encoding" in noted:
                raise BadMessage(502, "both Content-Length and Transfer-Encoding")
            response.body = content_length(length)
            if length[:1] == b"0":
                response.length = b"%d" % response.body
            if method != b"HEAD" and status >= 200 and status != 204 and status != 304:
                return response
        self._frame(response, method, version)
        return response

    def _frame(self, response: ResponseHead, method: bytes, version: bytes) -> None:
        """RFC 9112 §6.3: how long the body is, where it isn't simply Content-Length."""
        status = response.status
        coding = response.noted.get(b"transfer-encoding")
        if coding is not None and (version == b"1.0" or coding.lower() != b"chunked"):
            raise BadMessage(502, "Transfer-Encoding that has more than one reading")
        if method == b"HEAD" or status < 200 or status == 204 or status == 304:
            response.body = NO_BODY
            if method != b"HEAD" and status != 304:
                response.length = None
        elif coding is not None:
            response.body = CHUNKED
        else:
            response.body = UNTIL_CLOSE
            response.keep_alive = False
