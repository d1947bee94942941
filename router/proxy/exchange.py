"""One request and its response: the only thing that frontends and backends have in common.

The frontend tells what the client does (`start`, `request_body`, `request_complete`, `client_gone`), the backend what
came back (`response_head`, `response_body`, `response_complete`, `attempt_failed`); the exchange routes, picks,
repeats, and commands both (`send_head`, `send_body`, `finish`, `abort`). At its end it is accounted for exactly once.

It knows no protocol: what the router itself says in a head is passed to both sides as header lines (`Name: value`, each
with CRLF), bodies as payload; how a message is framed, and what that needs in its head, is theirs.

The way of a plain request is kept flat and long on purpose: it is what a worker spends its time on.
"""

from __future__ import annotations

from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from router.http import errors
from router.http.instance import wanted
from router.http.message import CHUNKED, NO_BODY, NO_TRAILERS, HeaderList
from router.http.request import RequestHead
from router.http.response import ResponseHead
from router.observe.counters import Counter
from router.proxy.attempts import Attempts
from router.proxy.backend_h1 import BackendH1
from router.proxy.failures import Failure, Retry
from router.proxy.meaning import Meaning

if TYPE_CHECKING:
    from router.table.pool import Pool


class Exchange(Attempts):
    """A request on its way."""

    __slots__ = ()

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
            self.looked_up = perf_counter_ns() - began
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
                self.unusual = True

    def _only_instance(self, pool: Pool | None) -> Pool | None:
        """The part of the pool that an instance header asks for (contract §3.5), or an answer that there is none."""
        want = wanted(self.request.noted)
        if want is None:
            return pool
        if isinstance(want, errors.ErrorRow):
            self.refuse(want)
            return None
        chosen = pool.only(want.matches, self.plane.strategies.make) if pool is not None else None
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
        self.local_address = backend.local
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
        self._counted = False
        self.plane.own_lane[self.endpoint.slot] -= 1  # type: ignore[union-attr]
        if self.plane.queue.waiting:
            self.plane.loop.call_soon(self.plane.queue.advance)
        self._finished = True
        self.local_address = self.backend.local  # type: ignore[union-attr]
        self.backend = None
        self.plane.accounting.add(self)
        if trailers and not self.takes_trailers:
            trailers = NO_TRAILERS
        self.frontend.finish(trailers)

    def backend_full(self) -> None:
        """The backend reads more slowly than the client writes."""
        self.frontend.pause_reading()

    def backend_drained(self) -> None:
        """The backend has caught up."""
        self.frontend.resume_reading()
