"""Every setting of the router: its name, type, default and meaning.

A configuration key is one field here with its docstring. The JSON schema, the reference page, the sample
file, `router check` and the environment names all follow from it. Sections mirror the file; keys and defaults
are those of contract section 13.1 unless a docstring says otherwise. Durations are seconds here, whatever the
file wrote. Only control and the command line import this module: a worker gets its settings as a frozen
struct.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Annotated

from pydantic import Field, SecretStr

from router.config.error_template import template_problems
from router.config.kinds import (
    Address,
    CheckType,
    CipherSuites,
    ClientCertValidation,
    CookieNames,
    Count,
    DefaultStrategy,
    Duration,
    Flag,
    ForwardedClientCert,
    HashBalance,
    HashKey,
    HeaderNames,
    Host,
    InternalHosts,
    Kind,
    MaxTlsVersion,
    MinTlsVersion,
    Networks,
    OptionalDuration,
    OptionalPath,
    Path,
    Pem,
    Pems,
    Percent,
    Port,
    Positive,
    RemotePort,
    ResponseHeaderName,
    Secret,
    SecretPem,
    ShardingMode,
    SignalProfile,
    SignedDuration,
    TenantId,
    Text,
    Texts,
    UrlPath,
    Workers,
    ZonePreference,
)
from router.config.nats_rules import nats_problems
from router.config.observing import ATTEMPT_DETAILS, AccessLog, Logging, Otlp, Prometheus
from router.config.section import Section
from router.config.static import StaticRoutes
from router.config.tls_rules import tls_problems

MAX_REQUEST_HEAD = 1 << 20  # contract 8.3: also what 0 means
MAX_RESPONSE_HEAD = 10 << 20  # contract 8.3: what 0 means


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


class NatsHost(Section):
    """One NATS server."""

    hostname: Host
    """Host name or IP address."""
    port: RemotePort = 4222
    """TCP port."""


NatsHosts = Annotated[list[NatsHost], Kind("a list of servers, each with `hostname` and `port`")]


class Nats(Section):
    """The message bus the routes come from. `nats: null` runs the router without a bus."""

    # contract 2.8
    hosts: NatsHosts = Field(default=[NatsHost(hostname="localhost")], min_length=1)
    """Servers of the cluster, tried in random order."""
    user: Text = ""
    """User name; empty = none."""
    password: Secret = Field(default=SecretStr(""), alias="pass")
    """Password. Better kept in `ROUTER__NATS__PASS_FILE` than in the file."""
    token: Secret = SecretStr("")
    """Token, for servers that want one instead of a user and password."""
    nkey_seed: Secret = SecretStr("")
    """Seed of an nkey (`SU…`), for servers that want one. Needs the extra `nkeys`."""
    credentials: Path = ""
    """File with a JWT and the seed of its nkey (`.creds`). Needs the extra `nkeys`."""
    tls_enabled: Flag = False
    """Speak TLS 1.2 or 1.3 to the servers, and to no server that does not offer it."""
    ca_certs: Pem = ""
    """Authorities that certificates of the servers are checked against: PEM text, or the path of a file. Empty =
    those of the system."""
    cert_chain: Pem = ""
    """The router's own certificate, for servers that ask for one (mutual TLS): PEM text, or the path of a file."""
    private_key: SecretPem = SecretStr("")
    """Key of `nats.cert_chain`: PEM text, or the path of a file."""


class Certificate(Section):
    """One certificate of the HTTPS listener."""

    # contract 9.1
    cert_chain: Pem
    """The certificate and those that lead to its issuer, its own first: PEM text, or the path of a file."""
    private_key: SecretPem
    """Its key, without a password: PEM text, or the path of a file."""


class Subject(Section):
    """The subject of a certificate; all fields that it has must be given, and no others."""

    # contract 9.2
    common_name: Text = ""
    serial_number: Text = ""
    country: Texts = []
    organization: Texts = []
    organizational_unit: Texts = []
    locality: Texts = []
    province: Texts = []
    street_address: Texts = []
    postal_code: Texts = []


