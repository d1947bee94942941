"""Every message that crosses a process border, as msgspec types: the bus, and the feed between control and workers.

Rules of this file: data only, no behaviour beyond encoding; imported by both control and workers, so it imports
nothing but msgspec. On the feed a frame is a 4-byte big-endian length and that many bytes of MessagePack; frames are
arrays (field names never travel), told apart by a one-letter tag. Field order is therefore the wire order: control
and workers of one version speak it, `FEED_VERSION` guards against mixing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

FEED_VERSION = 5
FRAME_HEADER = 4  # bytes
MAX_FRAME = 64 * 1024 * 1024  # bytes; a longer length prefix means a broken peer


# ---------------------------------------------------------------- the bus (contract §2)


class RegistryMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """`router.register` / `router.unregister` (contract §2.3), in the sender's words: `null` is allowed everywhere.

    Unknown keys are refused here so that the one-pass decoder is exact; the bus decodes again leniently (unknown keys
    dropped, key names without case) when this fails.
    """

    host: str | None = None
    port: int | None = None
    tls_port: int | None = None
    protocol: str | None = None
    uris: list[str] | None = None
    app: str | None = None
    private_instance_id: str | None = None
    private_instance_index: str | None = None
    tags: dict[str, str] | None = None
    route_service_url: str | None = None
    server_cert_domain_san: str | None = None
    stale_threshold_in_seconds: int | None = None
    isolation_segment: str | None = None
    availability_zone: str | None = None
    endpoint_updated_at_ns: int | None = None
    options: dict[str, Any] | None = None


class StartMessage(msgspec.Struct):
    """`router.start` and the reply to `router.greet` (contract §2.2). Intervals are whole seconds."""

    id: str
    hosts: list[str]
    minimumRegisterIntervalInSeconds: int
    pruneThresholdInSeconds: int


# ---------------------------------------------------------------- the table, as both sides know it


class RouteOptions(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What registrations ask for their route as a whole (`options`, contract §4.5, §4.8). An empty field asks nothing.

    `load_balancing` is empty also when what was asked for can't be had; then `problem` says why, and `asked` still is
    the sender's word. `hash_key` is what hashing strategies hash: `header:NAME` (lower case), `cookie:NAME`,
    `query:NAME`, `client_address` or `path`. `hash_balance` is how many times the average an endpoint may have in
    flight and still be picked by its hash, 0 = any number. `endpoint_timeout` is in seconds, `max_conns` in requests.
    """

    load_balancing: str = ""
    hash_key: str = ""
    hash_balance: float = 0.0
    endpoint_timeout: float = 0.0
    max_conns: int = 0
    asked: str = ""
    problem: str = ""

    def over(self, others: RouteOptions) -> RouteOptions:
        """These options, and of `others` what these say nothing about: what a pool has after a registration."""
        balancing = self if self.load_balancing else others
        return RouteOptions(
            balancing.load_balancing,
            balancing.hash_key,
            balancing.hash_balance,
            self.endpoint_timeout or others.endpoint_timeout,
            self.max_conns or others.max_conns,
        )


NO_OPTIONS = RouteOptions()


class EndpointSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One endpoint as registered. Equal specs are one endpoint: they share its id, connections and counts.

    `stale_after` is the endpoint's time to live in whole seconds, already clamped (contract §2.3).
    `tags` is None when the sender gave none (contract §11.2 shows the difference).
    """

    host: str
    port: int
    tls: bool = False
    protocol: str = "http1"
    app: str = ""
    instance_id: str = ""
    instance_index: str = ""
    tags: tuple[tuple[str, str], ...] | None = None
    server_cert_domain_san: str = ""
    isolation_segment: str = ""
    availability_zone: str = ""
    route_service_url: str = ""
    options: RouteOptions | None = None
    """None when the registration had none."""
    weight: int = 1
    """Share of the traffic, next to the weights of the pool's other endpoints."""
    stale_after: int = 120
    source: str = ""
    """Who says so: "" the bus, `file` the configuration, `api` the API; those two never go stale."""

    @property
    def address(self) -> str:
        """`host:port`, the identity of an endpoint within a pool (contract §2.4)."""
        return f"{self.host}:{self.port}"


_encode = msgspec.msgpack.Encoder().encode


pack: Callable[[EndpointSpec], bytes] = _encode
"""The spec as it is kept and passed on: equal specs give equal bytes."""

