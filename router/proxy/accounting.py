"""What is written down of requests that are over: figures by endpoint, lines of the access log, failures one by one.

Exchanges that are over wait to be settled `BATCH` at a time, and before anybody looks. The code that does so and what
it works on are then in the caches of the processor, which the work on the requests empties: it costs a third less.
"""

from __future__ import annotations

from collections import defaultdict
from time import time_ns
from typing import TYPE_CHECKING

from router.messages import EndpointStats, FailedRequest, Stats
from router.observe.access_log import AccessLog, redacted
from router.observe.accounts import LOOKUP_LONG, LOOKUP_STEP, LOOKUP_STEPS, MAX_FAILURES, Account, kind_of
from router.observe.counters import RESPONSE_CLASSES, Counter
from router.observe.histogram import (
    BACKEND,
    BACKEND_CELLS,
    DIAL,
    FAST,
    ROUTER,
    ROUTER_CELLS,
    TOTAL,
    TOTAL_CELLS,
    bucket,
)
from router.observe.log import Log
from router.observe.spans import Spans

if TYPE_CHECKING:
    from router.proxy.request_state import RequestState
    from router.table.endpoint import Endpoint

BATCH = 64
"""Exchanges that are settled at once: few enough to stay in the cache."""
_SHOWN = 1024
"""Bytes of a target or host that are told of a failed request."""
_FIRST_CLASS = int(Counter.RESPONSES_2XX)


