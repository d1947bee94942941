"""What operators see: sections `status`, `access_log`, `logging`, `tracing` and `prometheus`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from router.config.kinds import (
    AccessLogFields,
    AccessLogFormat,
    Bounds,
    CollectorUrl,
    Count,
    Duration,
    Flag,
    HeaderName,
    Host,
    Kind,
    LogLevel,
    Path,
    Pem,
    Port,
    Positive,
    Redaction,
    RemoteAddress,
    Secret,
    SecretPem,
    Share,
    SyslogNetwork,
    TenantId,
    Text,
    TimestampFormat,
)
from router.config.section import Section

ATTEMPT_DETAILS = (
    "failed_attempts",
    "failed_attempts_time",
    "dns_time",
    "dial_time",
    "tls_time",
    "backend_time",
)
"""What `logging.enable_attempts_details` stands for (contract 12.2)."""


class StatusRoutes(Section):
    """The listener of the route table, on 127.0.0.1 only."""

    port: Port = 8082
    """TCP port of `/routes` on 127.0.0.1; 0 = any free one."""


class StatusTls(Section):
    """The status port over TLS, if there is a certificate."""

    port: Port = 8443
    """TCP port for HTTPS, with all that `status.port` has; 0 = any free one."""
    certificate: Pem = ""
    """Its certificate and those that lead to its issuer: PEM text, or the path of a file, which is read again when it
    changes. Empty = none, and nobody listens."""
    key: SecretPem = SecretStr("")
    """Key of `status.tls.certificate`: PEM text, or the path of a file."""


class Status(Section):
    """Health, `/varz` and the route table for operators."""

    # contract 11.1
    host: Host = "0.0.0.0"
    """Listen address of `status.port` if `enable_deprecated_varz_healthz_endpoints` is on; else it is all."""
    port: Port = 8080
    """TCP port of `/health`; 0 = any free one."""
    user: Text = ""
    """User name for `/routes` and `/varz` (HTTP Basic)."""
    password: Secret = Field(default=SecretStr(""), alias="pass")
    """Password for `/routes` and `/varz`. Better kept in `ROUTER__STATUS__PASS_FILE` than in the file."""
    enable_nontls_health_checks: Flag = True
    """Serve `status.port`, plain HTTP. May be off when `status.tls` has a certificate."""
    enable_deprecated_varz_healthz_endpoints: Flag = False
    """Serve `/healthz`, `/varz` and `/routes` on the status port too."""
    routes: StatusRoutes = StatusRoutes()
    tls: StatusTls = StatusTls()
    expose_all_apps: Flag = False
    """List every app that had a request in the last minute in `/varz` (`top_app_requests`), as the router of 2013 did
    by default."""


class AccessLog(Section):
    """One record a request, to any of a file, standard output and syslog."""

    # contract 12.1, 12.2
    file: Path = ""
    """File that lines are appended to (made with mode 0644), or a named pipe; empty = none. It may be moved away at
    any time: within a second, or at once on SIGUSR1, lines go to a new one."""
    stdout: Flag = False
    """Write lines to standard output."""
    format: AccessLogFormat = "line"
    """`line`, as the Go router writes it, or `json`: an object a line."""
    buffer_bytes: Count = 8388608
    """Bytes of lines that each worker keeps while their writer is stuck; what comes then is dropped and counted."""
    enable_streaming: Flag = False
    """Send records to syslog at `logging.syslog_addr`."""


class LogFormat(Section):
    """How the router's own log looks."""

    timestamp: TimestampFormat = "rfc3339"
    """`rfc3339` (UTC) or `unix-epoch` (seconds with a fraction). The Go router's own default is `unix-epoch`.
    """