unpack = msgspec.msgpack.Decoder(EndpointSpec).decode
"""The spec that was packed."""


class PutEndpoint(msgspec.Struct, array_like=True, tag="e", gc=False):
    """Introduces endpoint `id`; `slot` is its place in the shared in-flight block (one slot per address).

    Its spec stays packed, for most of a large table is not asked for anything for a long time: bytes are quick to pass
    on and small to keep. The other fields are what is wanted of each at once; `via_service`: it has a route service.
    """

    id: int
    slot: int
    packed: bytes
    app: str = ""
    weight: int = 1
    max_conns: int = 0
    via_service: bool = False

    @classmethod
    def of(cls, id: int, slot: int, spec: EndpointSpec, packed: bytes = b"") -> PutEndpoint:
        """`packed` is the spec packed, if the caller has that already."""
        max_conns = 0 if spec.options is None else spec.options.max_conns
        return cls(id, slot, packed or _encode(spec), spec.app, spec.weight, max_conns, spec.route_service_url != "")


class DropEndpoint(msgspec.Struct, array_like=True, tag="x", gc=False):
    """No route names endpoint `id` any more."""

    id: int


class PutPool(msgspec.Struct, array_like=True, tag="p", gc=False):
    """Makes the pool of route `key`, or changes its settings. `context_path` keeps its first spelling.

    `options` is None for a pool whose registrations ask for nothing.
    """

    key: str
    context_path: str
    algorithm: str
    options: RouteOptions | None = None


class DropPool(msgspec.Struct, array_like=True, tag="q", gc=False):
    """The route is gone, with whatever endpoints it still had."""

    key: str


class PutRoute(msgspec.Struct, array_like=True, tag="r", gc=False):
    """Endpoint `id` serves route `key`: appended, or in the place of endpoint `replaces` when that is not 0."""

    key: str
    id: int
    replaces: int = 0


class NewRoute(msgspec.Struct, array_like=True, tag="n", gc=False):
    """A route that was not there, with endpoints that were not there, in order.

    It says what `PutPool` and, for each endpoint, `PutEndpoint` and `PutRoute` would say.
    """

    pool: PutPool
    endpoints: list[PutEndpoint]


class DropRoute(msgspec.Struct, array_like=True, tag="d", gc=False):
    """Endpoint `id` no longer serves route `key`; the pool stays, perhaps empty."""

    key: str
    id: int


class SetHealth(msgspec.Struct, array_like=True, tag="y", gc=False):
    """Active checks find endpoint `id` unfit for route `key`, for this reason; "" = well again."""

    key: str
    id: int
    reason: str


TableOp = PutEndpoint | DropEndpoint | PutPool | DropPool | PutRoute | NewRoute | DropRoute | SetHealth


# ---------------------------------------------------------------- settings of a worker


class Certificate(msgspec.Struct, frozen=True):
    """A certificate chain and its key, both PEM. `names` are lower-case host names, `*.` for wildcards."""

    chain: str
    key: str
    names: tuple[str, ...] = ()


SubjectKey = tuple[tuple[str, str], ...]
"""A certificate's subject: pairs of X.520 attribute name and value, sorted."""


class FrontTls(msgspec.Struct, frozen=True):
    """The HTTPS listener (contract §9.1, §9.2). Versions are `TLSv1.x`, ciphers OpenSSL's names, "" = its default."""

    certificates: tuple[Certificate, ...]
    min_version: str = "TLSv1.2"
    max_version: str = "TLSv1.3"
    ciphers: str = ""
    client_certificates: str = "none"
    """`none`, `request` or `require`."""
    client_authorities: str = ""
    """PEM of authorities for client certificates, besides the system's."""
    system_authorities: bool = True
    client_rules: tuple[tuple[SubjectKey, tuple[SubjectKey, ...]], ...] = ()
    """Issuer → subjects that are let in."""
    ticket_secret: bytes = b""
    """From which all workers derive the keys of their session tickets; empty = each has keys of its own."""


class BackendTls(msgspec.Struct, frozen=True):
    """TLS towards backends (contract §9.4)."""

    authorities: str = ""
    """PEM of authorities besides the system's."""
    certificate: Certificate | None = None
    """Shown to backends that ask for one."""
    ciphers: str = ""
    min_version: str = "TLSv1.2"
    max_version: str = ""
    """Empty = the newest there is."""
    verify: bool = True
    """Look at the peer's certificate at all: off for route services only, where the configuration says so."""


