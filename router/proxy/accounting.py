"""What is written down of requests that are over: figures by endpoint, lines of the access log, failures one by one.

While a request is on its way only a row of what will be wanted is taken down; rows are settled `BATCH` at a time, and
before anybody looks. The code that does so and what it works on are then in the processor's caches, which the work on
the requests in between empties: so it costs a third less. What few requests have is seen to at once.
"""

from __future__ import annotations

from collections import defaultdict
from time import time_ns
from typing import TYPE_CHECKING

from router.messages import EndpointStats, FailedRequest, Stats
from router.observe.access_log import AccessLog, Note, redacted
from router.observe.accounts import LOOKUP_STEPS, MAX_FAILURES, Account, kind_of
from router.observe.counters import RESPONSE_CLASSES, Counter
from router.observe.histogram import BACKEND, BACKEND_CELLS, DIAL, FAST, ROUTER, ROUTER_CELLS, TOTAL_CELLS, bucket
from router.observe.log import Log
from router.observe.spans import Spans

if TYPE_CHECKING:
    from router.proxy.request_state import RequestState
    from router.table.endpoint import Endpoint

BATCH = 64
"""Rows that are settled at once: few enough to stay in the cache."""
_SEMICOLON = ord(";")
"""Sought as an octet: as bytes, it would take five times as long."""
_SHOWN = 1024
"""Bytes of a target or host that are told of a failed request."""
_FIRST_CLASS = int(Counter.RESPONSES_2XX)

Row = tuple[int, int, int, int, int, int, int, int, bytes, "Endpoint | None", "Note | None"]
"""When it ended, came, was first dispatched, was sent, got its head (unix ns, 0 = never); status; bytes in and out;
client; endpoint; what else its line in the access log needs."""


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
        self._rows: list[Row] = []
        self._active: list[Endpoint] = []
        """Endpoints with an account."""
        self._reasons: dict[str, int] = defaultdict(int)
        self._failures: list[FailedRequest] = []

    def add(self, exchange: RequestState) -> None:
        """One request is over."""
        ended = time_ns()
        dispatched = sent = exchange.dispatched
        if exchange.begun or exchange.dialled:
            sent = self._attempt(exchange, dispatched)
        if exchange.router_error or exchange.upgrade or _SEMICOLON in exchange.request.target:
            self._rare(exchange, ended)
        log = self.access_log
        self._rows.append(
            (
                ended,
                exchange.received,
                dispatched,
                sent,
                exchange.head_at,
                exchange.status,
                exchange.bytes_in,
                exchange.bytes_out,
                exchange.client,
                exchange.endpoint,
                None if log is None else log.note(exchange, ended),
            )
        )
        if self.spans is not None:
            self.spans.record(exchange, ended)
        if len(self._rows) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Enter the rows that wait."""
        rows, self._rows = self._rows, []
        times: list[tuple[int, int, int]] = []
        for ended, received, dispatched, sent, head_at, status, bytes_in, bytes_out, client, endpoint, _ in rows:
            took = (ended - received) // 1000
            spent = (dispatched - received) // 1000 if dispatched else 0
            waited = (head_at - sent) // 1000
            times.append((took, spent, waited))
            if endpoint is None:
                continue
            account = endpoint.account or self._open_account(endpoint)
            account.classes[RESPONSE_CLASSES[status]] += 1
            try:
                account.clients[client] += 1
            except KeyError:
                account.add_client(client)
            account.bytes_in += bytes_in
            account.bytes_out += bytes_out
            cells = account.cells
            cells[TOTAL_CELLS[took] if 0 <= took < FAST else bucket(took)] += 1
            cells[ROUTER_CELLS[spent] if 0 <= spent < FAST else ROUTER + bucket(spent)] += 1
            if head_at:
                cells[BACKEND_CELLS[waited] if 0 <= waited < FAST else BACKEND + bucket(waited)] += 1
        if self.access_log is not None:
            self.access_log.write(rows, times)

    def attempt_failed(self, endpoint: Endpoint, reason: str) -> None:
        """An attempt at this endpoint came to nothing."""
        account = endpoint.account or self._open_account(endpoint)
        account.failures += 1
        account.reason = reason

    def _attempt(self, exchange: RequestState, dispatched: int) -> int:
        """The last attempt was not the first, or had to connect: when its request went out."""
        if exchange.dialled and exchange.head_at and exchange.endpoint is not None:
            account = exchange.endpoint.account or self._open_account(exchange.endpoint)
            account.cells[DIAL + bucket(exchange.dialled // 1000)] += 1
        return (exchange.begun or dispatched) + exchange.dialled

    def _rare(self, exchange: RequestState, ended: int) -> None:
        if exchange.router_error:
            self._failed(exchange, ended)
        elif _SEMICOLON in exchange.request.target:
            # Contract §5.6: seen in the access log only, where nothing worse is to be said.
            self._log.warn("deprecated-semicolon-params", vcap_request_id=exchange.request_id.decode())
            exchange.router_error = "deprecated-semicolon-params"
        if exchange.upgrade and exchange.status != 101:
            self.counters[Counter.UPGRADE_FAILURES] += 1

    def _failed(self, exchange: RequestState, ended: int) -> None:
        self._reasons[kind_of(exchange.router_error)] += 1
        if len(self._failures) >= MAX_FAILURES:
            return
        request, endpoint = exchange.request, exchange.endpoint
        told = (request.method, request.raw_host, redacted(request.method, request.target, self.redact))
        method, host, target = (text[:_SHOWN].decode("utf-8", "backslashreplace") for text in told)
        self._failures.append(
            FailedRequest(
                exchange.received,
                ended - exchange.received,
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
