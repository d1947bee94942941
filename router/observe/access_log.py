"""The access log (contract §12.1): one record a request, as the contract's line or as a JSON object.

A line is built from bytes as they came; values with quotes, backslashes or unprintable bytes take the slow way
through quoting. Records gather here and are handed on in batches; where to is the business of `observe.log_sinks`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any

import msgspec

from router.messages import EndpointSpec, WorkerSettings
from router.observe.log_sinks import FileSink, Sink, SyslogSink

_PLAIN = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\')
_FLUSH_LINES = 1024
"""Lines that are handed on at once: each time the writer's thread takes the interpreter from the requests."""
_SECOND = 1_000_000_000  # ns
_NOBODY = EndpointSpec("", 0)
_LINE = b'%b - [%b.%09dZ] "%b %b HTTP/%b" %b %d %d %b %b %b%b" response_time:0.%06d gorouter_time:0.%06d %b%b'
_UNUSUAL_LINE = _LINE.replace(b"0.%06d", b"%b")
"""For times of a second and more, or negative ones of a clock that was set back."""
_NO_ERROR = b' x_cf_routererror:"-"\n'
_encode = msgspec.json.encode

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


_NONE, _ZERO = b'"-"', b"0.000000"


def _backend_time(exchange: Any) -> bytes:
    """From the request's going out to the response's head."""
    if not exchange.head_at:
        return _NONE
    ns = exchange.head_at - (exchange.begun or exchange.dispatched) - exchange.dialled
    return b"0.%06d" % (ns // 1000) if 0 <= ns < _SECOND else _seconds(ns)


def _step(name: str) -> Callable[[Any], bytes]:
    """How long one step of connecting took (`proxy.connections.Steps`)."""

    def time_of(exchange: Any) -> bytes:
        if not exchange.head_at:
            return _NONE
        return _seconds(getattr(exchange.steps, name)) if exchange.dialled else _ZERO

    return time_of


def _failed_attempts(exchange: Any) -> bytes:
    """Attempts but the one that gave the response."""
    return b"%d" % (exchange.attempt - 1 if exchange.head_at else exchange.attempt)


def _failed_attempts_time(exchange: Any) -> bytes:
    if exchange.begun:
        return _seconds(exchange.begun - exchange.dispatched)
    return _ZERO if exchange.head_at else _NONE


ATTEMPT_FIELDS: dict[str, Callable[[Any], bytes]] = {
    "backend_time": _backend_time,
    "dial_time": _step("connect"),
    "dns_time": _step("lookup"),
    "failed_attempts": _failed_attempts,
    "failed_attempts_time": _failed_attempts_time,
    "local_address": lambda exchange: b'"%b"' % (exchange.local_address.encode() or b"-"),
    "tls_time": _step("handshake"),
}
"""Fields about the attempts (contract §12.2). The steps of connecting are 0 on a connection that was there already."""
_STATUS = [b"%d" % status if status else _NONE for status in range(1000)]


class AccessLog:
    """Records on their way to one or more sinks. Raises OSError at construction when a file can't be opened."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._redact = settings.redact_query_params
        self._hide_source = settings.disable_log_source_ip
        self._hide_forwarded = settings.disable_log_forwarded_for
        names = dict.fromkeys(name.lower() for name in (*settings.extra_headers_to_log, *_traced(settings)))
        self._extra = tuple((name.encode(), name.replace("-", "_").encode()) for name in names)
        self._fields = tuple((name, ATTEMPT_FIELDS[name]) for name in settings.access_log_fields)
        self._makers = tuple(make for _, make in self._fields)
        self._pattern = b"".join(b" %b:%%b" % name.encode() for name, _ in self._fields)
        self.notes_local_address = "local_address" in settings.access_log_fields
        self._line = self._json if settings.access_log_json else self._text
        self._sinks = _sinks(settings)
        self._lines: list[bytes] = []
        self._second = -1
        self._stamp = b""
        self.written = 0
        """Records handed to the sinks."""

    @property
    def lost(self) -> int:
        """Records that a sink dropped."""
        return sum(sink.lost for sink in self._sinks)

    def record(self, exchange: Any, ended_ns: int) -> None:
        """Take one request that is over (a `proxy.request_state.RequestState`); `ended_ns`: unix nanoseconds."""
        lines = self._lines
        lines.append(self._line(exchange, ended_ns))
        if len(lines) >= _FLUSH_LINES:
            self.flush()

    def _text(self, exchange: Any, ended_ns: int) -> bytes:
        request = exchange.request
        meaning = exchange.meaning
        if meaning is None:
            noted = request.noted
            client, forwarded = self._constant(
                exchange, noted.get(b"x-forwarded-for") or b"-", noted.get(b"x-forwarded-proto") or b"-"
            )
        else:
            if meaning.log is None:
                meaning.log = self._constant(exchange, meaning.forwarded_for, meaning.forwarded_proto)
            client, forwarded = meaning.log
        endpoint = exchange.endpoint
        backend, instance = NO_ENDPOINT if endpoint is None else endpoint.log_fields(endpoint_fields)
        target = request.target
        if self._redact != "none":
            target = redacted(request.method, target, self._redact)
        if not request.clean and target.translate(None, _PLAIN):
            target = _escaped(target)
        received = exchange.received
        second, fraction = divmod(received, _SECOND)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        own = exchange.dispatched - received if exchange.dispatched else 0
        line, took, spent = _LINE, (ended_ns - received) // 1000, own // 1000
        if not (0 <= took < 1_000_000 and 0 <= spent < 1_000_000):
            line, took, spent = _UNUSUAL_LINE, _seconds(ended_ns - received), _seconds(own)
        return line % (
            request.raw_host,
            self._stamp,
            fraction,
            request.method,
            target,
            request.version,
            _STATUS[exchange.status],
            exchange.bytes_in,
            exchange.bytes_out,
            client,
            backend,
            forwarded,
            exchange.request_id,
            took,
            spent,
            instance,
            self._rest(exchange) if exchange.router_error or self._fields or self._extra else _NO_ERROR,
        )

    def _constant(self, exchange: Any, xff: bytes, proto: bytes) -> tuple[bytes, bytes]:
        """The fields that are the same for all requests with the same header lines over one connection."""
        noted = exchange.request.noted
        referer, agent, xff, proto = (
            quoted(value)[1:-1] for value in (noted.get(b"referer"), noted.get(b"user-agent"), xff, proto)
        )
        peer = b"-" if self._hide_source else exchange.frontend.peer
        return (
            b'"%b" "%b" "%b"' % (referer, agent, peer),
            b'x_forwarded_for:"%b" x_forwarded_proto:"%b" vcap_request_id:"'
            % (b"-" if self._hide_forwarded else xff, proto),
        )

    def _rest(self, exchange: Any) -> bytes:
        """What most lines have nothing of: details of the attempts, the router's error, further headers."""
        return b"%b x_cf_routererror:%b%b\n" % (
            self._attempt_fields(exchange) if self._fields else b"",
            quoted(exchange.router_error.encode("utf-8", "replace")),
            self._extra_headers(exchange) if self._extra else b"",
        )

    def _attempt_fields(self, exchange: Any) -> bytes:
        return self._pattern % tuple([make(exchange) for make in self._makers])

    def _extra_headers(self, exchange: Any) -> bytes:
        return b"".join([b" %b:%b" % (field, quoted(_sent(exchange, name))) for name, field in self._extra])

    def _json(self, exchange: Any, ended_ns: int) -> bytes:
        """The same facts as an object: absent ones are null, durations are seconds."""
        request = exchange.request
        noted = request.noted
        spec = exchange.endpoint.spec if exchange.endpoint is not None else _NOBODY
        second, fraction = divmod(exchange.received, _SECOND)
        taken = ended_ns - exchange.received
        meaning = exchange.meaning
        xff = meaning.forwarded_for if meaning is not None else noted.get(b"x-forwarded-for")
        proto = meaning.forwarded_proto if meaning is not None else noted.get(b"x-forwarded-proto")
        record = {
            "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:09d}Z",
            "host": _string(request.raw_host),
            "method": _string(request.method),
            "target": _string(redacted(request.method, request.target, self._redact)),
            "protocol": f"HTTP/{request.version.decode()}",
            "status": exchange.status or None,
            "request_bytes": exchange.bytes_in,
            "response_bytes": exchange.bytes_out,
            "referer": _string(noted.get(b"referer")),
            "user_agent": _string(noted.get(b"user-agent")),
            "remote": None if self._hide_source else _string(exchange.frontend.peer),
            "backend": spec.address if spec is not _NOBODY else None,
            "x_forwarded_for": None if self._hide_forwarded else _string(xff),
            "x_forwarded_proto": _string(proto),
            "vcap_request_id": _string(exchange.request_id),
            "response_time": taken / _SECOND,
            "gorouter_time": (exchange.dispatched - exchange.received) / _SECOND if exchange.dispatched else 0.0,
            "app_id": spec.app or None,
            "app_index": spec.instance_index or None,
            "instance_id": spec.instance_id or None,
            "x_cf_routererror": exchange.router_error or None,
        }
        for field, make in self._fields:
            text = make(exchange).decode("utf-8", "replace")
            record[field] = None if text == '"-"' else text.strip('"') if field == "local_address" else float(text)
        for name, header in self._extra:
            record[header.decode("ascii", "replace")] = _string(_sent(exchange, name))
        return _encode(record) + b"\n"

    def flush(self) -> None:
        """Hand on what has gathered."""
        if self._lines:
            lines, self._lines = self._lines, []
            self.written += len(lines)
            for sink in self._sinks:
                sink.put(lines)

    def reopen(self) -> None:
        """The file may have been moved away: go on with a new one."""
        self.flush()
        for sink in self._sinks:
            sink.reopen()

    def close(self) -> None:
        """Write what is left and close."""
        self.flush()
        for sink in self._sinks:
            sink.close()


def _traced(settings: WorkerSettings) -> tuple[str, ...]:
    zipkin = ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "b3") if settings.trace_zipkin else ()
    return zipkin + (("traceparent", "tracestate") if settings.trace_w3c else ())


