"""The data plane of one worker: table, parsers, connections, clock, accounting, put together.

Whoever runs it (the worker process, or control itself with `workers: 0`) feeds it settings and table operations, has
it listen, and collects its figures. It does not know where any of that comes from.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from router.balance.besides import besides
from router.balance.health import Watch
from router.balance.locality import Locality
from router.balance.slow_start import warmed
from router.balance.sticky import Sticky
from router.http.forwarded import RequestIds, forwarded_client_cert
from router.http.request import RequestParser
from router.http.response import ResponseHead, ResponseParser
from router.http.rewrite import Rewrite
from router.http.template import Template
from router.http.trace import Tracing
from router.messages import (
    FrontTls,
    HealthState,
    SpanRecord,
    Stats,
    TablePart,
    WorkerSettings,
)
from router.observe import access_log
from router.observe.access_log import AccessLog
from router.observe.counters import COUNT, Counter
from router.observe.log import Log
from router.observe.spans import Spans
from router.proxy.accounting import Accounting
from router.proxy.attempt_events import log_failure
from router.proxy.backend_h1 import CLOSE, BackendH1
from router.proxy.budget import RetryBudget
from router.proxy.clock import Clock, tick_interval
from router.proxy.failures import Failure
from router.proxy.half_closed import HalfClosed
from router.proxy.listener import Closable, listen
from router.proxy.queue import Queue
from router.proxy.strategies import Strategies
from router.proxy.tls import FrontDoor, backend_context
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool
from router.table.routes import RouteTable

if TYPE_CHECKING:
    from router.http.h2_fields import FieldReader
    from router.in_flight import InFlight
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.frontend_h2 import FrontendH2, Stream
    from router.proxy.request_state import RequestState
    from router.proxy.route_services import Leg, RouteServices
    from router.proxy.tunnel import Tunnel

CLIENT_CERT = b"x-forwarded-client-cert"
_DUMP_CHUNK = 256
SWEPT = 500
SWEEPS = 8
"""Connections to backends whose idleness one tick looks at, so many or that part of what is left: 10,000 at once would
hold up requests for 20 ms."""
MAX_OUTSIDE = 500
"""Endpoints out of use, and without requests, that one report tells of."""
_READ_SLACK = 4096
"""Bytes above `max_request_header_bytes` that are still read, so that the router's own 431 can be given (§8.3)."""