class ClientCertRule(Section):
    """Which client certificates of one issuer are welcome."""

    # contract 9.2
    issuer_in_chain: Subject
    valid_cert_subjects: list[Subject]


Certificates = Annotated[list[Certificate], Kind("a list of pairs, each with `cert_chain` and `private_key`")]
ClientCertRules = Annotated[
    list[ClientCertRule], Kind("a list of rules, each with `issuer_in_chain` and `valid_cert_subjects`")
]


class WarmStart(Section):
    """A router that starts takes the routing table from a running one or from its own last snapshot."""

    enabled: Flag = True
    """Ask a running router for its table at start, answer such questions, and keep a snapshot in `run_dir`. A table
    found so is served at once, without `start_response_delay_interval`."""
    snapshot_interval: Duration = 30.0
    """Time between two snapshots; one is also written at the end. 0 = none."""


class Fleet(Section):
    """Routers on one bus compare their tables and repair what a lost message left different."""

    enabled: Flag = True
    """Announce this router's table on `router.fleet.announce` and compare it with those of others."""
    interval: Duration = 2.0
    """Time between two announcements, at least 0.1s."""


class Ejection(Section):
    """When a backend is put out of use for what requests meet with there, and for how long."""

    enabled: Flag = True
    """Judge backends by their failures, 5xx answers and overdue answers. Off: a failed connection still marks its
    backend for a quarter of `droplet_stale_threshold`, as with the Go router."""
    consecutive_failures: Positive = 5
    """Failed requests and 5xx answers in a row, or so many of late, at which a backend is compared with its fellows."""
    failure_margin: Percent = 20
    """It is put out when the share of its requests that fail, in percent, is this much more than twice the share at
    the others. So nobody is put out when all fail alike."""
    owed_requests: Positive = 3
    """Requests that wait for their answer, or were given up by their clients, at which a backend is compared with its
    fellows; it is put out when it answers nothing and owes three times as much as they do."""
    owed_after: Duration = 0.5
    """How long a request waits before it counts as overdue; three times as long as the pool usually takes, if that is
    more."""
    shortest: Duration = 0.5
    """How long a backend is out for the first time; then one request tries it. It doubles with every failed trial."""
    longest: Duration = 2.5
    """The longest time between two trials."""
    max_share: Percent = 50
    """Most backends of a route, in percent, that judgement may put out. If active checks put out more, all are used."""


class HealthCheck(Section):
    """Active checks of the backends of some routes."""

    routes: Texts = []
    """Routes as they are registered, such as `app.example.com/path`; `*.example.com` means all hosts below. Empty =
    all."""
    type: CheckType = "tcp"
    """`tcp`: a connection is accepted; `http`: a GET is answered with 200 to 399."""
    path: UrlPath = "/"
    """What is asked for with `http`."""
    interval: Duration = Field(default=10.0, gt=0)
    """Time between two checks of a backend; each comes up to a tenth sooner or later."""
    timeout: Duration = Field(default=2.0, gt=0)
    """Longest time of a check."""
    unhealthy_after: Positive = 3
    """Failed checks in a row after which a backend is used no more."""
    healthy_after: Positive = 2
    """Good checks in a row after which it is used again."""


HealthChecks = Annotated[list[HealthCheck], Kind("a list of checks")]


