"""One request and its response: the only thing that frontends and backends have in common.

The frontend tells what the client does (`start`, `request_body`, `request_complete`, `client_gone`), the backend what
came back (`response_head`, `response_body`, `response_complete`, `attempt_failed`); the exchange routes, picks,
repeats, and commands both (`send_head`, `send_body`, `finish`, `abort`). At its end it is accounted for exactly once.

It knows no protocol: what the router itself says in a head is passed to both sides as header lines (`Name: value`, each
with CRLF), bodies as payload; how a message is framed, and what that needs in its head, is theirs.

The way of a plain request is kept flat and long on purpose: it is what a worker spends its time on.
"""

from __future__ import annotations

import asyncio
import traceback
from time import monotonic, perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any

from router.balance.sticky import Wish
from router.http import errors
from router.http.error_page import Look
from router.http.instance import wanted
from router.http.message import CHUNKED, NO_BODY, NO_TRAILERS, HeaderList
from router.http.request import RequestHead
from router.http.response import ResponseHead
from router.http.trace import Trace
from router.observe.accounts import LOOKUP_LONG, LOOKUP_STEP, LOOKUP_STEPS
from router.observe.counters import Counter
from router.proxy.failures import IDEMPOTENT, NOTHING_TO_CHOOSE, TIMED_OUT, Failure, Retry
from router.proxy.backend_h1 import BackendH1
from router.proxy.connections import Connections, Steps, dial
from router.proxy.hedge import Hedge
from router.proxy.meaning import Meaning

if TYPE_CHECKING:
    from router.proxy.connections import Backend
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.frontend_h2 import Stream
    from router.proxy.plane import Plane
    from router.proxy.route_services import Leg
    from router.table.endpoint import Endpoint
    from router.table.pool import Pool

_REQUESTS = int(Counter.REQUESTS)
CONTINUE_WAIT = 1.0
"""Seconds to wait for a backend's 100 before the router sends its own (contract §8.5)."""