class Plane:
    """One worker's data plane. `in_flight` is the block of counts, with this worker's lane."""

    def __init__(self, loop: asyncio.AbstractEventLoop, in_flight: InFlight, log: Log) -> None:
        self.loop = loop
        self.log = log
        self.in_flight = in_flight
        self.own_lane = in_flight.own
        self.clock = Clock(loop)
        self.clock.on_tick(self._tick)
        self.loads = Loads(in_flight)
        self.health = HealthState(healthy=False)
        self.ask_route: Callable[[str], Awaitable[list[str]]] | None = None
        """Asks control about a host that is not in the table (`debug_404`)."""
        self.request_ids = RequestIds()
        self.counters = [0] * COUNT
        self.frontends: dict[FrontendH1 | FrontendH2, None] = {}
        """Client connections, the oldest first; with a limit on their number, the one idle for longest."""
        self.backends: set[BackendH1] = set()
        self._to_sweep: list[Any] = []
        """Those of them that are still to be looked at in this round."""
        self.tunnels: set[Tunnel] = set()
        self._log_before = (0, 0)
        self.spans: Spans | None = None
        """Sampled requests, where spans are exported."""
        self.hand_over: Callable[[list[SpanRecord]], bool] = lambda records: False
        """Gives records of them to control; False = it takes none just now."""
        self.stopping = False
        self.front_door: FrontDoor | None = None
        """The certificates of the HTTPS listener."""
        self.unfit: Callable[[str, int, str], None] = lambda key, id, reason: None
        """Tells control of a TLS endpoint that must leave its pool: route key, endpoint id, reason."""
        self._back_contexts: dict[bool, ssl.SSLContext] = {}
        self.route_services: RouteServices | None = None
        """None = no secret: requests for routes with a route service are refused."""
        self._servers: list[Closable] = []
        self.greeting: set[asyncio.Task[None]] = set()
        """Connections that are accepted and not yet a frontend's: their PROXY header is being read, for example."""
        self._quiet: asyncio.Event | None = None
        self.accounting = Accounting(log, self.counters)
        self.strategies = Strategies(log)
        self.watch = Watch(self.loads, lambda key: self.table.pools.get(key), self._tell)
        self.queue = Queue(loop)
        self.half_closed = HalfClosed(loop)
        self.retry_budget = RetryBudget(self.counters, 0.0)
        self.locality: Locality | None = None
        self.configure(WorkerSettings())
        self.table = self.new_table()

    # -------------------------------------------------------- settings and table

    def configure(self, settings: WorkerSettings) -> None:
        """Take over settings, also while running. An access log that can't be opened is logged, and none is written."""
        self.settings = settings
        self.health_agent = settings.healthcheck_user_agent.encode() or None
        self.trace_key = settings.trace_key.encode()
        self.max_head = settings.max_request_head + _READ_SLACK
        mode = settings.forwarded_client_cert
        self.client_cert_mode = "" if mode == "always_forward" else mode
        """How `X-Forwarded-Client-Cert` is told, empty where it is passed on as it comes (contract §9.3)."""
        self.tracing = (
            Tracing(settings.trace_zipkin, settings.trace_w3c, settings.w3c_tenant_id, settings.spans_sampled)
            if settings.trace_zipkin or settings.trace_w3c
            else None
        )
        if self.spans is not None:
            self.spans.flush()
        self.spans = None
        if settings.spans_sampled is not None and self.tracing is not None:
            self.spans = Spans(self.loop, settings, self.counters)
            self.spans.hand_over = lambda records: self.hand_over(records)
        self.accounting.spans = self.spans
        self.accounting.redact = settings.redact_query_params
        withheld: tuple[bytes, ...] = (CLIENT_CERT,) if self.client_cert_mode else ()
        if self.tracing is not None:
            withheld += self.tracing.withheld
        kept = frozenset(name.lower().encode() for name in settings.hop_by_hop_headers_to_filter)
        self.parse_request = RequestParser(withheld, kept).parse_next
        self._withheld = withheld
        self.read_fields: FieldReader | None = None
        """Reads the header fields of HTTP/2; `make_field_reader` makes it when the first client speaks that."""
        self.upgrades = frozenset(token.lower().encode() for token in settings.upgrades) - {b"h2c"}
        """Protocols that are tunnelled when a client asks for them by `Upgrade`, lower case."""
        rewriting = settings.add_response_headers or settings.remove_response_headers
        self.rewrite = Rewrite(settings.add_response_headers, settings.remove_response_headers) if rewriting else None
        self.parse_response = ResponseParser(self.rewrite).parse
        for backend in self.backends:
            backend.forget_head()
        self.by_idleness = settings.max_connections > 0
        """Client connections are kept in the order in which they became idle."""
        self.error_template = Template(settings.html_error_template) if settings.html_error_template else None
        self.backend_connection_line = CLOSE if settings.disable_keep_alives else b""
        self.loads.max_conns = settings.max_conns
        self.loads.failed_mark_seconds = settings.failed_mark_seconds
        self.loads.slow_start = settings.slow_start
        self.watch.configure(settings.ejection)
        self.retry_budget.share = settings.retry_budget
        self.queue.size, self.queue.timeout = settings.max_queue, settings.queue_timeout
        self.strategies.configure(settings)
        self.locality = Locality(settings.zone, self.strategies.make) if settings.prefer_zone else None
        self.clock.interval = tick_interval(settings)
        self.sticky = Sticky(
            settings.sticky_cookie_names, secure=settings.secure_cookies, negotiate=settings.sticky_auth_negotiate
        )
        self._back_contexts.clear()
        if settings.front_tls is not None:
            if self.front_door is None:
                protocols = ("h2", "http/1.1") if settings.enable_http2 else ("http/1.1",)
                self.front_door = FrontDoor(settings.front_tls, protocols)
            else:
                self._renew_certificates(self.front_door, settings.front_tls)
        self._configure_route_services(settings)
        self._open_access_log(settings)
        self.plain_answers = not (self.trace_key or self.rewrite is not None or self.sticky.negotiate)
        """No setting bears on the header lines that the router adds to responses."""

    def _configure_route_services(self, settings: WorkerSettings) -> None:
        wanted = settings.route_services
        if wanted is None:
            self.route_services = None
        elif self.route_services is None:
            from router.proxy.route_services import RouteServices  # loaded where there is a secret

            self.route_services = RouteServices(self, wanted)
        else:
            self.route_services.configure(wanted)

    def _renew_certificates(self, door: FrontDoor, settings: FrontTls) -> None:
        try:
            door.renew(settings)
        except ssl.SSLError as error:
            self.log.error("certificates-not-renewed", error=str(error), serving="with those before")

    def back_context(self, *, http2: bool) -> ssl.SSLContext:
        """How TLS is spoken to backends, with or without an offer of HTTP/2; made when the first one wants it."""
        context = self._back_contexts.get(http2)
        if context is None:
            protocols = ("h2", "http/1.1") if http2 else ()
            context = self._back_contexts[http2] = backend_context(self.settings.backend_tls, protocols)
        return context

    def _open_access_log(self, settings: WorkerSettings) -> None:
        self._close_access_log()
        if access_log.wanted(settings):
            try:
                self.accounting.access_log = AccessLog(settings)
            except OSError as error:
                self.log.error(
                    "error-creating-accesslog-file",
                    file=settings.access_log_file or "standard output",
                    error=error.strerror or str(error),
                )

    def _close_access_log(self) -> None:
        self.accounting.settle()
        log, self.accounting.access_log = self.accounting.access_log, None
        if log is not None:
            log.close()
            self._note_log_lines(log)
            self._log_before = (self.counters[Counter.LOG_LINES], self.counters[Counter.LOG_LOST])

    def _note_log_lines(self, log: AccessLog) -> None:
        """Bring the counters of lines up to date; those of logs closed before stay in."""
        lines, lost = self._log_before
        self.counters[Counter.LOG_LINES] = lines + log.written
        self.counters[Counter.LOG_LOST] = lost + log.lost

    def new_table(self) -> RouteTable:
        """An empty table, to be filled and then put in force with `swap_table`."""
        table = RouteTable(self.loads, self.strategies.make)
        table.on_health = self.watch.check_result
        return table

    def swap_table(self, table: RouteTable) -> None:
        """Put `table` in force in one step; connections and failure marks of the old one are taken over."""
        old, self.table = self.table, table
        table.inherit(old)

    def dump(self) -> Iterator[TablePart]:
        """The table in force, in parts, for a restarted control."""
        pools = list(self.table.dump())
        for start in range(0, max(len(pools), 1), _DUMP_CHUNK):
            yield TablePart(pools[start : start + _DUMP_CHUNK], start + _DUMP_CHUNK >= len(pools))

    def choose(self, pool: Pool, request: RequestState) -> Endpoint | None:
        """The endpoint for an attempt (contract §4): who is asked for by cookie, else who the strategy picks."""
        wish = request.sticky
        if wish is not None:
            request.picked_from = None
            endpoint = pool.instance(wish.id) if request.attempt == 1 or wish.must else None
            if endpoint is not None and not endpoint.overloaded and (wish.must or not endpoint.judged):
                return endpoint
            if wish.must:
                return None
        if request.attempt == 1:
            if pool.ward is not None and request.fit_for_trial and (endpoint := self.watch.trial(pool)) is not None:
                request.picked_from = None
                request.trial = True
                return endpoint
            if self.locality is not None:
                pool = self.locality.narrowed(pool)
        try:
            picked: Endpoint | None = pool.strategy.pick(pool, request)
        except Exception as error:
            picked = self.pick_instead(pool, request, error)
        request.picked_from = pool
        if picked is not None and picked.warm_since:
            return self._warmed(pool, picked, request)
        return picked

    def _warmed(self, pool: Pool, picked: Endpoint, request: RequestState) -> Endpoint:
        """The endpoint picked has just come: it, or for a share of the requests another."""
        instead = warmed(pool, picked, lambda: self._pick(pool, request))
        if instead is not picked:
            request.picked_from = None  # which must not be settled back
        return instead

    def choose_besides(self, pool: Pool, request: RequestState, endpoint: Endpoint) -> Endpoint | None:
        """As `choose`, another than `endpoint`; None when no other is available."""
        return besides(pool, endpoint, lambda: self._pick(pool, request))

    def _pick(self, pool: Pool, request: RequestState) -> Endpoint | None:
        try:
            picked: Endpoint | None = pool.strategy.pick(pool, request)
        except Exception as error:
            picked = self.pick_instead(pool, request, error)
        return picked

    def pick_instead(self, pool: Pool, request: RequestState, error: Exception) -> Endpoint | None:
        """The pool's strategy raised `error`: it loses the pool to round robin, which picks."""
        self.strategies.eject(pool, error)
        request.scratch = None
        return pool.strategy.pick(pool, request)  # type: ignore[no-any-return]

    # -------------------------------------------------------- life

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept connections on these bound sockets, in the order of `settings.listeners`."""
        self.clock.start()
        for sock, kind in zip(sockets, self.settings.listeners, strict=True):
            door = self.front_door if kind == "https" else None
            self._servers.append(await listen(self, sock, door.context if door is not None else None))

    async def stop(self, grace: float) -> None:
        """Stop listening; what goes on, tunnels too, may end by itself within `grace` seconds, then it is cut.

        A client's next response says `Connection: close`; a connection that stays quiet for a while closes.
        """
        self.stopping = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._quiet = asyncio.Event()
        self.clock.quicken(0.05)
        await asyncio.sleep(0)  # who was accepted in this turn of the loop is a frontend in the next
        for frontend in list(self.frontends):
            frontend.stop()
        try:
            async with asyncio.timeout(grace):
                while self.frontends or self.tunnels or self.greeting:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            pass
        for task in self.greeting:
            task.cancel()
        for frontend in list(self.frontends):
            frontend.transport.abort()
        for tunnel in list(self.tunnels):
            tunnel.close()
        for backend in list(self.backends):
            backend.transport.abort()
        self.clock.stop()
        self.half_closed.close()
        await asyncio.sleep(0)  # connections learn of their end in the next turn of the loop, and are logged there
        self._close_access_log()
        if self.spans is not None:
            self.spans.flush()

    def make_field_reader(self) -> FieldReader:
        """What `read_fields` is to be."""
        from router.http.h2_fields import FieldReader

        self.read_fields = FieldReader(self._withheld)
        return self.read_fields

    def full(self) -> bool:
        """A connection has come that is one too many, and none of the others is idle: else the longest idle goes."""
        limit = self.settings.max_connections
        if not limit or len(self.frontends) + len(self.tunnels) < limit:
            return False
        for frontend in self.frontends:
            if frontend.idle:
                frontend.close()
                return False
        return True

    def _tick(self, now: float) -> None:
        if self._quiet is not None:
            self._quiet.set()
        self.loads.now = now
        for frontend in list(self.frontends):
            frontend.check(now)
        if self.route_services is not None:
            self.route_services.check(now)
        self.watch.tick(now)
        limit = self.settings.backend_idle_timeout
        swept = set()
        for tunnel in list(self.tunnels):
            tunnel.check(now)
        if not self._to_sweep:
            self._to_sweep = list(self.backends)
        part = -max(SWEPT, len(self._to_sweep) // SWEEPS)
        for backend in self._to_sweep[part:]:
            connections = backend.connections
            if connections is not None and connections not in swept:
                swept.add(connections)
                connections.sweep(now, limit)
        del self._to_sweep[part:]
        self.flush_log()
        if self.spans is not None:
            self.spans.flush()

    # -------------------------------------------------------- what heads, error pages and traces say

    def client_cert_line(self, noted: dict[bytes, bytes], frontend: FrontendH1 | Stream, returned: bool) -> bytes:
        """The `X-Forwarded-Client-Cert` line for a backend, where the router decides on it.

        `returned`: the request comes back from a route service.
        """
        return forwarded_client_cert(
            self.client_cert_mode,
            noted.get(CLIENT_CERT),
            frontend.client_certificate,
            returned=returned,
            secure=frontend.secure,
        )

    def route_service_answered(self, leg: Leg, head: ResponseHead) -> None:
        """A route service's response begins."""
        if not 200 <= head.status < 300:
            service = leg.request.raw_host.decode()
            self.log.info("route-service-response", **{"route-service-endpoint": service, "status-code": head.status})

    def missing_route_hints(self) -> list[str]:
        """Lines for the page of an unknown route: what to check."""
        hints = ["Check the host's spelling, and that the app runs and has registered this route."]
        if self.health.bus_note:
            hints.append(f"This router is {self.health.bus_note}, so it may not know every route.")
        return hints

    def trace_lines(self, endpoint: Endpoint) -> bytes:
        """Header lines for a response to a traced request (contract §5.5)."""
        return (
            f"X-Vcap-Router: {self.settings.router_ip}\r\n"
            f"X-Vcap-Backend: {endpoint.address}\r\nX-Cf-RouteEndpoint: {endpoint.address}\r\n"
        ).encode()

    def _tell(self, event: str, pool: Pool, endpoint: Endpoint, reason: str) -> None:
        """An endpoint is used no more, or again."""
        fields = {"uri": pool.key, "backend": endpoint.address, "application_id": endpoint.spec.app}
        if reason:
            self.log.warn(event, **fields, reason=reason)
        else:
            self.log.info(event, **fields)

    def log_failure(self, exchange: RequestState, failure: Failure, retry: bool, stale: bool) -> None:
        """A failed attempt goes to the event log (contract §12.5); a stale connection is no failure worth a line."""
        endpoint = exchange.endpoint
        if endpoint is None or (stale and retry):
            return
        self.accounting.attempt_failed(endpoint, failure.reason)
        if self.spans is not None:
            self.spans.attempt_failed(exchange, failure.reason)
        log_failure(self.log, exchange, endpoint, failure, retry=retry, stale=stale)

    # -------------------------------------------------------- accounting

    @contextmanager
    def unaccounted(self) -> Iterator[None]:
        """What happens meanwhile leaves no trace in the figures."""
        counters = list(self.counters)
        try:
            yield
        finally:
            self.counters[:] = counters

    def flush_log(self) -> None:
        """Lines of the access log that have gathered go where they belong."""
        self.accounting.settle()
        if self.accounting.access_log is not None:
            self.accounting.access_log.flush()

    def reopen_log(self) -> None:
        """The access log's file may have been moved away."""
        self.flush_log()
        if self.accounting.access_log is not None:
            self.accounting.access_log.reopen()

    def stats(self) -> Stats:
        """Figures for control: totals, what came since the last call, and who is out of use even if nothing came."""
        for endpoint in islice(self.watch.outside(), MAX_OUTSIDE):
            if self.table.endpoints.get(endpoint.id) is endpoint:
                self.accounting.mention(endpoint)
        if self.accounting.access_log is not None:
            self._note_log_lines(self.accounting.access_log)
        return self.accounting.report(
            in_flight=sum(frontend.in_flight for frontend in self.frontends) + len(self.tunnels),
            connections=len(self.frontends) + len(self.tunnels),
            backends=len(self.backends),
        )
