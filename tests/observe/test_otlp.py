"""Spans of requests at a real collector, next to the headers that backends got; and collectors that are no good."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from router.control import settings
from router.control.app import Control
from router.control.errors import StartError
from router.messages import AttemptRecord, EndpointSpec, SpanRecord
from router.observe import otlp
from router.observe.span_words import spans_of
from tests.support.collector import collector
from tests.support.processes import free_port
from tests.support.router import loaded, router
from tests.support.wire import OK, Backend, Client, answering, until

T32, P = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "GATHER", 0.02)


@asynccontextmanager
async def tracing(
    directory: Path, url: str, *, heads: list[bytes], dead_first: bool = False, config: Any = None, **otlp: Any
) -> AsyncIterator[tuple[Control, Client]]:
    """A router that exports to `url`, a client of it, and the app `shop.test/cart`, which keeps `heads`."""
    backend = Backend(answering(OK, heads=heads))
    await backend.start()
    on = {"backends": {"max_attempts": 3}, "logging": {"redact_query_params": "all"}, "tracing": {}, **(config or {})}
    on["tracing"] = {**on["tracing"], "otlp": {"endpoint": url, **otlp}}
    async with router(directory, **on) as control:
        ports = [free_port(), backend.port] if dead_first else [backend.port]
        for index, port in enumerate(ports):
            spec = EndpointSpec("127.0.0.1", port, app="shop-guid", instance_id=f"i{index}", instance_index=str(index))
            control.registry.register(spec, ["shop.test/cart"])
        plane = control.keeper.worker.plane  # type: ignore[union-attr]
        assert plane is not None
        await until(lambda: len(plane.table.endpoints) == len(ports))
        plane.table.pools["shop.test/cart"].strategy.position = 0
        client = await Client.to(control.port)
        try:
            yield control, client
        finally:
            client.close()
    await backend.stop()


def header(head: bytes, name: str) -> str:
    found = re.search(rf"(?i)\r\n{name}: ([^\r]*)\r\n", head.decode())
    return found[1] if found else ""


async def metric_is(control: Control, name: str, least: int) -> None:
    async with asyncio.timeout(10):
        while True:
            text = (await control.observing.metrics()).decode()
            value = sum(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
            if value >= least:
                return
            await asyncio.sleep(0.01)


async def test_a_request_its_attempts_and_what_the_backend_is_told(tmp_path: Path) -> None:
    heads: list[bytes] = []
    on = {"tracing": {"enable_zipkin": True, "enable_w3c": True}}
    async with (
        collector() as at,
        tracing(
            tmp_path,
            at.url,
            heads=heads,
            dead_first=True,
            config=on,
            headers=[{"name": "X-Token", "value": "hush"}],
            service_name="front",
        ) as (control, client),
    ):
        lines = (f"traceparent: 00-{T32}-{P}-01", "User-Agent: curl/8", "X-Forwarded-For: 192.0.2.1")
        status, head, _ = await client.get("shop.test:8080", "/cart/1?token=x", *lines)
        assert status == 200
        request, failed, last = await at.having(3)
        await metric_is(control, "router_spans_exported_total", 1)
    assert at.headers[0]["X-Token"] == "hush"
    # the tree, and what went to the backend
    assert {span.trace_id for span in at.spans} == {T32}
    assert (request.parent_id, failed.parent_id, last.parent_id) == (P, request.id, request.id)
    assert len({request.id, failed.id, last.id}) == 3
    assert header(heads[0], "traceparent") == f"00-{T32}-{last.id}-01"
    assert header(heads[0], "tracestate") == f"gorouter={last.id}"
    assert header(heads[0], "b3") == f"{T32}-{last.id}-1-{request.id}"
    assert header(heads[0], "X-B3-SpanId") == last.id
    # what they say
    assert (request.name, request.kind, request.error) == ("GET shop.test/cart", "SERVER", None)
    peer = request.attributes.pop("network.peer.port")
    assert peer > 0
    assert request.attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/cart/1",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "http.request.body.size": 0,
        "http.response.body.size": 2,
        "http.response.status_code": 200,
        "http.route": "/cart",
        "router.route": "shop.test/cart",
        "router.request_id": header(head, "X-Vcap-Request-Id"),
        "router.attempts": 2,
        "server.address": "shop.test",
        "server.port": 8080,
        "network.peer.address": "127.0.0.1",
        "client.address": "192.0.2.1",
        "user_agent.original": "curl/8",
        "cloudfoundry.app.id": "shop-guid",
        "cloudfoundry.app.instance.id": "1",
        "router.instance_id": "i1",
    }
    assert (failed.name, failed.kind) == ("GET", "CLIENT")
    assert failed.attributes["error.type"] == "connection refused"
    assert failed.error == failed.attributes["router.error"]
    assert "http.response.status_code" not in failed.attributes
    assert (last.attributes["http.request.resend_count"], last.attributes["http.response.status_code"]) == (1, 200)
    assert last.attributes["router.connection_reused"] is False
    assert last.attributes["router.dial_time"] > 0
    assert last.error is None
    assert 0 < last.seconds <= request.seconds
    assert request.resource["service.name"] == "front"


async def test_the_client_decides_then_the_share(tmp_path: Path) -> None:
    heads: list[bytes] = []
    async with collector() as at, tracing(tmp_path, at.url, heads=heads, sample_percent=0) as (_, client):
        await client.get("shop.test", "/cart")
        await client.get("shop.test", "/cart", f"traceparent: 00-{T32}-{P}-00")
        await client.get("shop.test", "/cart", f"traceparent: 00-{T32}-{P}-01")
        await client.get("nowhere.test", "/", f"traceparent: 00-{T32}-{P}-01")
        first, attempt, unknown = await at.having(3)
    assert header(heads[0], "traceparent").endswith("-00")
    assert header(heads[1], "traceparent").endswith("-00")
    assert header(heads[2], "traceparent") == f"00-{T32}-{attempt.id}-01"
    assert (first.parent_id, attempt.parent_id) == (P, first.id)
    assert (unknown.name, unknown.attributes["error.type"], unknown.error) == ("GET", "unknown_route", None)
    assert unknown.attributes["http.response.status_code"] == 404


async def test_a_collector_that_is_down_or_stuck_costs_spans_only(tmp_path: Path) -> None:
    answered = asyncio.Event()

    async def stuck() -> int:
        await answered.wait()
        return 400

    async with collector() as at:
        at.answer = stuck
        async with tracing(tmp_path, at.url, heads=[], queue_size=5, timeout="1s") as (control, client):
            for _ in range(20):
                assert (await client.get("shop.test", "/cart"))[0] == 200
            await metric_is(control, "router_spans_dropped_total", 20 - 5 - 5)  # 5 under way, 5 wait
            answered.set()
    async with tracing(tmp_path, f"http://127.0.0.1:{free_port()}", heads=[], timeout="100ms") as (control, client):
        assert (await client.get("shop.test", "/cart"))[0] == 200
        await metric_is(control, "router_spans_dropped_total", 1)
        await until(lambda: bool(control.figures.events.after(0, 10, "spans-not-exported")))


async def test_without_the_library_the_start_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None if "opentelemetry" in name else find_spec(name))
    config = loaded(tmp_path, tracing={"otlp": {"endpoint": "http://localhost:4318"}})
    with pytest.raises(StartError, match=r"tracing\.otlp\.endpoint: .* `pip install 'router\[otel\]'`"):
        Control(config)
    missing = loaded(tmp_path, tracing={"otlp": {"endpoint": "https://localhost:4318", "ca_file": "/no/such"}})
    monkeypatch.undo()
    with pytest.raises(StartError, match=r"tracing\.otlp\.ca_file: /no/such: No such file"):
        Control(missing)


def record(**more: Any) -> SpanRecord:
    values: dict[str, Any] = {
        "trace_id": b"1" * 32,
        "span_id": b"2" * 16,
        "parent_id": b"",
        "began": 10,
        "ended": 20,
        "method": b"GET",
        "secure": True,
        "host": b"[::1]",
        "target": b"/a?b",
        "version": b"2.0",
        "route": "a.test",
        "peer": b"[::2]:7",
        "client": b"",
        "user_agent": b"",
        "status": 200,
        "bytes_in": 0,
        "bytes_out": 0,
        "error": "",
        "request_id": b"id",
        "instance": None,
        "attempts": [],
        **more,
    }
    return SpanRecord(**values)


REFUSED = "endpoint_failure (dial tcp 1.2.3.4:5: connect: connection refused)"


@pytest.mark.parametrize(
    ("more", "name", "failed", "attributes"),
    [
        ({}, "GET a.test", None, {"server.address": "::1", "server.port": 443, "network.protocol.version": "2"}),
        ({}, "GET a.test", None, {"url.query": "b", "client.address": "::2", "network.peer.port": 7}),
        (
            {"method": b"BREW" * 40},
            "HTTP a.test",
            None,
            {"http.request.method": "_OTHER", "http.request.method_original": "BREW" * 16},
        ),
        ({"status": 503}, "GET a.test", "", {"error.type": "503"}),
        ({"status": 0, "route": ""}, "GET", "", {"url.path": "/a"}),
        ({"status": 502, "error": REFUSED}, "GET a.test", REFUSED, {"error.type": "connection refused"}),
        ({"host": b"a:b:c"}, "GET a.test", None, {"url.path": "/a"}),
        ({"target": b"/\xff"}, "GET a.test", None, {"url.path": "/\\xff"}),
        ({"peer": b"", "client": b"192.0.2.9"}, "GET a.test", None, {"client.address": "192.0.2.9"}),
    ],
)
def test_words(more: dict[str, Any], name: str, failed: str | None, attributes: dict[str, Any]) -> None:
    (told,) = spans_of(record(**more))
    assert (told.name, told.failed) == (name, failed)
    assert {key: told.attributes.get(key) for key in attributes} == attributes


def test_words_of_attempts() -> None:
    bad = AttemptRecord(b"3" * 16, 11, 12, "::1", 80, True, 0, "EOF", (0, 500, -1))
    good = AttemptRecord(b"4" * 16, 12, 19, "10.0.0.1", 80, False, 404, "", None)
    _, first, second = spans_of(record(attempts=[bad, good]))
    assert first.attributes["url.full"] == "https://[::1]:80/a?b"
    assert (first.attributes["router.dns_time"], first.attributes["router.dial_time"]) == (0, 5e-7)
    assert "router.tls_time" not in first.attributes
    assert (first.failed, first.attributes["error.type"]) == ("EOF", "EOF")
    assert (second.failed, second.attributes["error.type"]) == ("", "404")
    assert second.attributes["router.connection_reused"] is True