def _sent(exchange: Any, name: bytes) -> bytes | None:
    """A request header as the backend gets it: as received, unless the router sets it."""
    trace = exchange.trace
    value: bytes | None = trace.sent.get(name) if trace is not None else None
    return value if value is not None else exchange.request.header(name)


def _sinks(settings: WorkerSettings) -> list[Sink]:
    limit = settings.access_log_buffer
    sinks: list[Sink] = [FileSink(settings.access_log_file, limit)] if settings.access_log_file else []
    if settings.access_log_stdout:
        sinks.append(FileSink("", limit))
    if settings.syslog is not None:
        sinks.append(SyslogSink(settings.syslog, limit, asyncio.get_running_loop()))
    return sinks


def wanted(settings: WorkerSettings) -> bool:
    """Anybody is to get records."""
    return bool(settings.access_log_file or settings.access_log_stdout or settings.syslog)


def _string(value: bytes | None) -> str | None:
    """Bytes of a header for JSON; what is not UTF-8 shows as `\\xNN`."""
    return value.decode("utf-8", "backslashreplace") if value else None


def _seconds(ns: int) -> bytes:
    """Six decimals; `"-"` for what a clock that was set back made negative."""
    return b'"-"' if ns < 0 else b"%d.%06d" % divmod(ns // 1000, 1_000_000)
