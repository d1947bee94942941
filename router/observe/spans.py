"""Sampled requests on their way to control, which exports them as OpenTelemetry spans (`observe.otlp`).

A request is written down when it is over, as it stands in the exchange; words for it are found in control. Records are
handed over in batches, in a later turn of the loop than the request's. What control doesn't take is lost, and counted.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from time import time_ns
from typing import Any

from router.messages import AttemptRecord, SpanRecord, WorkerSettings
from router.observe.access_log import redacted
from router.observe.counters import Counter

BATCH = 256
"""Records that are handed over at once, or fewer at a tick of the clock."""
_LONGEST = 2048
"""Bytes of a target, user agent or host that are told."""


class Spans:
    """Records of one worker. `hand_over` gives a batch to control, False = it takes none just now."""

    __slots__ = ("_counters", "_hide_forwarded", "_hide_source", "_loop", "_records", "_redact", "hand_over")

    def __init__(self, loop: AbstractEventLoop, settings: WorkerSettings, counters: list[int]) -> None:
        self.hand_over: Callable[[list[SpanRecord]], bool] = lambda records: False
        self._loop = loop
        self._counters = counters
        self._redact = settings.redact_query_params
        self._hide_source = settings.disable_log_source_ip
        self._hide_forwarded = settings.disable_log_forwarded_for
        self._records: list[SpanRecord] = []

    def attempt_failed(self, exchange: Any, reason: str) -> None:
        """An attempt of a request (a `proxy.request_state.RequestState`) came to nothing."""
        span = exchange.trace.span if exchange.trace is not None else None
        if span is not None:
            span.attempts.append(_attempt(exchange, span, time_ns(), reason))
            span.attempt_over = True

    def record(self, exchange: Any) -> None:
        """Take one request that is over, if it is sampled."""
        span = exchange.trace.span if exchange.trace is not None else None
        if span is None:
            return
        if exchange.dispatched and exchange.endpoint is not None and not span.attempt_over:
            error = "" if exchange.head_at else exchange.router_error or "given up"
            span.attempts.append(_attempt(exchange, span, exchange.ended, error))
        request, spec = exchange.request, exchange.endpoint.spec if exchange.endpoint is not None else None
        meaning = exchange.meaning
        forwarded = b"" if self._hide_forwarded or meaning is None else meaning.forwarded_for
        self._records.append(
            SpanRecord(
                span.trace_id,
                span.id,
                span.parent_id,
                exchange.received,
                exchange.ended,
                request.method,
                exchange.frontend.secure,
                request.raw_host[:_LONGEST],
                redacted(request.method, request.target, self._redact)[:_LONGEST],
                request.version,
                exchange.pool.key if exchange.pool is not None else "",
                b"" if self._hide_source else exchange.frontend.peer,
                b"" if self._hide_source else forwarded.partition(b",")[0],
                request.noted.get(b"user-agent", b"")[:_LONGEST],
                exchange.status,
                exchange.bytes_in,
                exchange.bytes_out,
                exchange.router_error,
                exchange.request_id,
                (spec.app, spec.instance_id, spec.instance_index) if spec is not None else None,
                span.attempts,
            )
        )
        if len(self._records) == BATCH:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand over what has gathered."""
        records, self._records = self._records, []
        if records:
            taken = self.hand_over(records)
            self._counters[Counter.SPANS if taken else Counter.SPANS_LOST] += len(records)


def _attempt(exchange: Any, span: Any, ended: int, error: str) -> AttemptRecord:
    steps = exchange.steps if exchange.dialled else None
    return AttemptRecord(
        span.attempt_id,
        exchange.begun or exchange.dispatched,
        ended,
        exchange.endpoint.spec.host,
        exchange.endpoint.spec.port,
        exchange.endpoint.spec.tls,
        exchange.status if exchange.head_at else 0,
        error,
        (steps.lookup, steps.connect, steps.handshake) if steps is not None else None,
    )
