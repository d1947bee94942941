"""Every answer that the router makes itself (contract §6).

A row is status, `X-Cf-RouterError`, `Cache-Control`; the message is given with the request. Bodies are plain text,
unless `error_page` has them otherwise: `<code> <standard text>: <message>` and a newline, below it what to check. No
I/O here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from router.http.error_page import HTML, PLAIN_TEXT, Facts, Look, error_page
from router.http.message import HeaderList
from router.http.response import STATUS_LINES, STATUS_LINES_10, reason_phrase

PLAIN = Look()


class ErrorRow(NamedTuple):
    """Shape of a router-made answer. `number` is the row in the contract's table."""

    number: int
    status: int
    router_error: str
    cache_control: str
    message: str


EMPTY_HOST = ErrorRow(1, 400, "empty_host", "public,max-age=2", "Request had empty Host header")
INVALID_APP_INSTANCE = ErrorRow(
    2, 400, "invalid_cf_app_instance_header", "no-cache, no-store", "Invalid X-CF-App-Instance Header"
)
INVALID_PROCESS_INSTANCE = ErrorRow(
    3, 400, "invalid_cf_process_instance_header", "no-cache, no-store", "Invalid X-CF-Process-Instance Header"
)
UNKNOWN_ROUTE = ErrorRow(4, 404, "unknown_route", "no-cache, no-store", "Requested route ('{host}') does not exist.")
UNKNOWN_INSTANCE = ErrorRow(
    5,
    400,
    "unknown_route",
    "no-cache, no-store",
    "Requested instance ('{index}') with guid ('{guid}') does not exist for route ('{host}')",
)
UNKNOWN_PROCESS_INSTANCE = ErrorRow(
    6,
    400,
    "unknown_route",
    "no-cache, no-store",
    "Requested instance ('{index}') with process guid ('{guid}') does not exist for route ('{host}')",
)
UNKNOWN_PROCESS = ErrorRow(
    7,
    400,
    "unknown_route",
    "no-cache, no-store",
    "Requested instance with process guid ('{guid}') does not exist for route ('{host}')",
)
NO_ENDPOINTS = ErrorRow(
    8, 503, "no_endpoints", "public,max-age=2", "Requested route ('{host}') has no available endpoints."
)
CONNECTION_LIMIT = ErrorRow(
    9, 503, "Connection Limit Reached", "", "Requested route ('{host}') has reached the connection limit."
)
ROUTE_SERVICE_UNSUPPORTED = ErrorRow(
    10, 502, "route_service_unsupported", "", "Support for route services is disabled."
)
WEBSOCKET_TO_ROUTE_SERVICE = ErrorRow(
    11,
    503,
    "route_service_unsupported",
    "",
    "Websocket requests are not supported for routes bound to Route Services.",
)
BAD_SIGNATURE = ErrorRow(12, 502, "", "", "Failed to validate Route Service Signature: {reason}")
EXPIRED_SIGNATURE = ErrorRow(13, 504, "", "", "Failed to validate Route Service Signature: {reason}")
UNASKED_BAD_SIGNATURE = ErrorRow(
    20, 400, "invalid_route_service_signature", "", "invalid route service signature detected"
)
UNASKED_EXPIRED_SIGNATURE = ErrorRow(
    21, 504, "expired_route_service_signature", "", "Failed to validate Route Service Signature: {reason}"
)
ROUTE_SERVICE_FAILED = ErrorRow(22, 500, "", "", "Route service request failed.")
HEAD_TOO_LARGE = ErrorRow(31, 431, "max-request-size-exceeded", "", "")

ENDPOINT_FAILURES = {
    496: "496 SSL Certificate Required",
    499: "499 Request Cancelled",
    502: "502 Bad Gateway: Registered endpoint failed to handle the request.",
    503: "503 Service Unavailable",
    525: "525 SSL Handshake Failed",
    526: "526 Invalid SSL Certificate",
}
"""Status → body, for attempts that failed for good (contract §7.3)."""

_NOSNIFF = b"X-Content-Type-Options: nosniff\r\n"
_HEADERS = b"Content-Type: %b\r\n%b" % (PLAIN_TEXT, _NOSNIFF)