class Exchange:
    """A request on its way."""

    __slots__ = (
        "_began",
        "_counted",
        "_dialling",
        "_finished",
        "_fresh",
        "_invited",
        "_queued",
        "_replay",
        "_tried",
        "attempt",
        "backend",
        "begun",
        "bytes_in",
        "bytes_out",
        "client",
        "continue_by",
        "deadline",
        "dialled",
        "dispatched",
        "endpoint",
        "expects",
        "frontend",
        "head_at",
        "hedge",
        "hedged",
        "lines",
        "local_address",
        "meaning",
        "picked_from",
        "plane",
        "pool",
        "received",
        "request",
        "request_done",
        "request_id",
        "request_trailers",
        "responding",
        "router_error",
        "scratch",
        "service",
        "sticky",
        "trial",
        "status",
        "steps",
        "trace",
        "upgrade",
        "waits_since",
    )

    def __init__(self, plane: Plane, frontend: FrontendH1 | Stream, request: RequestHead) -> None:
        self.plane = plane
        self.frontend = frontend
        self.request = request
        self.client = frontend.peer_ip
        self.received = time_ns()
        self.dispatched = 0
        """When the first attempt began, unix ns; 0 = it never got that far."""
        self.begun = 0
        """When the last attempt began, unix ns, if it was not the first."""
        self.dialled = 0
        """Nanoseconds that connecting took in the last attempt, TLS included; 0 = it found an idle connection.

        Only where it took any is there `steps`, which tells its parts.
        """
        self.head_at = 0
        """When the response head came, unix ns; 0 = none came."""
        self.local_address = ""
        """Our end of the backend connection, if the access log wants it."""
        ids = plane.request_ids
        self.request_id = ids.ready.pop() if ids.ready else ids.next()
        self.request_done = request.body == NO_BODY
        self.request_trailers: HeaderList = NO_TRAILERS
        self.trace: Trace | None = None
        self.lines = b""
        """What the router adds to the request's head, but for the endpoint's own lines."""
        self.pool: Pool | None = None
        self.endpoint: Endpoint | None = None
        self.backend: Backend | None = None
        self.attempt = 0
        self.scratch: Any = None
        self.service: Leg | None = None
        """It is on its way to a route service (`proxy.route_services`)."""
        self.sticky: Wish | None = None
        """The instance that the client asks for by cookie (contract §4.7)."""
        self.status = 0
        self.router_error = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self.meaning: Meaning | None = None
        """What its header lines mean, once it has got as far as to a pool."""
        self.responding = False
        """A final response head went to the client."""
        self.waits_since = 0.0
        """When the attempt began, or its request was complete; seconds of the worker's clock."""
        self.hedge: Hedge | None = None
        """A second attempt beside this one (`proxy.hedge`)."""
        self.hedged = False
        """There has been one."""
        self.trial = False
        """The attempt is a trial of an endpoint that is out of use (`balance.health`)."""
        self.deadline = 0.0
        self.continue_by = 0.0
        self.expects = not self.request_done and b"expect" in request.noted
        """The client waits for a 100 before it sends its body: none was passed on yet, nor has any of the body come."""
        self.upgrade = b""
        """The protocol asked for by `Upgrade`, lower case, when we tunnel it; else empty."""
        self._began = 0.0
        """When the attempt began, if the pool's strategy wants to hear of its end; monotonic seconds."""
        self._counted = False
        self._dialling: asyncio.Task[None] | None = None
        self._finished = False
        self._invited = False
        """We sent a 100 of our own."""
        self._fresh = False
        """The next attempt is not made on a connection that has been idle."""
        self._queued = False
        self.picked_from: Pool | None = None
        """The pool, or the part of it, whose strategy picked the endpoint; None when nobody's did."""
        self._replay: list[bytes] | None = []
        """The request body so far, for an attempt that is still to come; None = too long to be kept."""
        self._tried: set[str] | None = None

    def header(self, name: bytes) -> bytes | None:
        """Value of a request header by lower-case name; for strategies."""
        return self.request.header(name)

    @property
    def target(self) -> bytes:
        """The request target; for strategies."""
        return self.request.target

    @property
    def takes_trailers(self) -> bool:
        """The client said `TE: trailers`."""
        te = self.request.noted.get(b"te", b"")
        return b"trailers" in {token.partition(b";")[0].strip(b" \t") for token in te.lower().split(b",")}

    @property
    def fit_for_trial(self) -> bool:
        """It could be repeated elsewhere without harm, and has not been yet."""
        request = self.request
        return request.method in IDEMPOTENT and request.body == NO_BODY and not self.upgrade and self._tried is None

    # -------------------------------------------------------- the client's side

    def start(self) -> None:
        """Route the request and begin the first attempt, or answer it here."""
        plane = self.plane
        request = self.request
        settings = plane.settings
        meaning = request.meaning
        if meaning is None or meaning.settings is not settings:
            meaning = request.meaning = Meaning(plane, self.frontend, request)
        if plane.tracing is not None:
            self.trace = plane.tracing.trace(request.noted, self.request_id)
            self.request_id = self.trace.request_id
        if (request.target == b"*" or meaning.special) and self._answered_here():
            return
        if settings.per_request_metrics:
            began = perf_counter_ns()
            pool = plane.table.lookup(request.host, request.target)
            took = perf_counter_ns() - began
            plane.lookup_ns += took
            plane.lookups[took // LOOKUP_STEP if took < LOOKUP_LONG else LOOKUP_STEPS] += 1
        else:
            pool = plane.table.lookup(request.host, request.target)
        if meaning.special:
            pool = self._only_instance(pool)
            if self._finished:
                return
        if pool is None or (not pool.endpoints and not settings.empty_pool_503):
            self._unknown_route()
            return
        if request.size >= settings.max_request_head or (
            settings.max_request_headers and request.header_count > settings.max_request_headers
        ):
            self.refuse(errors.HEAD_TOO_LARGE)
            return
        if not pool.endpoints:
            self.refuse(errors.NO_ENDPOINTS)
            return
        if pool.route_services or meaning.signed:
            entered = self._enter(pool)
            if entered is None:
                return
            pool, meaning = entered
            request = self.request
        self.pool = pool
        self.meaning = meaning
        if self.service is None:
            self.sticky = meaning.sticky
        if meaning.started:
            self.lines = b"%b\r\nX-Vcap-Request-Id: %b%b" % (meaning.before_id, self.request_id, meaning.after_id)
        else:
            self.lines = b"%b%d\r\nX-Vcap-Request-Id: %b%b" % (
                meaning.before_id,
                self.received // 1_000_000,
                self.request_id,
                meaning.after_id,
            )
        if self.trace is not None:
            self.lines += self.trace.lines
        if meaning.rare:
            self._heed(request)
        self.dispatched = time_ns()
        self._next_attempt(None)

    def _answered_here(self) -> bool:
        """Answer the request if no app is asked: a health check, or no host that could be routed by."""
        request, plane = self.request, self.plane
        if plane.health_agent is not None and request.noted.get(b"user-agent") == plane.health_agent:
            self._answer(errors.health_answer(plane.health.healthy))
        elif request.target == b"*":
            self._answer(errors.options_answer())
        elif not request.host or request.host == self.client:
            self.refuse(errors.EMPTY_HOST)
        else:
            return False
        return True

    def _enter(self, pool: Pool) -> tuple[Pool, Meaning] | None:
        """Where a request that a route service sent, or shall get, goes on to; None: it has been answered."""
        plane = self.plane
        services = plane.route_services
        if services is None:
            if not pool.route_services:
                return pool, self.request.meaning
            # What stands before the app by its owner's will is never gone around.
            self.refuse(errors.ROUTE_SERVICE_UNSUPPORTED)
            return None
        found = services.enter(self, pool)
        if found is None:
            return None
        pool, returned = found
        return pool, Meaning(plane, self.frontend, self.request, returned)

    def _heed(self, request: RequestHead) -> None:
        """What only some requests bring: trailers to come, a wish for another protocol."""
        plane, noted = self.plane, request.noted
        if b"trailer" in noted and request.body == CHUNKED:
            self.lines += b"Trailer: %b\r\n" % noted[b"trailer"]
        if b"upgrade" in request.options and self.request_done:
            token = noted.get(b"upgrade", b"").lower()
            if token in plane.upgrades:  # else the request goes on without (RFC 9110 §7.8)
                self.upgrade = token

    def _only_instance(self, pool: Pool | None) -> Pool | None:
        """The part of the pool that an instance header asks for (contract §3.5), or an answer that there is none."""
        want = wanted(self.request.noted)
        if want is None:
            return pool
        if isinstance(want, errors.ErrorRow):
            self.refuse(want)
            return None
        chosen = pool.only(want.matches, self.plane.make_strategy) if pool is not None else None
        if chosen is None or not chosen.endpoints:
            self.plane.counters[Counter.BAD_REQUESTS] += 1
            host = self.request.raw_host
            self._answer(errors.error_answer(want.missing, host, (), want.guid, want.number or "", self._look))
        return chosen

    def request_body(self, data: bytes) -> None:
        """Bytes of the request body, framing taken off."""
        self.bytes_in += len(data)
        self.continue_by = 0.0
        self.expects = False
        replay = self._replay
        if self.backend is not None:
            self.backend.send_body(data)
            if replay is not None:
                if self.bytes_in <= self.plane.settings.replay_bytes:
                    replay.append(data)
                else:
                    self._replay = None
        elif not self._finished and replay is not None:
            replay.append(data)
            if self.bytes_in > self.plane.settings.replay_bytes:
                self.frontend.pause_reading()

    def request_complete(self, trailers: HeaderList) -> None:
        """The client has sent its whole request."""
        self.request_done = True
        self.request_trailers = trailers
        self.continue_by = 0.0
        self.waits_since = self.plane.clock.now
        if self.backend is not None:
            self.backend.finish(trailers)

    def client_gone(self, status: int = 499) -> None:
        """The client's connection ended, or its request broke off, before the answer was complete.

        `status` is what the access log shows if no response had begun.
        """
        if self._finished:
            return
        self.plane.counters[Counter.CLIENT_GONE] += 1
        if not self.responding:
            self.status = status
            if status == 499 and self.dispatched:
                self.router_error = "endpoint_failure (context canceled)"
            if self._counted and self.request_done:
                plane = self.plane
                age = plane.clock.now - self.waits_since
                plane.watch.gave_up(self.pool, self.endpoint, age, trial=self.trial)  # type: ignore[arg-type]
            elif self._queued and self.pool is not None:
                self.plane.queue.drop(self.pool, self)
        self._stop_attempt()
        self._finish()

    def client_full(self) -> None:
        """The client reads more slowly than the backend writes."""
        if self.backend is not None:
            self.backend.pause_reading()

    def client_drained(self) -> None:
        """The client has caught up."""
        if self.backend is not None:
            self.backend.resume_reading()

    # -------------------------------------------------------- attempts

    def _next_attempt(self, last: Failure | None) -> None:
        """Pick an endpoint and begin an attempt; `last` is why the one before failed (contract §7.2)."""
        plane = self.plane
        pool = self.pool
        assert pool is not None
        self.attempt += 1
        endpoint = plane.choose(pool, self)
        if endpoint is None:
            if last is None and pool.endpoints and all(e.overloaded for e in pool.endpoints):
                if self._wait(pool):
                    return
                self._limit_reached()
            else:
                host = self.request.raw_host.decode("utf-8", "replace")
                plane.log.error("select-endpoint-failed", host=host, error=NOTHING_TO_CHOOSE.reason)
                self._give_up(last or NOTHING_TO_CHOOSE)
            return
        if last is not None:
            assert self._tried is not None
            self.begun = time_ns()
            self.dialled = 0
            if self.attempt > len(pool.endpoints) and endpoint.address in self._tried:
                self._give_up(last)
                return
            if plane.spans is not None and self.trace is not None and self.trace.span is not None:
                before, self.trace = self.trace, self.trace.for_another_attempt()
                self.lines = self.lines.replace(before.lines, self.trace.lines)
        self.endpoint = endpoint
        self._begin(endpoint)

    def _wait(self, pool: Pool) -> bool:
        """Queue for a place at an endpoint of `pool`, once."""
        if self._queued or (self.sticky is not None and self.sticky.must):
            return False
        self._queued = self.plane.queue.put(pool, self)
        return self._queued

    def leave_queue(self, late: bool) -> None:
        """There is a place now, or it is too `late`."""
        if late:
            self._limit_reached()
        else:
            self.attempt = 0
            self._next_attempt(None)

    def _begin(self, endpoint: Endpoint) -> None:
        """One attempt at one endpoint: on an idle connection, or on a new one."""
        plane = self.plane
        plane.counters[_REQUESTS] += 1
        plane.own_lane[endpoint.slot] += 1
        self._counted = True
        pool = self.picked_from
        if pool is None:
            pool = self.pool
        elif pool.settle is not None and not self._fresh:
            endpoint = self._settle(endpoint)
        if pool.done is not None:  # type: ignore[union-attr]
            self._began = monotonic()
        timeout = pool.options.endpoint_timeout or plane.settings.endpoint_timeout  # type: ignore[union-attr]
        now = self.waits_since = plane.clock.now
        self.deadline = now + timeout if timeout > 0 and not self.upgrade else 0.0
        connections = endpoint.connections
        if connections is None:
            connections = endpoint.connections = Connections()
        backend: Backend | None = None
        if connections.shared and not self.upgrade:
            backend = connections.stream()
        if backend is None and not self._fresh:
            backend = connections.take(self.request.method in IDEMPOTENT)
        if backend is not None:
            self._send(backend)
        else:
            self._dialling = plane.loop.create_task(self._dial(endpoint))

    def _settle(self, endpoint: Endpoint) -> Endpoint:
        """Now that all workers see the count, the strategy may still prefer another endpoint."""
        pool = self.picked_from
        assert pool is not None
        assert pool.settle is not None
        try:
            endpoint = self.endpoint = pool.settle(pool, endpoint, self)
        except Exception as error:
            self.plane.eject_strategy(pool, error)
        return endpoint

    def _tell(self, ok: bool) -> None:
        """Tell the strategy how the attempt went, once."""
        pool = self.picked_from or self.pool
        assert pool is not None
        seconds, self._began = monotonic() - self._began, 0.0
        if pool.done is not None:
            try:
                pool.done(self.endpoint, self, seconds, ok)
            except Exception as error:
                self.plane.eject_strategy(pool, error)

    async def _dial(self, endpoint: Endpoint) -> None:
        try:
            await self._connect(endpoint)
        except Exception as error:
            self._dialling = None
            self.crashed(error)

    async def _connect(self, endpoint: Endpoint) -> None:
        began = perf_counter_ns()
        self.steps = Steps()
        outcome = await dial(self.plane, endpoint, self.steps, only_h1=bool(self.upgrade))
        self.dialled = perf_counter_ns() - began
        self._dialling = None
        if isinstance(outcome, Failure):
            self.attempt_failed(outcome, stale=False)
            return
        if self._finished or not outcome.usable:
            outcome.close()
            if not self._finished:
                self.attempt_failed(Failure("EOF", Retry.ALWAYS, False), stale=False)
            return
        connections = endpoint.connections
        if connections is None:  # a changed registration took the pool over while we dialled
            connections = endpoint.connections = Connections()
        self._send(connections.add(outcome))

    def _send(self, backend: Backend) -> None:
        self.backend = backend
        replay = self._replay
        assert replay is not None
        if self.expects:
            self.continue_by = self.plane.clock.now + CONTINUE_WAIT
        if self.bytes_in:
            self.frontend.resume_reading()  # it may have been paused for the attempt before, or for want of one
        backend.start(self, b"".join(replay) if replay else b"")
        if self.bytes_in > self.plane.settings.replay_bytes:
            self._replay = None

    def adopt(self, endpoint: Endpoint, backend: Backend) -> None:
        """The second attempt has won: it becomes the one, and the first is broken off."""
        assert self.pool is not None
        assert self.endpoint is not None
        self.hedge = None
        self.plane.watch.gave_up(self.pool, self.endpoint, self.plane.clock.now - self.waits_since, trial=False)
        self._stop_attempt()
        self.endpoint = endpoint
        self.backend = backend
        self._counted = True

    def attempt_failed(self, failure: Failure, *, stale: bool) -> None:
        """The attempt came to nothing. `stale`: on a connection that had been idle, and no byte came back."""
        if self.hedge is not None:
            self.hedge.stop()
        self.backend = None
        endpoint = self.endpoint
        assert endpoint is not None
        self._uncount()
        if self._finished:
            return
        plane = self.plane
        retry = self._may_repeat(failure)
        if self._began and not stale:
            self._tell(False)
        trial, self.trial = self.trial, False
        again = retry and stale and not self._fresh
        plane.log_failure(self, failure, retry, stale)
        if failure.marks and self.service is None:
            endpoint.failed_at = plane.clock.now
            if failure.unfit and endpoint.spec.tls:
                assert self.pool is not None
                plane.unfit(self.pool.key, endpoint.id, failure.reason)
        if not again:
            assert self.pool is not None
            plane.watch.failed(self.pool, endpoint, failure.reason, marks=failure.marks, trial=trial)
        if self.responding:
            # The head is out: all that is left is to cut the connection, so that nobody takes the rest for complete.
            self.router_error = f"endpoint_failure ({failure.reason})"
            self._finish()
            self.frontend.abort()
            return
        if again:
            # The peer closed an idle connection: that was no attempt. A fresh connection shows whether it lives.
            self._fresh = True
            self.trial = trial
            self._begin(endpoint)
            return
        if trial:
            self._repeat_elsewhere(failure)
            return
        most = plane.settings.max_attempts if self.service is None else self.service.max_attempts
        if not retry or self.attempt >= most or not plane.retry_budget.take():
            self._give_up(failure)
            return
        if self._tried is None:
            self._tried = set()
        if self.service is None:
            self._tried.add(endpoint.address)
        self._next_attempt(failure)

    def _repeat_elsewhere(self, failure: Failure) -> None:
        """A trial went badly: that was no attempt of the client's."""
        assert self.endpoint is not None
        self._tried = {self.endpoint.address}
        self.attempt = 0
        self._next_attempt(failure)

    def _may_repeat(self, failure: Failure) -> bool:
        if failure.retry is Retry.NEVER or self._replay is None:
            return False
        if failure.retry is Retry.ALWAYS:
            return True
        return self.request.method in IDEMPOTENT or bool(
            self.header(b"idempotency-key") or self.header(b"x-idempotency-key")
        )

    def _give_up(self, failure: Failure) -> None:
        if failure.counter is not None:
            self.plane.counters[failure.counter] += 1
        self._answer(errors.endpoint_failure(failure.status, failure.reason, self._look))

    def _stop_attempt(self) -> None:
        if self._began:
            self._tell(False)
        if self.hedge is not None:
            self.hedge.stop()
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self.backend is not None:
            self.backend.abort()
            self.backend = None
        self._uncount()

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            assert self.endpoint is not None
            self.plane.own_lane[self.endpoint.slot] -= 1
            if self.plane.queue.waiting:
                self.plane.loop.call_soon(self.plane.queue.advance)

    # -------------------------------------------------------- the backend's side

    def interim_head(self, head: ResponseHead) -> None:
        """A 1xx from the backend: passed on (contract §5.5), but for a 100 after our own."""
        if head.status == 100:
            if self._invited:
                return
            self.continue_by = 0.0
            self.expects = False
        self.frontend.send_interim(head)

    def switched(self, head: ResponseHead, data: bytes) -> bool:
        """The backend's 101, with the first bytes behind it. False: it is not what was asked for."""
        backend = self.backend
        if not self.upgrade or head.noted.get(b"upgrade", b"").lower() != self.upgrade:
            return False
        assert isinstance(backend, BackendH1), "an upgrade goes over HTTP/1.1"
        if self._began:
            self._tell(True)
        self.responding = True
        self.head_at = time_ns()
        self.plane.counters[Counter.UPGRADES] += 1
        self.status = 101
        lines = b"" if b"x-vcap-request-id" in head.noted else b"X-Vcap-Request-Id: %b\r\n" % self.request_id
        self.frontend.open_tunnel(self, head, lines, data, backend)
        return True

    def tunnel_ended(self) -> None:
        """Both sides of the tunnel are closed."""
        self._uncount()
        self._finish()

    def response_head(self, head: ResponseHead, data: bytes, complete: bool) -> None:
        """The response begins: its head, the first bytes of its body, and whether that was all."""
        if self._began:
            self._tell(head.status < 500)
        if self.hedge is not None:
            self.hedge.stop()
        if (head.status >= 500 or self.endpoint.record is not None) and not self._passes(  # type: ignore[union-attr]
            head.status, complete
        ):
            return
        if self.service is not None:
            self.plane.route_service_answered(self.service, head)
        self.responding = True
        self.head_at = time_ns()
        self._replay = None
        self.continue_by = 0.0
        self.status = head.status
        if head.plain and self.sticky is None and self.plane.plain_answers:
            lines = b"X-Vcap-Request-Id: %b\r\n" % self.request_id
        else:
            lines = self._answer_lines(head)
        if head.body == NO_BODY:
            data = b""
        self.bytes_out = len(data)
        self.frontend.send_head(head, lines, data)
        if complete:
            self.response_complete(NO_TRAILERS)

    def _answer_lines(self, head: ResponseHead) -> bytes:
        """What the router adds to the response's head (contract §5.5)."""
        plane, noted = self.plane, head.noted
        assert self.endpoint is not None
        if plane.notes_local_address and self.backend is not None:
            self.local_address = self.backend.local
        lines = b"" if b"x-vcap-request-id" in noted else b"X-Vcap-Request-Id: %b\r\n" % self.request_id
        if plane.trace_key and self.request.noted.get(b"x-vcap-trace") == plane.trace_key:
            lines += plane.trace_lines(self.endpoint)
        if self.sticky is not None or b"set-cookie" in noted or plane.sticky.negotiate:
            lines += self._sticky_line(head)
        if b"trailer" in noted and head.body == CHUNKED and self.takes_trailers:
            lines += b"Trailer: %b\r\n" % noted[b"trailer"]
        return lines if plane.rewrite is None else plane.rewrite.lines(lines)

    def _passes(self, status: int, complete: bool) -> bool:
        """Tell the judge what was answered. False: it was a trial that went badly, and the client shall not know."""
        pool, endpoint = self.pool, self.endpoint
        assert pool is not None
        assert endpoint is not None
        trial, self.trial = self.trial, False
        if self.plane.watch.answered(pool, endpoint, status, self.waits_since, trial=trial):
            return True
        if not complete and self.backend is not None:
            self.backend.abort()
        self.backend = None
        self._uncount()
        failure = Failure(f"answered {status} on trial", Retry.ALWAYS, False)
        if self.plane.spans is not None:
            self.plane.spans.attempt_failed(self, failure.reason)
        self._repeat_elsewhere(failure)
        return False

    def _sticky_line(self, head: ResponseHead) -> bytes:
        endpoint, pool = self.endpoint, self.pool
        assert endpoint is not None
        assert pool is not None
        return self.plane.sticky.cookie_line(
            self.sticky, endpoint.spec, pool.context_path, self.request.header, head.headers
        )

    def response_body(self, data: bytes) -> None:
        """Bytes of the response body, framing taken off."""
        self.bytes_out += len(data)
        self.frontend.send_body(data)

    def response_complete(self, trailers: HeaderList) -> None:
        """The response ended as it should. Its trailers pass if the client takes any (RFC 9110 §10.1.4)."""
        self.backend = None
        self._counted = False
        self.plane.own_lane[self.endpoint.slot] -= 1  # type: ignore[union-attr]
        if self.plane.queue.waiting:
            self.plane.loop.call_soon(self.plane.queue.advance)
        self._finished = True
        self.plane.account(self)
        if trailers and not self.takes_trailers:
            trailers = NO_TRAILERS
        self.frontend.finish(trailers)

    def backend_full(self) -> None:
        """The backend reads more slowly than the client writes."""
        self.frontend.pause_reading()

    def backend_drained(self) -> None:
        """The backend has caught up."""
        self.frontend.resume_reading()

    # -------------------------------------------------------- answers of our own

    def _unknown_route(self) -> None:
        plane = self.plane
        plane.counters[Counter.BAD_REQUESTS] += 1
        if plane.settings.debug_404 and plane.ask_route is not None:
            self._dialling = plane.loop.create_task(self._explain(plane.ask_route))
        else:
            self._not_found(self.plane.missing_route_hints())

    async def _explain(self, ask: Any) -> None:
        lines = await ask(self.request.host.decode("utf-8", "replace"))
        self._dialling = None
        if not self._finished:
            self._not_found([*self.plane.missing_route_hints(), *lines])

    def _not_found(self, hints: list[str]) -> None:
        self._answer(errors.error_answer(errors.UNKNOWN_ROUTE, self.request.raw_host, hints, look=self._look))

    @property
    def _look(self) -> Look:
        return Look(self.request.header(b"accept"), self.plane.error_template)

    def refuse(self, row: errors.ErrorRow, reason: str = "") -> None:
        """Answer with a row of the errors; `reason` is part of its message."""
        if row.number <= 7:
            self.plane.counters[Counter.BAD_REQUESTS] += 1
        answer = errors.error_answer(row, self.request.raw_host, look=self._look, reason=reason)
        self.plane.log.info("status", body=answer.body.decode("utf-8", "replace"))
        self._answer(answer)

    def _limit_reached(self) -> None:
        self.plane.counters[Counter.EXHAUSTED] += 1
        self.plane.log.info("connection-limit-reached", host=self.request.raw_host.decode("utf-8", "replace"))
        self.refuse(errors.CONNECTION_LIMIT)

    def crashed(self, error: Exception) -> None:
        """Something in the router broke on this request (contract §5.1, row 1): nothing else is disturbed."""
        plane = self.plane
        plane.log.error(
            "panic-check",
            host=self.request.raw_host.decode("utf-8", "replace"),
            error=repr(error),
            stacktrace=traceback.format_exception(error),
        )
        self._stop_attempt()
        if self.responding:
            self._finish()
            self.frontend.abort()
        else:
            self._answer(errors.unknown_failure())

    def _answer(self, answer: errors.Answer) -> None:
        self.responding = True
        self.continue_by = 0.0
        self.status = answer.status
        self.router_error = answer.router_error
        if self.plane.rewrite is not None:
            answer = answer._replace(headers=self.plane.rewrite.answer(answer.headers))
        body = answer.body if self.request.method != b"HEAD" else b""
        self.bytes_out = len(body)
        self.frontend.send_answer(answer, body)
        self._finish()
        self.frontend.next_request()

    # -------------------------------------------------------- time and the end

    def check(self, now: float) -> None:
        """Called at every tick of the clock."""
        if self.continue_by and now >= self.continue_by:
            self.continue_by = 0.0
            self.expects = False
            self._invited = True
            self.frontend.send_continue()
        if self._counted and not self.responding and self.request_done:
            watch = self.plane.watch
            age = now - self.waits_since
            if age >= watch.owed_after:
                self._overdue(age)
            after = self.plane.settings.hedge_after
            if after and age >= after and not self.hedged:
                self._start_hedge()
        if self.deadline and now >= self.deadline and self._counted:
            self._stop_attempt()
            self.attempt_failed(TIMED_OUT, stale=False)

    def _start_hedge(self) -> None:
        """Ask another endpoint as well, if it may be, there is one, and the budget allows."""
        pool, endpoint, plane = self.pool, self.endpoint, self.plane
        assert pool is not None
        assert endpoint is not None
        self.hedged = True
        if not self.fit_for_trial or self.trial or (self.sticky is not None and self.sticky.must):
            return
        other = plane.choose_besides(pool, self, endpoint)
        if other is not None and plane.retry_budget.take():
            self.hedge = Hedge(self, other)
            self.hedge.start()

    def _overdue(self, age: float) -> None:
        """The response has not begun, and it is late."""
        pool, endpoint, watch = self.pool, self.endpoint, self.plane.watch
        assert pool is not None
        assert endpoint is not None
        watch.owed(pool, endpoint, age)
        if self.trial and age >= watch.patience(pool):
            self._stop_attempt()
            self.attempt_failed(Failure("no answer on trial", Retry.ALWAYS, False), stale=False)

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self.plane.account(self)
