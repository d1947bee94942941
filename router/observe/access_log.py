"""The access log (contract §12.1): one line a request, gathered and written in batches.

The line is built from bytes as they came; values with quotes, backslashes or unprintable bytes take the slow way
through quoting. Lines are written with one `write` per batch to a file opened for appending, so several workers can
share it.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from router.messages import EndpointSpec, WorkerSettings

_PLAIN = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\')
_FLUSH_BYTES = 64 * 1024
_SECOND = 1_000_000_000  # ns

NO_ENDPOINT = (b'"-"', b'app_id:"-" app_index:"-" instance_id:"-"')
"""What stands for the endpoint of a request that had none."""


def quoted(value: bytes | None) -> bytes:
    """A value between double quotes, `"-"` when there is none (contract §12.1)."""
    if not value:
        return b'"-"'
    if value.translate(None, _PLAIN):
        value = _escaped(value)
    return b'"%b"' % value


def _escaped(value: bytes) -> bytes:
    out = []
    for c in value.decode("utf-8", "surrogateescape"):
        if c in '"\\':
            out.append("\\" + c)
        elif c.isprintable():
            out.append(c)
        elif "\udc80" <= c <= "\udcff":
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        else:
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c) or _code(ord(c)))
    return "".join(out).encode("utf-8", "replace")


def _code(point: int) -> str:
    if point < 0x80:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def redacted(method: bytes, target: bytes, mode: str) -> bytes:
    """The target as it may be logged: queries of GET requests kept, dropped or hashed (contract §12.2)."""
    if mode == "none" or method != b"GET":
        return target
    path, question, query = target.partition(b"?")
    if not question or not query:
        return target
    if mode == "all":
        return path
    return path + b"?hash=" + hashlib.sha1(query, usedforsecurity=False).hexdigest().encode()


def endpoint_fields(spec: EndpointSpec) -> tuple[bytes, bytes]:
    """The backend's address, and the three fields that name the instance."""
    app, index, instance = (
        quoted(text.encode("utf-8", "replace")) for text in (spec.app, spec.instance_index, spec.instance_id)
    )
    return (
        quoted(spec.address.encode("utf-8", "replace")),
        b"app_id:%b app_index:%b instance_id:%b" % (app, index, instance),
    )


class AccessLog:
    """Lines on their way to one file. Raises OSError at construction when it can't be opened."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.path = settings.access_log_file
        self._redact = settings.redact_query_params
        self._hide_source = settings.disable_log_source_ip
        self._hide_forwarded = settings.disable_log_forwarded_for
        self._extra = tuple(
            (name.lower().encode(), name.lower().replace("-", "_").encode()) for name in settings.extra_headers_to_log
        )
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._lines: list[bytes] = []
        self._bytes = 0
        self._second = -1
        self._stamp = b""
        self.lost = 0
        """Lines that could not be written."""

    def record(self, exchange: Any, ended_ns: int) -> None:
        """Take one request that is over (a `proxy.exchange.Exchange`); `ended_ns` is unix time in nanoseconds."""
        request = exchange.request
        noted = request.noted
        endpoint = exchange.endpoint
        backend, instance = NO_ENDPOINT if endpoint is None else endpoint.log_fields(endpoint_fields)
        target = request.target
        if self._redact != "none":
            target = redacted(request.method, target, self._redact)
        referer = noted.get(b"referer") or b"-"
        agent = noted.get(b"user-agent") or b"-"
        xff = exchange.forwarded_for or noted.get(b"x-forwarded-for") or b"-"
        proto = exchange.forwarded_proto or noted.get(b"x-forwarded-proto") or b"-"
        if (target + referer + agent + xff + proto).translate(None, _PLAIN):
            target, referer, agent, xff, proto = (quoted(value)[1:-1] for value in (target, referer, agent, xff, proto))
        if self._hide_forwarded:
            xff = b"-"
        received = exchange.received
        second, fraction = divmod(received, _SECOND)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        taken = ended_ns - received
        own = exchange.dispatched - received if exchange.dispatched else 0
        line = (
            b'%b - [%b.%09dZ] "%b %b HTTP/%b" %d %d %d "%b" "%b" "%b" %b x_forwarded_for:"%b"'
            b' x_forwarded_proto:"%b" vcap_request_id:"%b" response_time:%b gorouter_time:%b %b'
            b" x_cf_routererror:%b%b\n"
            % (
                request.raw_host,
                self._stamp,
                fraction,
                request.method,
                target,
                request.version,
                exchange.status,
                exchange.bytes_in,
                exchange.bytes_out,
                referer,
                agent,
                b"-" if self._hide_source else exchange.frontend.peer,
                backend,
                xff,
                proto,
                exchange.request_id,
                b"0.%06d" % (taken // 1000) if 0 <= taken < _SECOND else _seconds(taken),
                b"0.%06d" % (own // 1000) if 0 <= own < _SECOND else _seconds(own),
                instance,
                quoted(exchange.router_error.encode()) if exchange.router_error else b'"-"',
                self._extra_headers(request) if self._extra else b"",
            )
        )
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _FLUSH_BYTES:
            self.flush()

    def _extra_headers(self, request: Any) -> bytes:
        return b"".join([b" %b:%b" % (field, quoted(request.header(name))) for name, field in self._extra])

    def flush(self) -> None:
        """Write what has gathered."""
        if not self._lines:
            return
        data = b"".join(self._lines)
        count = len(self._lines)
        self._lines.clear()
        self._bytes = 0
        try:
            written = os.write(self._fd, data)
        except OSError:
            written = 0
        if written < len(data):
            self.lost += count - data[:written].count(b"\n")

    def close(self) -> None:
        """Write what is left and close the file."""
        self.flush()
        os.close(self._fd)


def _seconds(ns: int) -> bytes:
    """Six decimals; `"-"` for what a clock that was set back made negative."""
    return b'"-"' if ns < 0 else b"%d.%06d" % divmod(ns // 1000, 1_000_000)