class RouteServices(msgspec.Struct, frozen=True):
    """What a worker has to know to take requests through route services (contract §10). Times are seconds."""

    key: bytes
    """Seals signatures and opens them (`http.signature`)."""
    previous_key: bytes = b""
    """Opens those of before the last change of the secret; empty = there is none."""
    timeout: float = 60.0
    """Age at which a signature does not count any more."""
    recommend_https: bool = False
    max_attempts: int = 1
    strict: bool = False
    """A signature must be good on routes without a route service too."""
    websockets: bool = False
    internal: bool = False
    """A route service that is a route of this router is served in the worker itself (hairpinning)."""
    internal_hosts: tuple[str, ...] = ()
    """Hosts for which that goes, `*.` for one label; none = all."""
    tls: BackendTls = BackendTls()


class Syslog(msgspec.Struct, frozen=True):
    """Where access log records are streamed to (contract §12.3)."""

    host: str
    port: int
    tcp: bool = False
    tag: str = ""
    truncate: int = 0
    """Bytes to which a line is cut; 0 = not at all."""


class Ejection(msgspec.Struct, frozen=True):
    """When an endpoint is put out of use for what requests meet with there. Times are seconds, shares 0 to 1."""

    enabled: bool = True
    consecutive_failures: int = 5
    failure_margin: float = 0.2
    owed_requests: int = 3
    owed_after: float = 0.5
    shortest: float = 0.5
    longest: float = 2.5
    max_share: float = 0.5


class WorkerSettings(msgspec.Struct, frozen=True):
    """All that a worker may know of the configuration. Times are seconds, sizes bytes; 0 means "none" for limits."""

    index: int = 0
    trace_key: str = ""
    router_ip: str = ""
    healthcheck_user_agent: str = "HTTP-Monitor/1.1"
    balancing_algorithm: str = "round-robin"
    balancing_options: RouteOptions = NO_OPTIONS
    """What holds for routes that don't say otherwise."""
    strategies: dict[str, str] = {}
    """Strategy name → `module:attribute`, resolved from the entry points by control."""
    max_attempts: int = 1
    max_conns: int = 0
    failed_mark_seconds: float = 30.0
    ejection: Ejection = Ejection()
    slow_start: float = 0.0
    retry_budget: float = 0.2
    """Share of requests that may be repeated; 0 = any."""
    max_queue: int = 0
    """Requests of one pool that may wait while all its endpoints are at `max_conns`."""
    queue_timeout: float = 0.5
    hedge_after: float = 0.0
    zone: str = ""
    prefer_zone: bool = False
    sticky_cookie_names: tuple[str, ...] = ("JSESSIONID",)
    sticky_auth_negotiate: bool = False
    secure_cookies: bool = False
    empty_pool_503: bool = False
    endpoint_timeout: float = 60.0
    dial_timeout: float = 5.0
    frontend_idle_timeout: float = 900.0
    read_header_timeout: float = 60.0
    client_body_timeout: float = 60.0
    client_send_timeout: float = 60.0
    max_connections: int = 0
    """Of this worker: its share of the router's."""
    max_requests_per_connection: int = 0
    max_target: int = 65536
    upgrades: tuple[str, ...] = ("websocket",)
    backend_idle_timeout: float = 55.0
    probe_interval: float = 1.0
    disable_keep_alives: bool = False
    keep_alive_100_continue: bool = False
    max_idle_per_endpoint: int = 100
    replay_bytes: int = 65536
    """Bytes of a request body that are kept for another attempt."""
    max_request_head: int = 1024 * 1024
    max_request_headers: int = 0
    max_response_head: int = 10 * 1024 * 1024
    max_response_headers: int = 0
    hop_by_hop_headers_to_filter: tuple[str, ...] = ()
    """Headers that `Connection` can't remove."""
    force_forwarded_proto_https: bool = False
    sanitize_forwarded_proto: bool = False
    add_response_headers: tuple[tuple[str, str], ...] = ()
    remove_response_headers: tuple[str, ...] = ()
    trace_zipkin: bool = False
    trace_w3c: bool = False
    w3c_tenant_id: str = ""
    spans_sampled: float | None = None
    """Share of requests whose spans are exported, 0 to 1, where the client doesn't decide; None = no export."""
    html_error_template: str = ""
    """Text of the template of error pages; empty = plain text."""
    debug_404: bool = False
    access_log_file: str = ""
    access_log_stdout: bool = False
    access_log_json: bool = False
    access_log_buffer: int = 8 * 1024 * 1024
    """Bytes of lines that may wait for their writer."""
    access_log_fields: tuple[str, ...] = ()
    """Fields about the attempts, in this order (contract §12.2)."""
    syslog: Syslog | None = None
    per_request_metrics: bool = True
    extra_headers_to_log: tuple[str, ...] = ()
    redact_query_params: str = "none"
    disable_log_forwarded_for: bool = False
    disable_log_source_ip: bool = False
    listeners: tuple[str, ...] = ("http",)
    """What each listening socket speaks, in their order: `http` or `https`."""
    front_tls: FrontTls | None = None
    backend_tls: BackendTls = BackendTls()
    route_services: RouteServices | None = None
    """None = requests for a route with a route service are refused."""
    enable_http2: bool = True
    tls_handshake_timeout: float = 10.0
    forwarded_client_cert: str = "always_forward"
    enable_proxy: bool = False
    proxy_trusted_sources: tuple[str, ...] = ()
    """Networks that may send a PROXY header; none = all."""
    log_level: str = "info"
    log_timestamp: str = "rfc3339"
    log_source: str = "router"


