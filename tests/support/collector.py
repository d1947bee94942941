"""An OpenTelemetry collector: takes OTLP over HTTP, decodes it, and keeps every span."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from multidict import CIMultiDictProxy
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TIMEOUT = 10.0


class Seen(NamedTuple):
    """One span as it came."""

    name: str
    kind: str
    """`SERVER` or `CLIENT`."""
    trace_id: str
    id: str
    parent_id: str
    attributes: dict[str, Any]
    error: str | None
    seconds: float
    resource: dict[str, Any]


class Collector:
    """`answer` is awaited for each batch and gives its status."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Seen] = []
        self.headers: list[CIMultiDictProxy[str]] = []
        self.answer: Callable[[], Awaitable[int]] = self._take
        self._changed = asyncio.Event()

    async def _take(self) -> int:
        return 200

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        status = await self.answer()
        if status == 200:
            self.headers.append(request.headers)
            self.spans += _spans(body)
            self._changed.set()
        return web.Response(status=status)

    async def having(self, count: int) -> list[Seen]:
        """All spans, when there are so many."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.spans) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.spans


def _spans(body: bytes) -> list[Seen]:
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return [
        Seen(
            span.name,
            {2: "SERVER", 3: "CLIENT"}[span.kind],
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _plain(span.attributes),
            span.status.message if span.status.code == 2 else None,
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            _plain(resource.resource.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector on loopback."""
    made = Collector()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", made.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
