"""The attempts of a request at endpoints: pick one, connect, send, and repeat elsewhere what may be repeated.

A failed attempt is a value (`proxy.failures`); what follows from it is decided in `attempt_failed` (contract §7).
"""

from __future__ import annotations

import traceback
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from router.http import errors
from router.observe.counters import Counter
from router.proxy.connections import Connections, Steps
from router.proxy.dialling import connect
from router.proxy.failures import IDEMPOTENT, NOTHING_TO_CHOOSE, TIMED_OUT, Failure, Retry
from router.proxy.hedge import Hedge
from router.proxy.request_state import RequestState

if TYPE_CHECKING:
    from router.proxy.connections import Backend
    from router.table.endpoint import Endpoint
    from router.table.pool import Pool

_REQUESTS = int(Counter.REQUESTS)
CONTINUE_WAIT = 1.0
"""Seconds to wait for a backend's 100 before the router sends its own (contract §8.5)."""


class Attempts(RequestState):
    """A request that is being sent to one endpoint after the other, until one answers."""

    __slots__ = ()

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
            self.unusual = True
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
            self._dialling = connect(plane, endpoint, connections, self, only_h1=bool(self.upgrade))

    def _settle(self, endpoint: Endpoint) -> Endpoint:
        """Now that all workers see the count, the strategy may still prefer another endpoint."""
        pool = self.picked_from
        assert pool is not None
        assert pool.settle is not None
        try:
            endpoint = self.endpoint = pool.settle(pool, endpoint, self)
        except Exception as error:
            self.plane.strategies.eject(pool, error)
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
                self.plane.strategies.eject(pool, error)

    def connected(self, outcome: Backend | Failure, steps: Steps, took: int) -> None:
        """There is a connection to the endpoint, or none; it took so many nanoseconds."""
        self._dialling = None
        self.steps = steps
        self.dialled = took
        self.unusual = True
        if isinstance(outcome, Failure):
            self.attempt_failed(outcome, stale=False)
        else:
            self._send(outcome)

    def _send(self, backend: Backend) -> None:
        self.backend = backend
        replay = self._replay
        assert replay is not None
        if self.expects:
            self.continue_by = self.plane.clock.now + CONTINUE_WAIT
        if self.bytes_in:
            self.frontend.resume_reading()  # it may have been paused for the attempt before, or for want of one
        backend.start(self, b"".join(replay) if replay else b"")  # type: ignore[arg-type]  # only exchanges attempt
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
        self._leave_backend()
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
            self._leave_backend()
        self._uncount()

    def _leave_backend(self) -> None:
        if self.responding and self.backend is not None:
            self.local_address = self.backend.local
        self.backend = None

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            assert self.endpoint is not None
            self.plane.own_lane[self.endpoint.slot] -= 1
            if self.plane.queue.waiting:
                self.plane.loop.call_soon(self.plane.queue.advance)

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

    # -------------------------------------------------------- time

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
            self.hedge = Hedge(self, other)  # type: ignore[arg-type]
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
