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
from router.observe.histogram import FAST
from router.observe.log_sinks import FileSink, Sink, SyslogSink

_PLAIN = bytes(c for c in range(0x20, 0x7F) if c not in b'"\\')
_FLUSH_LINES = 1024
"""Lines that are handed on at once: each time the writer's thread takes the interpreter from the requests."""
_SECOND = 1_000_000_000  # ns
_NOBODY = EndpointSpec("", 0)
_PADDED = _SECOND // 10
"""Nanoseconds of a second below which they have zeros before them."""
_NO_ERROR = b' x_cf_routererror:"-"\n'
_encode = msgspec.json.encode

NO_ENDPOINT = (b'"-" ', b'app_id:"-" app_index:"-" instance_id:"-"')
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


def _fields_of(endpoint: Any) -> tuple[bytes, bytes]:
    """The backend's address with a space behind it, and the three fields of the instance; the endpoint keeps them."""
    spec: EndpointSpec = endpoint.spec
    app, index, instance = (
        quoted(text.encode("utf-8", "replace")) for text in (spec.app, spec.instance_index, spec.instance_id)
    )
    fields = endpoint.log_fields = (
        quoted(spec.address.encode("utf-8", "replace")) + b" ",
        b"app_id:%b app_index:%b instance_id:%b" % (app, index, instance),
    )
    return fields