# ---------------------------------------------------------------- feed, control → worker


class Setup(msgspec.Struct, array_like=True, tag="S"):
    """First frame, and again when something of it changes: who the worker is.

    `slot` owns its listening sockets; `lane` is where it counts requests in flight, `lanes` all that count just now.
    """

    version: int
    slot: int
    lane: int
    lanes: list[int]
    lane_capacity: int
    run_dir: str
    settings: WorkerSettings


class Table(msgspec.Struct, array_like=True, tag="T"):
    """A piece of the whole table. `first` starts an empty one, `last` puts it in force in one step."""

    ops: list[TableOp]
    first: bool
    last: bool


class Delta(msgspec.Struct, array_like=True, tag="D"):
    """Changes, in order."""

    ops: list[TableOp]


class HealthState(msgspec.Struct, array_like=True, tag="H"):
    """What the health check by User-Agent shall answer (contract §11.1), and the bus's state for error pages."""

    healthy: bool
    bus_note: str = ""


class RouteHint(msgspec.Struct, array_like=True, tag="N"):
    """Answer to `AskRoute` number `ask`: lines for the 404 page, possibly none."""

    ask: int
    lines: list[str]


class SendTable(msgspec.Struct, array_like=True, tag="G"):
    """A restarted control asks an orphaned worker for the table it serves."""


class Listen(msgspec.Struct, array_like=True, tag="L"):
    """Accept connections, from now on; answered by `Listening`, also by a worker that does so already."""


class ReopenLog(msgspec.Struct, array_like=True, tag="O"):
    """The access log's file was moved away: open it anew."""


class Explain(msgspec.Struct, array_like=True, tag="E"):
    """What would become of this request? `head` is its whole head, `client` the IP address it comes from."""

    ask: int
    client: str
    secure: bool
    head: bytes


class Stop(msgspec.Struct, array_like=True, tag="X"):
    """Stop: listening ends at once, requests in flight get `grace` seconds, then the process exits."""

    grace: float


ToWorker = Setup | Table | Delta | HealthState | RouteHint | SendTable | Listen | ReopenLog | Stop | Explain


# ---------------------------------------------------------------- feed, worker → control


class EndpointUnfit(msgspec.Struct, array_like=True, tag="u"):
    """A TLS endpoint failed in a way that takes it out of its pool (contract §7.1, §7.4): route key and endpoint id."""

    key: str
    id: int
    reason: str


class Attach(msgspec.Struct, array_like=True, tag="A"):
    """An orphaned worker offers itself to a restarted control.

    Its listening sockets, then the in-flight block, travel with this frame as file descriptors (SCM_RIGHTS).
    """

    version: int
    slot: int
    lane: int
    pid: int
    lane_capacity: int
    addresses: list[tuple[str, int]]


class Ready(msgspec.Struct, array_like=True, tag="R"):
    """A whole table is in force; `start_ms` is how long that took since the process was spawned (milliseconds).

    Sent once in the life of a process: an orphan that gets a new table was ready before.
    """

    pid: int
    start_ms: float


class Listening(msgspec.Struct, array_like=True, tag="l"):
    """The worker accepts connections."""


