"""What the router itself says, over the wire: error pages, traces, access log (contract §5.4, §5.6, §6, §12.2)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from router.proxy.exchange import Exchange
from tests.support.wire import OK, answering, request, serving


async def test_a_client_that_asks_for_json_gets_it_and_others_the_template() -> None:
    async with serving(html_error_template="<h1>{{.Status}}</h1>") as (bench, _):
        client = await bench.client()
        status, head, body = await client.get("nope.test", "/", "Accept: application/json")
        assert (status, b"Content-Type: application/json\r\n" in head) == (404, True)
        assert json.loads(body)["router_error"] == "unknown_route"
        assert (await client.get("nope.test", "/", "Accept: text/html"))[2] == b"<h1>404</h1>"
        await client.send(request("nope.test", method="HEAD"))
        _, head, body = await client.response(b"HEAD")
        assert (b"Content-Length: 12\r\n" in head, body) == (True, b"")


async def test_without_an_agent_for_health_checks_nothing_is_taken_for_one() -> None:
    async with serving(answering(OK), healthcheck_user_agent="") as (bench, _):
        client = await bench.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        status, _, _ = await client.response(b"GET")
        assert status == 200


async def test_traces_reach_backend_response_and_log(tmp_path: Path) -> None:
    heads: list[bytes] = []
    log = tmp_path / "access.log"
    trace = "463ac35c9f6413ad48485a3953bb6124"
    settings = {"trace_zipkin": True, "trace_w3c": True, "access_log_file": str(log)}
    async with serving(answering(OK, heads=heads), **settings) as (bench, _):
        client = await bench.client()
        lines = (f"X-B3-TraceId: {trace}", "X-B3-SpanId: a2fb4a1d1a96d312", "Connection: X-B3-TraceId, b3, traceparent")
        _, head, _ = await client.get("app.test", "/", *lines)
        assert b"\r\nX-Vcap-Request-Id: 463ac35c-9f64-13ad-4848-5a3953bb6124\r\n" in head
        await client.get("nope.test")
    assert heads[0].count(b"X-B3-TraceId: " + trace.encode()) == 1
    assert b"\r\nb3: 463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312\r\n" in heads[0]
    assert b"\r\ntraceparent: 00-463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-01\r\n" in heads[0]
    first, second = log.read_text().splitlines()
    assert f'x_b3_traceid:"{trace}" x_b3_spanid:"a2fb4a1d1a96d312" x_b3_parentspanid:"-" b3:"{trace}-' in first
    assert f'traceparent:"00-{trace}-' in first
    assert re.search(r'x_b3_traceid:"[0-9a-f]{32}"', second)


SEMICOLONS = [
    ("app.test", "/a;b?c", "deprecated-semicolon-params"),
    ("app.test", "/?a=1;b=2", "deprecated-semicolon-params"),
    ("app.test", "/?a=1&b=2", "-"),
    ("nope.test", "/?a;b", "unknown_route"),
]


@pytest.mark.parametrize(("host", "target", "reason"), SEMICOLONS)
async def test_semicolons_are_seen_in_the_access_log_only(tmp_path: Path, host: str, target: str, reason: str) -> None:
    log = tmp_path / "access.log"
    async with serving(answering(OK), access_log_file=str(log)) as (bench, _):
        client = await bench.client()
        _, head, _ = await client.get(host, target)
        assert b"semicolon" not in head
    assert ("deprecated-semicolon-params" in bench.log.names()) is (reason == "deprecated-semicolon-params")
    assert f'x_cf_routererror:"{reason}"' in log.read_text()


async def test_a_fault_of_the_router_is_502_and_nothing_else_is_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(OK)) as (bench, _):
        client = await bench.client()
        with monkeypatch.context() as broken:
            broken.setattr(Exchange, "_next_attempt", lambda exchange, last: 1 // 0)
            status, head, body = await client.get()
        assert (status, body, b"X-Cf-RouterError: unknown_failure\r\n" in head) == (502, b"", True)
        assert bench.log.names() == ["panic-check"]
        assert (await client.get())[0] == 200