class Logging(Section):
    """The router's own log on standard output, and what the access log says and leaves out."""

    # contract 12.2, 12.3, 12.4
    level: LogLevel = "debug"
    """The lowest level that is logged: `debug`, `info`, `warn`, `error` or `fatal`."""
    format: LogFormat = LogFormat()
    redact_query_params: Redaction = "none"
    """What the access log does to the query of a GET: keep it, drop it (`all`), or write its SHA-1 (`hash`).
    """
    disable_log_forwarded_for: Flag = False
    """Write `-` for `x_forwarded_for` in the access log."""
    disable_log_source_ip: Flag = False
    """Write `-` for the client's address in the access log."""
    extra_access_log_fields: AccessLogFields = []
    """Fields about the attempts of a request, in this order: `backend_time`, `dial_time`, `dns_time`,
    `failed_attempts`, `failed_attempts_time`, `local_address`, `tls_time`; unknown names are left out."""
    enable_attempts_details: Flag = False
    """The older way to ask for `failed_attempts`, `failed_attempts_time`, `dns_time`, `dial_time`, `tls_time` and
    `backend_time`."""
    syslog: Text = ""
    """Name of the program in syslog records, and of the source in the router's own log."""
    syslog_addr: RemoteAddress = "localhost:514"
    """`host:port` of the syslog receiver."""
    syslog_network: SyslogNetwork = "udp"
    """`udp` or `tcp`."""
    syslog_truncate: Count = 0
    """Bytes to which a line is cut for syslog; 0 = not at all."""


class OtlpHeader(Section):
    """A header for the collector."""

    name: HeaderName
    """Name of the header."""
    value: Secret
    """Its value."""


OtlpHeaders = Annotated[list[OtlpHeader], Kind("a list of headers, each with `name` and `value`")]


class Otlp(Section):
    """Export of spans to an OpenTelemetry collector over OTLP (HTTP, protobuf); needs `pip install 'router[otel]'`.

    Without `enable_zipkin` it brings `enable_w3c` with it, so that backends know of the router's spans.
    """

    endpoint: CollectorUrl = ""
    """URL of the collector, `http://localhost:4318` say; `/v1/traces` is added where it has no path; empty = off."""
    sample_percent: Share = 100
    """Share of requests of which spans are exported, where the client's `traceparent` or B3 headers don't say whether;
    by the trace id, so that all routers take the same."""
    service_name: Text = "router"
    """`service.name` of the spans."""
    headers: OtlpHeaders = []
    """Headers for the collector, a token say."""
    ca_file: Path = ""
    """Authorities for the collector's certificate (PEM); empty = the well-known ones."""
    timeout: Duration = 10
    """Longest time for one batch, repetitions included; then it is lost. 0 = 10s."""
    queue_size: Positive = 8192
    """Requests that may wait for the collector; what comes then is lost, and counted."""


class Tracing(Section):
    """Trace context for backends: continued if the client sends one, else begun."""

    # contract 5.4
    enable_zipkin: Flag = False
    """`X-B3-TraceId`, `X-B3-SpanId` and `b3`."""
    enable_w3c: Flag = False
    """`traceparent` and `tracestate`."""
    w3c_tenant_id: TenantId = ""
    """The router's key in `tracestate` is `gorouter`, with a tenant `TENANT@gorouter`."""
    otlp: Otlp = Otlp()


class Meters(Section):
    """Upper bounds of the buckets of histograms; empty = those of the Go router."""

    # contract 11.5
    route_lookup_time_histogram_buckets: Bounds = []
    """Nanoseconds; told apart in steps of 10000 up to 100000."""
    gorouter_time_histogram_buckets: Bounds = []
    """Seconds."""
    route_registration_latency_histogram_buckets: Bounds = []
    """Milliseconds."""
    routing_response_latency_histogram_buckets: Bounds = []
    """Milliseconds, for `latency`."""
    http_latency_histogram_buckets: Bounds = []
    """Seconds, for `http_latency_seconds`."""


class Prometheus(Section):
    """`/metrics`. It is also on the status port, for the status user."""

    # contract 11.1, 11.5
    enabled: Flag = False
    """Serve `/metrics` on 127.0.0.1 at `prometheus.port` without a password."""
    port: Port = 0
    """TCP port of it; 0 = any free one."""
    cert_path: Path = ""
    """Certificate chain of it (PEM); empty = plain HTTP."""
    key_path: Path = ""
    """Key of `cert_path`."""
    ca_path: Path = ""
    """Authority that certificates of clients must come from."""
    meters: Meters = Meters()
    max_apps: Count = 1000
    """Apps that have series of their own; later ones are together in the app `other`."""
    max_endpoints: Count = 2000
    """Endpoints that have series of their own."""