class Backends(Section):
    """Limits that hold for each backend."""

    # contract 4.4, 7.2
    max_attempts: Count = 3
    """How many backends are tried for one request before the router gives up; 0 acts as 1. The Go router's own
    default is 0, its official job's 3."""
    max_conns: Count = 0
    """Requests in flight to one backend, counted over all workers, beyond which it takes no more; 0 = no
    limit."""
    idle_timeout: Duration = 55.0
    """How long an idle connection to a backend is kept; one that was seen to close its own sooner gets less."""
    replay_bytes: Count = 65536
    """Bytes of a request body that are kept, so that another backend can be tried; a longer one is not repeated."""
    max_queue: Count = 32
    """Requests of one route and worker that may wait while all its backends are at `max_conns`; others get 503 at
    once."""
    queue_timeout: Duration = 0.5
    """How long such a request waits before it gets 503."""
    retry_budget: Percent = 20
    """Repeated requests, in percent of all, that a worker allows itself, besides five a second; 0 = no limit."""
    hedge_after: Duration = 0.0
    """Ask a second backend as well when a GET, HEAD, OPTIONS or TRACE without body has waited this long for its
    response; the first answer counts. It is part of the retry budget. 0 = never."""
    slow_start: Duration = 0.0
    """Time in which a new or returned backend comes up to its full share of requests; 0 = at once."""
    ejection: Ejection = Ejection()
    health_checks: HealthChecks = []
    """Active checks, none unless asked for. For each route the first entry that names it holds."""
    cert_chain: Pem = ""
    """Certificate that is shown to backends which ask for one: PEM text, or the path of a file."""
    private_key: SecretPem = SecretStr("")
    """Key of `backends.cert_chain`: PEM text, or the path of a file."""


class RouteServices(Section):
    """Requests to the route services of routes."""

    # contract 10
    max_attempts: Count = 3
    """How often a route service is tried for one request; 0 acts as 1. The Go router's own default is 0, its official
    job's 3."""
    strict_signature_validation: Flag = False
    """Refuse requests with a bad or expired signature for routes without a route service too."""
    websockets: Flag = False
    """Take WebSocket upgrades through route services. Off: they get 503, as from the Go router."""
    cert_chain: Pem = ""
    """Certificate that is shown to route services which ask for one: PEM text, or the path of a file."""
    private_key: SecretPem = SecretStr("")
    """Key of `route_services.cert_chain`: PEM text, or the path of a file."""


class AddedHeader(Section):
    """A header for responses that have none of this name."""

    name: ResponseHeaderName
    """Name of the header."""
    value: Text
    """Its value."""


class RemovedHeader(Section):
    """A header that responses lose."""

    name: ResponseHeaderName
    """Name of the header."""
    value: Text = ""
    """Without effect: every header of the name is removed. The Go router reads it and does not use it either."""


AddedHeaders = Annotated[list[AddedHeader], Kind("a list of headers, each with `name` and `value`")]
RemovedHeaders = Annotated[list[RemovedHeader], Kind("a list of headers, each with `name`")]


class RewriteResponses(Section):
    """What happens to the headers of responses: first some are removed, then some are added."""

    # contract 5.5
    add_headers_if_not_present: AddedHeaders = []
    """Headers for responses that have none of the name, errors of the router's own included. Several entries of one
    name are all added."""
    remove_headers: RemovedHeaders = []
    """Headers that no response keeps."""


class HttpRewrite(Section):
    """Rules for headers."""

    responses: RewriteResponses = RewriteResponses()


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