class Accounting:
    """The books of one worker. `counters` are the worker's."""

    def __init__(self, log: Log, counters: list[int]) -> None:
        self._log = log
        self.counters = counters
        self.access_log: AccessLog | None = None
        self.redact = "none"
        """How queries are told of (contract §12.2)."""
        self.spans: Spans | None = None
        """Sampled requests, where spans are exported."""
        self.lookups = [0] * (LOOKUP_STEPS + 1)
        """Look-ups of a route by their time, in steps of `LOOKUP_STEP`."""
        self.lookup_ns = 0
        self._over: list[RequestState] = []
        self._active: list[Endpoint] = []
        """Endpoints with an account."""
        self._reasons: dict[str, int] = defaultdict(int)
        self._failures: list[FailedRequest] = []

    def add(self, exchange: RequestState) -> None:
        """One request is over."""
        exchange.ended = time_ns()
        if self.spans is not None:
            self.spans.record(exchange)
        self._over.append(exchange)
        if len(self._over) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Enter the exchanges that wait."""
        over, self._over = self._over, []
        for exchange in over:
            received, dispatched = exchange.received, exchange.dispatched
            took = exchange.took = (exchange.ended - received) // 1000
            spent = exchange.spent = (dispatched - received) // 1000
            waited = exchange.waited = (exchange.head_at - dispatched) // 1000
            if exchange.unusual or not (0 <= took < FAST and 0 <= spent < FAST and 0 <= waited < FAST):
                account = self._unusual(exchange)
                if account is None:
                    continue
            else:
                endpoint: Endpoint = exchange.endpoint  # type: ignore[assignment]  # who answered
                account = endpoint.account or self._open_account(endpoint)
                cells = account.cells
                cells[TOTAL_CELLS[took]] += 1
                cells[ROUTER_CELLS[spent]] += 1
                cells[BACKEND_CELLS[waited]] += 1
            account.classes[RESPONSE_CLASSES[exchange.status]] += 1
            try:
                account.clients[exchange.client] += 1
            except KeyError:
                account.add_client(exchange.client)
            if exchange.bytes_in:
                account.bytes_in += exchange.bytes_in
            account.bytes_out += exchange.bytes_out
        self._enter_lookups([exchange.looked_up for exchange in over])
        if self.access_log is not None:
            self.access_log.write(over)

    def attempt_failed(self, endpoint: Endpoint, reason: str) -> None:
        """An attempt at this endpoint came to nothing."""
        account = endpoint.account or self._open_account(endpoint)
        account.failures += 1
        account.reason = reason

    def _unusual(self, exchange: RequestState) -> Account | None:
        """What most requests don't have, and times of any length. The account of its endpoint, if it had one."""
        exchange.unusual = True
        if exchange.router_error:
            self._failed(exchange)
        elif b";" in exchange.request.target:
            # Contract §5.6: seen in the access log only, where nothing worse is to be said.
            self._log.warn("deprecated-semicolon-params", vcap_request_id=exchange.request_id.decode())
            exchange.router_error = "deprecated-semicolon-params"
        if exchange.upgrade and exchange.status != 101:
            self.counters[Counter.UPGRADE_FAILURES] += 1
        dispatched = exchange.dispatched or exchange.received
        sent = (exchange.begun or dispatched) + exchange.dialled
        exchange.spent = (dispatched - exchange.received) // 1000
        exchange.waited = (exchange.head_at - sent) // 1000
        endpoint = exchange.endpoint
        if endpoint is None:
            return None
        account: Account = endpoint.account or self._open_account(endpoint)
        account.cells[TOTAL + bucket(exchange.took)] += 1
        account.cells[ROUTER + bucket(exchange.spent)] += 1
        if exchange.head_at:
            account.cells[BACKEND + bucket(exchange.waited)] += 1
            if exchange.dialled:
                account.cells[DIAL + bucket(exchange.dialled // 1000)] += 1
        return account

    def _enter_lookups(self, times: list[int]) -> None:
        """Nanoseconds that look-ups took, 0 = not timed. Most take less than a step."""
        self.lookup_ns += sum(times)
        self.lookups[0] += len(times) - times.count(0)
        if max(times, default=0) >= LOOKUP_STEP:
            for took in times:
                if took >= LOOKUP_STEP:
                    self.lookups[0] -= 1
                    self.lookups[took // LOOKUP_STEP if took < LOOKUP_LONG else LOOKUP_STEPS] += 1

    def _failed(self, exchange: RequestState) -> None:
        self._reasons[kind_of(exchange.router_error)] += 1
        if len(self._failures) >= MAX_FAILURES:
            return
        request, endpoint = exchange.request, exchange.endpoint
        told = (request.method, request.raw_host, redacted(request.method, request.target, self.redact))
        method, host, target = (text[:_SHOWN].decode("utf-8", "backslashreplace") for text in told)
        self._failures.append(
            FailedRequest(
                exchange.received,
                exchange.ended - exchange.received,
                exchange.request_id.decode(),
                method,
                host,
                target,
                exchange.status,
                exchange.router_error,
                endpoint.spec.app if endpoint is not None else "",
                endpoint.address if endpoint is not None else "",
                exchange.attempt,
            )
        )

    def _open_account(self, endpoint: Endpoint) -> Account:
        account = endpoint.account = Account()
        self._active.append(endpoint)
        return account

    def mention(self, endpoint: Endpoint) -> None:
        """The next report tells of this endpoint, even if nothing came."""
        if endpoint.account is None:
            self._open_account(endpoint)

    def report(self, **now: int) -> Stats:
        """Figures for control: totals, and what came since the last call; `now` are those of this moment."""
        self.settle()
        stats = Stats(
            endpoints=[self._close_account(endpoint) for endpoint in self._active],
            counters=list(self.counters),
            reasons=self._reasons,
            failures=self._failures,
            lookups=self.lookups,
            lookup_ns=self.lookup_ns,
            **now,
        )
        self._active, self._failures, self._reasons = [], [], defaultdict(int)
        self.lookups, self.lookup_ns = [0] * (LOOKUP_STEPS + 1), 0
        return stats

    def _close_account(self, endpoint: Endpoint) -> EndpointStats:
        account: Account = endpoint.account
        endpoint.account = None
        for number, count in enumerate(account.classes, _FIRST_CLASS):
            self.counters[number] += count
        return account.report(endpoint.spec, endpoint.state, endpoint.failed_for)