_NONE, _ZERO = b'"-"', b"0.000000"
_READY = FAST
"""Numbers below this have their text ready: a look-up takes a third of the time that formatting does.

Requests that took longer are unusual (`proxy.accounting`).
"""
_COUNTS = [b" %d" % number for number in range(_READY)]
_TIMES = [b"0.%06d" % us for us in range(_READY)]
_SPENT = [b" gorouter_time:%b " % text for text in _TIMES]
_TOOK_MS, _WAITED_MS = (
    [b"%b0.%03d" % (before, ms) for ms in range(_READY // 1000 + 1)] for before in (b'" response_time:', b"")
)
_US = [b"%03d" % us for us in range(1000)]
"""Times that are long enough to be all different are made of two texts: tables of all would drive all else from the
caches."""


def _backend_time(exchange: Any) -> bytes:
    """From the request's going out to the response's head."""
    if not exchange.head_at:
        return _NONE
    return _seconds(exchange.waited)


def _step(name: str) -> Callable[[Any], bytes]:
    """How long one step of connecting took (`proxy.connections.Steps`)."""

    def time_of(exchange: Any) -> bytes:
        if not exchange.head_at:
            return _NONE
        return _seconds(getattr(exchange.steps, name) // 1000) if exchange.dialled else _ZERO

    return time_of


def _failed_attempts(exchange: Any) -> bytes:
    """Attempts but the one that gave the response."""
    return b"%d" % (exchange.attempt - 1 if exchange.head_at else exchange.attempt)


def _failed_attempts_time(exchange: Any) -> bytes:
    if exchange.begun:
        return _seconds((exchange.begun - exchange.dispatched) // 1000)
    return _ZERO if exchange.head_at else _NONE


def _local_address(exchange: Any) -> bytes:
    return _quoted_address(exchange.local_address)


def _quoted_address(local: str) -> bytes:
    return b'"%b"' % (local.encode() or b"-")


ATTEMPT_FIELDS: dict[str, Callable[[Any], bytes]] = {
    "backend_time": _backend_time,
    "dial_time": _step("connect"),
    "dns_time": _step("lookup"),
    "failed_attempts": _failed_attempts,
    "failed_attempts_time": _failed_attempts_time,
    "local_address": _local_address,
    "tls_time": _step("handshake"),
}
"""Fields about the attempts (contract §12.2). The steps of connecting are 0 on a connection that was there already."""
_GAP = b"\0"
_MOST_ENDS = 4096
_AT_ONCE = {"failed_attempts": b"0"} | dict.fromkeys(
    ("dial_time", "dns_time", "failed_attempts_time", "tls_time"), _ZERO
)
"""What they are for a request that was answered at its first attempt, on a connection that was there already."""
_STATUS = {
    version: [b' HTTP/%b" %b 0' % (version, b"%d" % status if status else _NONE) for status in range(1000)]
    for version in (b"1.0", b"1.1", b"2.0")
}
"""From the protocol to the bytes of a request without a body."""


class AccessLog:
    """Records on their way to one or more sinks. Raises OSError at construction when a file can't be opened."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._redact = settings.redact_query_params
        self._redacts = self._redact != "none"
        self._hide_source = settings.disable_log_source_ip
        self._hide_forwarded = settings.disable_log_forwarded_for
        names = dict.fromkeys(name.lower() for name in (*settings.extra_headers_to_log, *_traced(settings)))
        self._extra = tuple((name.encode(), name.replace("-", "_").encode()) for name in names)
        self._fields = tuple((name, ATTEMPT_FIELDS[name]) for name in settings.access_log_fields)
        self._json = settings.access_log_json
        self._ends: dict[str, tuple[bytes, bytes]] = {}
        """Ends of plain lines by our end of the connection to the backend."""
        self._sinks = _sinks(settings)
        self._text: list[bytes] = []
        """Records that were not handed on yet, several in a piece."""
        self._gathered = 0
        """How many."""
        self._second = 0
        """The second of the last line, unix nanoseconds."""
        self._stamp = b""
        """How a line says it."""
        self.written = 0
        """Records handed to the sinks."""

    @property
    def lost(self) -> int:
        """Records that a sink dropped."""
        return sum(sink.lost for sink in self._sinks)

    def write(self, over: list[Any]) -> None:
        """Take requests that are over (`proxy.request_state.RequestState`), and settled."""
        self._text.append(b"".join(map(self._object, over) if self._json else self._parts(over)))
        self._gathered += len(over)
        if self._gathered >= _FLUSH_LINES:
            self.flush()

    def _parts(self, over: list[Any]) -> list[bytes]:
        """The contract's lines, in pieces that need only be joined."""
        parts: list[bytes] = []
        ends, second, stamp = self._ends, self._second, self._stamp
        odd = self._redacts or bool(self._extra)
        for exchange in over:
            fraction = exchange.received - second
            if not 0 <= fraction < _SECOND:
                fraction = self._other_second(exchange.received)
                second, stamp = self._second, self._stamp
            if exchange.unusual or odd:
                parts.append(self._line(exchange, fraction))
                continue
            request, bytes_out = exchange.request, exchange.bytes_out
            took, waited = exchange.took, exchange.waited
            status = _STATUS[request.version][exchange.status]
            if exchange.bytes_in:
                status = b"%b%d" % (status[:-1], exchange.bytes_in)
            client, forwarded = exchange.meaning.log or self._about(exchange)
            backend, instance = exchange.endpoint.log_fields or _fields_of(exchange.endpoint)
            before, after = ends.get(exchange.local_address) or self._plain_end(exchange.local_address)
            parts += (
                request.raw_host,
                stamp,
                b'%dZ] "' % fraction if fraction >= _PADDED else b'%09dZ] "' % fraction,
                request.line,
                status,
                _COUNTS[bytes_out] if bytes_out < _READY else b" %d" % bytes_out,
                client,
                backend,
                forwarded,
                exchange.request_id,
                _TOOK_MS[took // 1000],
                _US[took % 1000],
                _SPENT[exchange.spent],
                instance,
                before,
                _WAITED_MS[waited // 1000] if after else b"",
                _US[waited % 1000] if after else b"",
                after,
            )
        return parts

    def _line(self, exchange: Any, fraction: int) -> bytes:
        """Any request's line; it was received so many nanoseconds into the second."""
        request, meaning, endpoint = exchange.request, exchange.meaning, exchange.endpoint
        client, forwarded = (meaning is not None and meaning.log) or self._about(exchange)
        backend, instance = NO_ENDPOINT if endpoint is None else endpoint.log_fields or _fields_of(endpoint)
        return b'%b%b%09dZ] "%b%b%d %d%b%b%b%b" response_time:%b gorouter_time:%b %b%b' % (
            request.raw_host,
            self._stamp,
            fraction,
            self._shown(request),
            _STATUS[request.version][exchange.status][:-1],
            exchange.bytes_in,
            exchange.bytes_out,
            client,
            backend,
            forwarded,
            exchange.request_id,
            _seconds(exchange.took),
            _seconds(exchange.spent),
            instance,
            self._rest(exchange),
        )

    def _other_second(self, received: int) -> int:
        """The second has changed. Nanoseconds into the one of `received`."""
        second, fraction = divmod(received, _SECOND)
        self._second = second * _SECOND
        self._stamp = time.strftime(" - [%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
        return fraction

    def _about(self, exchange: Any) -> tuple[bytes, bytes]:
        """The fields that are the same for all requests with the same header lines over one connection."""
        noted, meaning = exchange.request.noted, exchange.meaning
        if meaning is not None:
            xff, proto = meaning.forwarded_for, meaning.forwarded_proto
        else:
            xff, proto = noted.get(b"x-forwarded-for") or b"-", noted.get(b"x-forwarded-proto") or b"-"
        referer, agent, xff, proto = (
            quoted(value)[1:-1] for value in (noted.get(b"referer"), noted.get(b"user-agent"), xff, proto)
        )
        peer = b"-" if self._hide_source else exchange.frontend.peer
        about = (
            b' "%b" "%b" "%b" ' % (referer, agent, peer),
            b'x_forwarded_for:"%b" x_forwarded_proto:"%b" vcap_request_id:"'
            % (b"-" if self._hide_forwarded else xff, proto),
        )
        if meaning is not None:
            meaning.log = about
        return about

    def _shown(self, request: Any) -> bytes:
        """Method and target as they are logged."""
        target = redacted(request.method, request.target, self._redact) if self._redacts else request.target
        if not request.clean and target.translate(None, _PLAIN):
            target = _escaped(target)
        return b"%b %b" % (request.method, target)

    def _plain_end(self, local: str) -> tuple[bytes, bytes]:
        """What follows the instance on the line of a request that was answered at once, without an error.

        `local`: our end of the connection. The second part follows the backend's time, where that is told.
        """
        known = {**_AT_ONCE, "local_address": _quoted_address(local), "backend_time": _GAP}
        text = b"".join([b" %b:%b" % (name.encode(), known[name]) for name, _ in self._fields]) + _NO_ERROR
        before, _, after = text.partition(_GAP)
        if len(self._ends) >= _MOST_ENDS:
            self._ends.clear()
        self._ends[local] = before, after
        return before, after

    def _rest(self, exchange: Any) -> bytes:
        """What follows the instance on any line: details of the attempts, the router's error, further headers."""
        return b"%b x_cf_routererror:%b%b\n" % (
            b"".join([b" %b:%b" % (name.encode(), make(exchange)) for name, make in self._fields]),
            quoted(exchange.router_error.encode("utf-8", "replace")),
            b"".join([b" %b:%b" % (field, quoted(_sent(exchange, name))) for name, field in self._extra]),
        )

    def _object(self, exchange: Any) -> bytes:
        """The same facts as an object: absent ones are null, durations are seconds."""
        request = exchange.request
        noted = request.noted
        spec = exchange.endpoint.spec if exchange.endpoint is not None else _NOBODY
        second, fraction = divmod(exchange.received, _SECOND)
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
            "response_time": exchange.took / 1e6,
            "gorouter_time": exchange.spent / 1e6,
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
        if self._gathered:
            text, count = self._text, self._gathered
            self._text, self._gathered = [], 0
            self.written += count
            for sink in self._sinks:
                sink.put(text, count)

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


def _seconds(us: int) -> bytes:
    """Six decimals; `"-"` for what a clock that was set back made negative."""
    if 0 <= us < _READY:
        return _TIMES[us]
    return _NONE if us < 0 else b"%d.%06d" % divmod(us, 1_000_000)