class Leaving(msgspec.Struct, array_like=True, tag="g"):
    """The worker was asked to go, by a signal: it listens until it has a successor and is told to stop.

    `grace`: seconds that it then takes for requests in flight.
    """

    grace: float


class TablePart(msgspec.Struct, array_like=True, tag="t"):
    """Part of the answer to `SendTable`: pools with their endpoints in pool order.

    An endpoint comes packed, with its slot, so that the counts of requests in flight stay true over control's restart.
    """

    pools: list[tuple[PutPool, list[tuple[int, bytes]]]]
    last: bool


class AskRoute(msgspec.Struct, array_like=True, tag="a"):
    """With `debug_404`: what does control know about this host, which is not in the table?"""

    ask: int
    host: str


class Explained(msgspec.Struct, array_like=True, tag="E"):
    """Answer to `Explain` number `ask`, as the API gives it out (`proxy.explain`)."""

    ask: int
    report: dict[str, Any]


class EndpointStats(msgspec.Struct, array_like=True):
    """What one endpoint did since the last frame; its spec comes along, so that nothing else need be known.

    `classes` counts finished responses, 2xx, 3xx, 4xx, 5xx and any other, in this order. `cells` are the latencies:
    `observe.histogram` cell → count. `failures` counts attempts that came to nothing; `reason` is why the last one did.
    `state` is what the endpoint is for this worker (`in`, `failed`, `ejected` …), `why` says more of it, and
    `failed_for` are the seconds for which it is passed over.
    """

    spec: EndpointSpec
    classes: list[int]
    cells: dict[int, int]
    bytes_in: int
    bytes_out: int
    failures: int
    reason: str
    state: str
    why: str
    failed_for: float
    clients: dict[bytes, int] = {}
    """Address of a client → its requests; not of all clients when there are many."""


class FailedRequest(msgspec.Struct, array_like=True):
    """A request that the router answered itself, or could not bring to its end. Times: `at` unix ns, `taken` ns."""

    at: int
    taken: int
    request_id: str
    method: str
    host: str
    target: str
    status: int
    error: str
    app: str
    address: str
    attempts: int


class Stats(msgspec.Struct, array_like=True, tag="s"):
    """Once a second. `counters` are totals since the worker began, in the order of `observe.counters`;

    the rest is what came since the last frame: `endpoints` that had anything to do, `reasons` kind of router-made error
    → count, `failures` the first of these one by one, `lookups` durations of route look-ups in steps of 10 µs, and
    `lookup_ns` their sum.
    """

    counters: list[int]
    endpoints: list[EndpointStats]
    reasons: dict[str, int]
    failures: list[FailedRequest]
    lookups: list[int]
    lookup_ns: int
    in_flight: int
    connections: int
    backends: int
    """Connections to backends."""

    @property
    def apps(self) -> dict[str, int]:
        """App id → finished requests."""
        found: dict[str, int] = {}
        for each in self.endpoints:
            if each.spec.app and (count := sum(each.classes)):
                found[each.spec.app] = found.get(each.spec.app, 0) + count
        return found


class AttemptRecord(msgspec.Struct, array_like=True, gc=False):
    """One attempt at a backend. Times are unix nanoseconds; `error` is why it came to nothing, "" = it did not.

    `steps` are nanoseconds of name look-up, connecting and TLS (0 = none, -1 = not so far); None = the connection was
    there already.
    """

    span_id: bytes
    began: int
    ended: int
    host: str
    port: int
    tls: bool
    status: int
    error: str
    steps: tuple[int, int, int] | None


class SpanRecord(msgspec.Struct, array_like=True, gc=False):
    """One sampled request that is over. Ids are hexadecimal, an empty `parent_id` begins the trace; times as above."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    began: int
    ended: int
    method: bytes
    secure: bool
    host: bytes
    target: bytes
    version: bytes
    route: str
    peer: bytes
    """`ip:port` of the connection."""
    client: bytes
    """The client as far as known, before all proxies."""
    user_agent: bytes
    status: int
    bytes_in: int
    bytes_out: int
    error: str
    request_id: bytes
    instance: tuple[str, str, str] | None
    """App, id and index of the instance; None = none was picked."""
    attempts: list[AttemptRecord]


class Spans(msgspec.Struct, array_like=True, tag="p"):
    """Sampled requests, for export."""

    records: list[SpanRecord]


FromWorker = EndpointUnfit | Attach | Ready | Listening | Leaving | TablePart | AskRoute | Stats | Explained | Spans
