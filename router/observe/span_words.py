"""What a sampled request is called as spans: names and attributes (OpenTelemetry semantic conventions for HTTP 1.2x).

A record gives one span of kind SERVER, the request as the router had it, and below it one of kind CLIENT for each
attempt at a backend. What the conventions have no name for begins with `router.`. Pure: words only, no library.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from router.messages import AttemptRecord, SpanRecord
from router.observe.accounts import kind_of

Value = str | int | float | bool

METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))
"""Known ones; another is `_OTHER`, so that nobody can make names without end."""


class Told(NamedTuple):
    """One span. Ids are hexadecimal, times unix nanoseconds; `failed` is the text of an error status, "" = none."""

    name: str
    server: bool
    trace_id: bytes
    id: bytes
    parent_id: bytes
    parent_is_remote: bool
    began: int
    ended: int
    attributes: dict[str, Value]
    failed: str | None


def spans_of(record: SpanRecord) -> list[Told]:
    """The request's span, then those of its attempts in their order."""
    method = _text(record.method)
    known = method if method in METHODS else "_OTHER"
    request = _request(record, method, known)
    failed = record.status >= 500 or not record.status or "endpoint_failure" in record.error
    told = [
        Told(
            f"{known if known != '_OTHER' else 'HTTP'} {record.route}".rstrip(),
            True,
            record.trace_id,
            record.span_id,
            record.parent_id,
            True,
            record.began,
            record.ended,
            request,
            record.error if failed else None,
        )
    ]
    for number, attempt in enumerate(record.attempts):
        told.append(_attempt(record, attempt, number, known))
    return told


def _request(record: SpanRecord, method: str, known: str) -> dict[str, Value]:
    scheme = "https" if record.secure else "http"
    path, _, query = _text(record.target).partition("?")
    found: dict[str, Value] = {
        "http.request.method": known,
        "url.scheme": scheme,
        "url.path": path,
        "network.protocol.name": "http",
        "network.protocol.version": _text(record.version).removesuffix(".0") or "1.1",
        "http.request.body.size": record.bytes_in,
        "http.response.body.size": record.bytes_out,
        "router.request_id": _text(record.request_id),
        "router.attempts": len(record.attempts),
    }
    if known == "_OTHER":
        found["http.request.method_original"] = method[:64]
    if query:
        found["url.query"] = query
    if record.route:
        found["http.route"] = "/" + record.route.partition("/")[2]
        found["router.route"] = record.route
    if record.status:
        found["http.response.status_code"] = record.status
    _server(found, _text(record.host), scheme)
    _peer(found, record)
    if record.user_agent:
        found["user_agent.original"] = _text(record.user_agent)
    if record.error:
        found["router.error"] = record.error
        found["error.type"] = kind_of(record.error)
    elif record.status >= 500:
        found["error.type"] = str(record.status)
    if record.instance is not None:
        app, instance, index = record.instance
        names = {"cloudfoundry.app.id": app, "cloudfoundry.app.instance.id": index, "router.instance_id": instance}
        found |= {name: value for name, value in names.items() if value}
    return found


def _server(found: dict[str, Value], host: str, scheme: str) -> None:
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:  # a host that no route has
        name, port = host, None
    if name:
        found["server.address"] = name
        found["server.port"] = port or (443 if scheme == "https" else 80)


def _peer(found: dict[str, Value], record: SpanRecord) -> None:
    address, _, port = _text(record.peer).rpartition(":")
    if address:
        found["network.peer.address"] = address.strip("[]")
        found["network.peer.port"] = int(port) if port.isdigit() else 0
    client = _text(record.client).strip() or address.strip("[]")
    if client:
        found["client.address"] = client


def _attempt(record: SpanRecord, attempt: AttemptRecord, number: int, method: str) -> Told:
    address = f"[{attempt.host}]" if ":" in attempt.host else attempt.host
    found: dict[str, Value] = {
        "http.request.method": method,
        "url.full": f"{'https' if attempt.tls else 'http'}://{address}:{attempt.port}{_text(record.target)}",
        "server.address": attempt.host,
        "server.port": attempt.port,
        "router.connection_reused": attempt.steps is None,
    }
    if number:
        found["http.request.resend_count"] = number
    if attempt.status:
        found["http.response.status_code"] = attempt.status
    if attempt.error:
        found["error.type"] = kind_of(f"endpoint_failure ({attempt.error})")
        found["router.error"] = attempt.error
    elif attempt.status >= 400:
        found["error.type"] = str(attempt.status)
    if attempt.steps is not None:
        for name, ns in zip(("dns_time", "dial_time", "tls_time"), attempt.steps, strict=True):
            if ns >= 0:
                found[f"router.{name}"] = ns / 1e9
    failed = attempt.error if attempt.error or attempt.status >= 400 else None
    return Told(
        method if method != "_OTHER" else "HTTP",
        False,
        record.trace_id,
        attempt.span_id,
        record.span_id,
        False,
        attempt.began,
        attempt.ended,
        found,
        failed,
    )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