class RouterConfig(Section):
    """The whole configuration file."""

    port: Port = 8081
    """TCP port for HTTP; 0 = any free one."""
    inet: Host = "0.0.0.0"
    """Listen address for HTTP. The Go router always listens on all addresses."""
    index: Count = 0
    """Number of this router among its fellows; part of its ids."""
    workers: Workers = "auto"
    """Worker processes: `auto` = one a CPU, 0 = serve inside the control process."""
    run_dir: OptionalPath = None
    """Directory for the control socket, the lock and state, in its sub-directory `PORT-INDEX`. Without it:
    `$RUNTIME_DIRECTORY`, else `$XDG_RUNTIME_DIR/router`, else `/run/router` for root and `/tmp/router-UID`
    for others."""
    pid_file: Path = ""
    """File with the process id of control; empty = none."""
    local_route: Address = None
    """IP address; the router announces the address of the interface that leads there. Without it: the one
    that leads to the public Internet. Nothing is sent."""

    status: Status = Status()
    nats: Nats | None = Nats()
    nats_client_ping_interval: Duration = 3.0
    """Time between pings to NATS; when two are unanswered at the third, the server is taken for dead and another one
    is tried: after 9 s at most. 0 = no pings. The Go router's own default is 20s."""
    warm_start: WarmStart = WarmStart()
    fleet: Fleet = Fleet()

    # contract 2.4-2.9
    start_response_delay_interval: Duration = 5.0
    """Time between the first `router.start` and opening the HTTP port, in which the table fills."""
    droplet_stale_threshold: Duration = 120.0
    """How long a route lives without being registered again; raised to `start_response_delay_interval` if
    below it."""
    prune_stale_droplets_interval: SignedDuration = 30.0
    """Time between two searches for stale routes; 0 or less = never."""
    suspend_pruning_if_nats_unavailable: Flag = False
    """Keep all routes while NATS cannot be reached."""
    publish_active_apps_interval: Duration = 0.0
    """Time between two messages `router.active_apps` with the ids of apps that had requests; 0 = never."""
    isolation_segments: Texts = []
    """Isolation segments this router serves."""
    routing_table_sharding_mode: ShardingMode = "all"
    """Which routes are kept: `all`; only those of `isolation_segments` (`segments`); or also those of no
    segment."""
    routes: StaticRoutes = []
    """Routes that are always there, besides those from the bus; they never go stale. See docs/static-routes.md."""

    # contract 4, 7, 8.1, 8.2
    balancing_algorithm: DefaultStrategy = "round-robin"
    """How a backend is chosen: `round-robin`, `least-connection` or another strategy of docs/strategies.md. A route may
    ask for a different one."""
    hash_key: HashKey = "client_address"
    """What `consistent-hash` and `rendezvous` hash: `client_address`, `path`, `header:NAME`, `cookie:NAME` or
    `query:NAME`. A route may say otherwise, see docs/strategies.md."""
    hash_balance: HashBalance = 1.25
    """With them, a backend with more than so many times the average of requests in flight is passed over; 0 = load is
    not looked at."""
    balancing_algorithm_az_preference: ZonePreference = "none"
    """`locally-optimistic`: the first attempt goes to a backend in this router's `zone`, if one there can take it."""
    zone: Text = ""
    """Availability zone of this router."""
    backends: Backends = Backends()
    sticky_session_cookie_names: CookieNames = ["JSESSIONID"]
    """Session cookies of apps. A response that sets one also gets `__VCAP_ID__`, and requests that bring both back go
    to the same instance."""
    sticky_sessions_for_auth_negotiate: Flag = False
    """Keep a client on one instance while it authenticates by `Negotiate`."""
    secure_cookies: Flag = False
    """Mark `__VCAP_ID__` as `Secure` even where the app's own cookie is not."""
    empty_pool_response_code_503: Flag = False
    """Answer 503 instead of 404 for a route whose last backend has just gone."""
    empty_pool_timeout: Duration = 0.0
    """How long such a route without backends is remembered."""
    endpoint_timeout: SignedDuration = 60.0
    """Longest time of one attempt, to the end of the response body; 0 or less = none; not for websockets."""
    endpoint_dial_timeout: Duration = 5.0
    """Longest time to connect to a backend; 0 = none."""
    endpoint_keep_alive_probe_interval: Duration = 1.0
    """Time between the system's TCP keep-alive probes on a silent connection to a backend; 0 = no probes."""
    disable_keep_alives: Flag = False
    """A new connection to the backend for every request. The Go router's own default is true."""
    keep_alive_100_continue_requests: Flag = False
    """Keep the connection to the backend also after a request with `Expect: 100-continue`."""
    max_idle_conns: Count = 100
    """The same as `max_idle_conns_per_host`, as in the Go router: the smaller of the two holds."""
    max_idle_conns_per_host: Count = 100
    """Idle connections kept for each backend. The Go router's own default is 2, its official job's 100."""

    # contract 8.1, 8.3
    frontend_idle_timeout: Duration = 900.0
    """How long a client connection may idle between requests; 0 = for ever."""
    read_header_timeout: Duration = 60.0
    """Longest time to receive a request head; 0 = none, which is the Go router's own default."""
    client_body_timeout: Duration = 60.0
    """Longest silence of a client in the middle of its request body; 0 = for ever, as the Go router."""
    client_send_timeout: Duration = 60.0
    """Longest time in which a client takes nothing of its response; 0 = for ever, as the Go router."""
    max_connections: Count = 0
    """Client connections at once, over all workers: beyond that the longest idle one is closed, and if none is
    idle the new one gets 503. 0 = no limit."""
    max_requests_per_connection: Count = 0
    """Requests after which a client connection is closed; 0 = no limit."""
    max_request_line_bytes: Count = 65536
    """Longest request target in bytes; a longer one gets 414."""
    upgrades: Texts = ["websocket"]
    """Protocols that a client may change to by `Upgrade`; the connection then carries them unread. h2c is never one.
    """
    max_request_header_bytes: Count = 0
    """Largest request head in bytes; 0 = 1048576, which is also the most."""
    max_request_headers: Count = 0
    """Most header lines in a request; 0 = no limit."""
    max_response_header_bytes: Count = 0
    """Largest response head in bytes; 0 = 10485760."""
    max_response_headers: Count = 0
    """Most header lines in a response; 0 = no limit."""

    # contract 8.8, 9
    enable_ssl: Flag = False
    """Serve HTTPS on `ssl_port`."""
    ssl_port: Port = 443
    """TCP port for HTTPS; 0 = any free one."""
    disable_http: Flag = False
    """Serve HTTPS only, nothing on `port`."""
    tls_pem: Certificates = []
    """Certificates of the HTTPS listener, chosen by the name that the client asks for (SNI): an exact name, then a
    wildcard, else the first certificate. Files are read again when they change; connections stay."""
    min_tls_version: MinTlsVersion = "TLSv1.2"
    """Oldest TLS version that clients may speak."""
    max_tls_version: MaxTlsVersion = "TLSv1.3"
    """Newest TLS version. The Go router's own default is `TLSv1.2`."""
    cipher_suites: CipherSuites = ""
    """Cipher suites for TLS up to 1.2, separated by `:`, as OpenSSL or the RFCs name them; empty = OpenSSL's choice of
    those with forward secrecy. The Go router insists on a list."""
    enable_http2: Flag = True
    """Speak HTTP/2 over TLS with clients that offer it (ALPN), and with backends that register `protocol: http2`."""
    tls_handshake_timeout: Duration = 10.0
    """Longest time of a TLS handshake, with a client or a backend."""
    client_cert_validation: ClientCertValidation = "none"
    """Client certificates: `none` are asked for; `request`: one that is given must be good; `require`: no other
    client gets in."""
    client_ca_certs: Pem = ""
    """Authorities that client certificates are checked against, besides the system's: PEM text, or a path."""
    only_trust_client_ca_certs: Flag = False
    """Trust no others than `client_ca_certs`, not those of the system either."""
    enable_verify_client_certificate_metadata: Flag = False
    """Apply `verify_client_certificate_metadata`."""
    verify_client_certificate_metadata: ClientCertRules = []
    """For certificates of these issuers, only the subjects listed are let in."""
    forwarded_client_cert: ForwardedClientCert = "always_forward"
    """`X-Forwarded-Client-Cert` as the client sent it: `always_forward` passes it on, `forward` only from clients
    with a certificate of their own, `sanitize_set` replaces it by that certificate."""
    ca_certs: Pems = []
    """Authorities that certificates of backends are checked against, besides the system's."""
    skip_ssl_validation: Flag = False
    """Do not check the certificates of route services. Those of backends are always checked."""
    enable_proxy: Flag = False
    """Accept a PROXY protocol header (version 1 or 2) before HTTP and TLS; the address in it is the client's."""
    proxy_trusted_sources: Networks = []
    """Who may send a PROXY header; from others it is a bad request. Empty = everybody, as with the Go router."""

    # contract 10
    route_services_secret: Secret = SecretStr("")
    """Secret that signs requests on their way to a route service and lets them come back. Without it a route that has
    a route service is answered with 502: nothing goes around it. Every router needs the same one."""
    route_services_secret_decrypt_only: Secret = SecretStr("")
    """The secret of before: requests signed with it may still come back."""
    route_services_timeout: Duration = Field(default=60.0, gt=0)
    """How long a request may be away at a route service; after that its signature does not count any more."""
    route_services_recommend_https: Flag = False
    """Tell route services to send requests back to an `https` URL, not an `http` one."""
    route_services_hairpinning: Flag = False
    """Serve a route service that is a route of this router within the worker, without going through the network."""
    route_services_hairpinning_allowlist: InternalHosts = []
    """Hosts of route services for which that is done, `*.example.com` for all hosts one level below; empty = all."""
    route_services: RouteServices = RouteServices()

    # contract 5.3, 5.5, 11.1
    hop_by_hop_headers_to_filter: HeaderNames = []
    """Request headers that a client cannot have removed by naming them in `Connection`. Those that the router reads or
    sets never can be, whether they are listed here or not."""
    force_forwarded_proto_https: Flag = False
    """Always send `X-Forwarded-Proto: https` to backends."""
    sanitize_forwarded_proto: Flag = False
    """Replace the client's `X-Forwarded-Proto` by the truth."""
    tracing: Tracing = Tracing()
    trace_key: Text = ""
    """A request whose `X-Vcap-Trace` equals this gets the router's and the backend's address back; empty =
    off."""
    http_rewrite: HttpRewrite = HttpRewrite()
    html_error_template_file: Path = ""
    """HTML page for the router's own errors, with `{{.Status}}`, `{{.StatusText}}`, `{{.Message}}`,
    `{{.Header.Get "Name"}}` and `{{if}}`; empty = plain text. Clients that ask for JSON in `Accept` get that."""
    debug_404: Flag = False
    """Tell the client in a 404 what was looked up and what came close. Not for routers strangers can reach.
    """
    healthcheck_user_agent: Text = "HTTP-Monitor/1.1"
    """A request with exactly this `User-Agent` is answered like `/health`; empty = off."""
    drain_wait: Duration = 0.0
    """How long a router that drains fails its health checks and serves on, so that balancers in front take it out."""
    drain_timeout: OptionalDuration = None
    """How long requests, downloads and websockets may go on after that, also those of a worker that is replaced.
    Without it: `endpoint_timeout`."""
    signals: SignalProfile = ""
    """What SIGUSR1 means: `gorouter`: drain; `nginx`: reopen logs. Without it: `gorouter` for a configuration in the
    Go router's dialect, else `nginx`. QUIT drains, HUP reloads, USR2 upgrades, TERM and INT stop in both."""
    load_balancer_healthy_threshold: Duration = 0.0
    """Read by deployment scripts only: how long the load balancer in front takes to see a healthy router."""

    # contract 12
    access_log: AccessLog = AccessLog()
    extra_headers_to_log: HeaderNames = []
    """Request headers appended to each access log line."""
    logging: Logging = Logging()

    # contract 11.5
    prometheus: Prometheus = Prometheus()
    per_request_metrics_reporting: Flag = True
    """Keep the histograms `route_lookup_time`, `gorouter_time` and `latency`."""
    per_app_prometheus_http_metrics_reporting: Flag = False
    """Keep the histogram `http_latency_seconds` for each value of the tag `source_id`."""
    publish_load_interval: Duration = 0.0
    """Time between two messages `router.load`, with rate, requests in flight and latency of every app that has
    traffic; 0 = never."""

    @property
    def effective_access_log_fields(self) -> tuple[str, ...]:
        """Fields about attempts in the access log, in order."""
        older = ATTEMPT_DETAILS if self.logging.enable_attempts_details else ()
        return tuple(dict.fromkeys((*older, *self.logging.extra_access_log_fields)))

    @property
    def effective_w3c(self) -> bool:
        """Where spans are exported, backends get to know them: by W3C unless B3 alone is asked for."""
        tracing = self.tracing
        return tracing.enable_w3c or (bool(tracing.otlp.endpoint) and not tracing.enable_zipkin)

    @property
    def effective_workers(self) -> int:
        """Number of worker processes, `auto` resolved to the CPUs at hand; 0 = serve in control."""
        return len(os.sched_getaffinity(0)) if self.workers == "auto" else self.workers

    @property
    def effective_drain_timeout(self) -> float:
        """Seconds that what goes on has at the end; a router without `endpoint_timeout` waits an hour at the most."""
        return self.endpoint_timeout or 3600.0 if self.drain_timeout is None else self.drain_timeout

    @property
    def effective_max_attempts(self) -> int:
        """Attempts for one request, at least 1."""
        return max(self.backends.max_attempts, 1)

    @property
    def effective_max_request_header_bytes(self) -> int:
        """Largest request head in bytes: 1 to 1 MiB."""
        return min(self.max_request_header_bytes or MAX_REQUEST_HEAD, MAX_REQUEST_HEAD)

    @property
    def effective_max_response_header_bytes(self) -> int:
        """Largest response head in bytes."""
        return self.max_response_header_bytes or MAX_RESPONSE_HEAD

    @property
    def effective_run_dir(self) -> FilePath:
        """This router's own directory; it need not exist yet."""
        return FilePath(self.run_dir or default_run_dir(os.environ)) / f"{self.port}-{self.index}"


