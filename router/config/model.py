"""Every setting of the router: its name, type, default and meaning.

A configuration key is one field with its docstring, here or in the file of its section: `observing` (what operators
see), `bus`, `backends`, `clients`, `static`. The JSON schema, the reference page, the sample file, `router check` and
the environment names all follow from it. Sections mirror the file; keys and defaults are those of contract section 13.1
unless a docstring says otherwise. Durations are seconds here, whatever the file wrote. What does not go together is in
`contradictions`. Only control and the command line import this: a worker gets its settings as a frozen struct.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath

from pydantic import Field, SecretStr

from router.config.backends import Backends, RouteServices
from router.config.bus import Fleet, Nats, WarmStart
from router.config.clients import Certificates, ClientCertRules, HttpRewrite
from router.config.kinds import (
    Address,
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
    MaxTlsVersion,
    MinTlsVersion,
    Networks,
    OptionalDuration,
    OptionalPath,
    Path,
    Pem,
    Pems,
    Port,
    Secret,
    ShardingMode,
    SignalProfile,
    SignedDuration,
    Text,
    Texts,
    Workers,
    ZonePreference,
)
from router.config.observing import ATTEMPT_DETAILS, AccessLog, Logging, Prometheus, Status, Tracing
from router.config.section import Section
from router.config.static import StaticRoutes

MAX_REQUEST_HEAD = 1 << 20  # contract 8.3: also what 0 means
MAX_RESPONSE_HEAD = 10 << 20  # contract 8.3: what 0 means


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
