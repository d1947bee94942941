"""Export of spans over OTLP (HTTP, protobuf), by OpenTelemetry's own exporter, in a thread of its own in control.

Sampled requests wait in a bounded queue; a collector that is slow or away makes it full, and then what comes is lost
and counted. Nothing else ever waits for a collector. The library (extra `otel`) is loaded in the thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from router.messages import SpanRecord
from router.observe.log import Log
from router.observe.span_words import Told, spans_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

BATCH = 256
"""Requests that are sent at once at most."""
GATHER = 1.0
"""Seconds for which requests gather before they are sent."""
_LIBRARY = "opentelemetry"


class Export(NamedTuple):
    """Where spans go. `timeout` are seconds for one batch, repetitions included; `queue` counts requests."""

    endpoint: str
    headers: dict[str, str]
    ca_file: str
    timeout: float
    queue: int
    resource: dict[str, str | int]
    """Attributes of the router itself."""


class Exporter:
    """`add` is for the event loop, and never blocks; `sent` and `lost` count requests."""

    def __init__(self, settings: Export, log: Log) -> None:
        self.sent = 0
        self._refused = 0
        """What the queue had no room for."""
        self._failed = 0
        """What the collector did not take."""
        self.settings = settings
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._records: deque[SpanRecord] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._works = True
        self._client: Any = None
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Requests of which nothing was exported."""
        return self._refused + self._failed

    def add(self, records: list[SpanRecord]) -> None:
        """Queue these for export; what is too many is lost."""
        room = self.settings.queue - len(self._records)
        with self._changed:
            self._records.extend(records[:room])
            if len(self._records) >= BATCH:
                self._changed.notify()
        self._refused += max(len(records) - room, 0)

    async def stop(self, wait: float) -> None:
        """Send what is there for at most `wait` seconds, not if nothing got through of late; what is left is lost."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, wait if self._works else 0.0)
        if self._client is not None:
            self._client.shutdown()  # it may be waiting to try again
        self._refused += len(self._records)

    # -------------------------------------------------------- in the thread

    def _run(self) -> None:
        try:
            make = self._prepare()
        except Exception as error:
            self._say(self._log.error, "spans-not-exported", error=repr(error))
            return
        while batch := self._next_batch():
            self._heard.first = ""
            try:
                spans = [make(told) for record in batch for told in spans_of(record)]
                worked = self._client.export(spans).name == "SUCCESS"
            except Exception as error:
                worked = False
                self._heard.first = repr(error)
            if worked:
                self.sent += len(batch)
            else:
                self._failed += len(batch)
            self._tell(worked)

    def _next_batch(self) -> list[SpanRecord]:
        """What is to be sent next; empty = all is done, and nothing more will come."""
        with self._changed:
            until = time.monotonic() + GATHER
            while not self._stopping and len(self._records) < BATCH:
                left = until - time.monotonic()
                if left <= 0 and self._records:
                    break
                self._changed.wait(left if left > 0 else GATHER)
            return [self._records.popleft() for _ in range(min(len(self._records), BATCH))]

    def _tell(self, works: bool) -> None:
        """Say so when the collector goes away, and when it is back."""
        if works and not self._works:
            self._say(self._log.info, "spans-exported-again", lost=self.lost)
        elif self._works and not works:
            self._say(self._log.warn, "spans-not-exported", error=self._heard.first, lost=self.lost)
        self._works = works

    def _say(self, log: Callable[..., None], event: str, **data: Any) -> None:
        """The log belongs to the event loop."""
        try:
            self._loop.call_soon_threadsafe(partial(log, event, endpoint=self.settings.endpoint, **data))
        except RuntimeError:
            pass  # the loop has ended

    def _prepare(self) -> Any:
        """Load the library and make the exporter; gives what makes a span of the library's of what is told."""
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        settings = self.settings
        self._heard = _Heard.of_library()
        self._client = OTLPSpanExporter(
            endpoint=settings.endpoint,
            certificate_file=settings.ca_file or None,
            headers=settings.headers,
            timeout=settings.timeout,
            compression=Compression.Gzip,
        )
        resource = Resource(settings.resource)
        scope = InstrumentationScope("router", str(settings.resource.get("service.version", "")))
        sampled = TraceFlags(TraceFlags.SAMPLED)

        def context(trace_id: int, id: bytes, remote: bool) -> SpanContext:
            return SpanContext(trace_id, int(id, 16), remote, sampled)

        def make(told: Told) -> ReadableSpan:
            trace_id = int(told.trace_id, 16)
            return ReadableSpan(
                told.name,
                context(trace_id, told.id, False),
                context(trace_id, told.parent_id, told.parent_is_remote) if told.parent_id else None,
                resource,
                told.attributes,
                kind=SpanKind.SERVER if told.server else SpanKind.CLIENT,
                status=Status(StatusCode.UNSET) if told.failed is None else Status(StatusCode.ERROR, told.failed),
                start_time=told.began,
                end_time=max(told.ended, told.began),
                instrumentation_scope=scope,
            )

        return make


class _Heard(logging.Handler):
    """What the library logs: kept for our own log instead of standing on standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        """What it said first about the batch under way: the cause."""

    @classmethod
    def of_library(cls) -> _Heard:
        """The one that listens to the library; made once."""
        logger = logging.getLogger(_LIBRARY)
        for handler in logger.handlers:
            if isinstance(handler, cls):
                return handler
        heard = cls()
        logger.addHandler(heard)
        logger.propagate = False
        return heard

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()