def default_run_dir(environ: Mapping[str, str]) -> str:
    """Where routers keep their control sockets when `run_dir` says nothing."""
    if directories := environ.get("RUNTIME_DIRECTORY"):  # set by systemd, which may name several
        return directories.split(":")[0]
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return f"{directory}/router"
    return "/run/router" if os.getuid() == 0 else f"/tmp/router-{os.getuid()}"


def contradictions(config: RouterConfig) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Settings that do not go together: the keys (first the one to mend), what is wrong, the remedy."""
    if config.routing_table_sharding_mode == "segments" and not config.isolation_segments:
        yield (
            ("routing_table_sharding_mode", "isolation_segments"),
            "`segments` with no `isolation_segments` would keep no route at all",
            "name the segments in `isolation_segments`, or use `all`",
        )
    if config.disable_http and not config.enable_ssl:
        yield (
            ("disable_http", "enable_ssl"),
            "without HTTP and without HTTPS there is nothing to listen on",
            "set `enable_ssl: true`, or leave `disable_http` false",
        )
    if config.client_cert_validation != "none" and config.only_trust_client_ca_certs and not config.client_ca_certs:
        yield (
            ("only_trust_client_ca_certs", "client_ca_certs"),
            "no client certificate could be good: there is no authority to trust",
            "name one in `client_ca_certs`, or set `only_trust_client_ca_certs: false`",
        )
    names = [route.name for route in config.routes if route.name]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield ("routes",), f"several routes have the name {twice[0]}", "give each route a name of its own, or none"
    yield from tls_problems(config)
    if config.nats is not None:
        yield from nats_problems(config.nats)
    yield from template_problems(config)
    prometheus = config.prometheus
    if bool(prometheus.cert_path) != bool(prometheus.key_path):
        missing, given = ("key_path", "cert_path") if prometheus.cert_path else ("cert_path", "key_path")
        yield (
            (f"prometheus.{missing}", f"prometheus.{given}"),
            f"`{given}` alone is no certificate that could be shown",
            "give both `prometheus.cert_path` and `prometheus.key_path`, or neither",
        )
    if config.fleet.enabled and config.fleet.interval < 0.1:
        yield (
            ("fleet.interval",),
            "more than ten announcements a second would only cost CPU",
            "give at least 0.1s, or set `fleet.enabled: false`",
        )
    if not config.status.enable_nontls_health_checks and not config.status.tls.certificate:
        yield (
            ("status.enable_nontls_health_checks", "status.tls.certificate"),
            "false would leave no health endpoint",
            "leave it true, or give `status.tls` a certificate",
        )