class Answer(NamedTuple):
    """A whole router-made response, but for `Connection` and `Date`, which belong to the client's connection."""

    status: int
    router_error: str
    headers: bytes
    """Header lines, each with CRLF, framing included."""
    body: bytes


def error_answer(
    row: ErrorRow,
    host: bytes,
    hints: Sequence[str] = (),
    guid: str = "",
    index: str = "",
    look: Look = PLAIN,
    reason: str = "",
) -> Answer:
    """The answer of one row for the host as sent; `hints` are further lines of the body.

    `guid` and `index` name the instance that was asked for, in the rows that speak of one; `reason` likewise.
    """
    message = row.message.format(host=host.decode("utf-8", "replace"), guid=guid, index=index, reason=reason)
    text = "\n".join([f"{row.status} {reason_phrase(row.status)}: {message}", *hints, ""])
    facts = Facts(row.status, row.router_error, message, hints, _shown(row.router_error, row.cache_control))
    kind, body = error_page(facts, look, text) if message else (PLAIN_TEXT, b"")
    headers = b"Content-Type: %b\r\n%b" % (kind, _NOSNIFF)
    if row.cache_control:
        headers += f"Cache-Control: {row.cache_control}\r\n".encode()
    return _with_reason(row.status, row.router_error, headers, body)


def endpoint_failure(status: int, reason: str, look: Look = PLAIN) -> Answer:
    """No attempt succeeded; `reason` is the last one's error (contract §7.3). Never by the HTML template."""
    text = ENDPOINT_FAILURES[status]
    router_error = f"endpoint_failure ({reason})"
    message = text.partition(": ")[2] or text
    facts = Facts(status, _safe(router_error), message, (), {})
    kind, body = error_page(facts, look, f"{text}\n", templated=False)
    return _with_reason(status, router_error, b"Content-Type: %b\r\n%b" % (kind, _NOSNIFF), body)


def unknown_failure() -> Answer:
    """Something in the router broke (contract §6, row 32)."""
    return _with_reason(502, "unknown_failure", b"", b"")


def health_answer(healthy: bool) -> Answer:
    """The health check by User-Agent (contract §11.1)."""
    body = b"ok\n" if healthy else b""
    headers = b"Cache-Control: private, max-age=0\r\nExpires: 0\r\nContent-Length: %d\r\n" % len(body)
    return Answer(200 if healthy else 503, "", headers, body)


def options_answer() -> Answer:
    """`OPTIONS *` asks the router itself (contract §6)."""
    return Answer(200, "", b"Content-Length: 0\r\n", b"")


def refusal(status: int, reason: str, lines: bytes = b"") -> bytes:
    """The whole response to a request that can't be read; the connection closes after it (contract §6, last table).

    `lines` are further header lines.
    """
    body = f"{status} {reason_phrase(status)}: {reason}\n".encode("utf-8", "replace")
    return b"%b%b%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
        STATUS_LINES[status],
        _HEADERS,
        lines,
        len(body),
        body,
    )


def refusal_fields(status: int, reason: str) -> tuple[HeaderList, bytes]:
    """The same over HTTP/2: fields and body; the connection stays."""
    body = f"{status} {reason_phrase(status)}: {reason}\n".encode("utf-8", "replace")
    fields = [
        (b":status", b"%d" % status),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"x-content-type-options", b"nosniff"),
        (b"content-length", b"%d" % len(body)),
    ]
    return fields, body


def status_line(status: int, version: bytes) -> bytes:
    """Status line for a client that speaks `version`."""
    return STATUS_LINES[status] if version == b"1.1" else STATUS_LINES_10[status]


def _shown(router_error: str, cache_control: str) -> dict[str, str]:
    shown = {"content-type": HTML.decode(), "x-content-type-options": "nosniff"}
    if router_error:
        shown["x-cf-routererror"] = router_error
    return shown | {"cache-control": cache_control} if cache_control else shown


def _safe(router_error: str) -> str:
    # A reason may quote bytes of a backend: nothing of it may start a new header line.
    return "".join(c if c.isprintable() else " " for c in router_error)


def _with_reason(status: int, router_error: str, headers: bytes, body: bytes) -> Answer:
    safe = _safe(router_error)
    if safe:
        headers += f"X-Cf-RouterError: {safe}\r\n".encode()
    headers += b"Content-Length: %d\r\n" % len(body)
    return Answer(status, safe, headers, body)
