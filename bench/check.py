"""Is it a proxy at all? Asked of each one before anything is measured, and a wrong answer ends the bench.

- Every scenario's request gets status 200 and the backend's body, whole.
- The backend sees the client's Host; behind a proxy said to do the router's work, also the router's headers.
- Such a proxy answers with the request id the backend saw, and its log soon names that id.
"""

import http.client
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from .errors import BenchError
from .proxies import Proxy
from .proxies.base import APP_ID, INSTANCE_ID, INSTANCE_INDEX, Running
from .scenarios import HOST, SMALL_BODY, Scenario

CLIENT = "203.0.113.7"
LOG_SECONDS = 3.0

EXPECTED = {
    "X-Forwarded-For": rf"{CLIENT}, ?[\d.]+",  # Envoy puts its own address for a peer on loopback
    "X-Forwarded-Proto": "http",
    "X-Request-Start": r"\d{10}\.?\d{3}",
    "X-Vcap-Request-Id": r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}",
    "X-CF-ApplicationID": APP_ID,
    "X-CF-InstanceID": INSTANCE_ID,
    "X-CF-InstanceIndex": INSTANCE_INDEX,
}


def check(proxy: Proxy, running: Running, scenarios: Iterable[Scenario]) -> None:
    """Raise BenchError unless this proxy forwards as it should."""
    for scenario in scenarios:
        _check_scenario(proxy, running.port, scenario)
    ids = [_check_headers(proxy, running.port) for _ in range(2)]
    if proxy.like_router:
        if ids[0] == ids[1]:
            raise BenchError(f"{proxy.name}: two requests have the same id {ids[0]}")
        if running.access_log:
            _check_log(proxy, running.access_log, ids[1])


def _check_scenario(proxy: Proxy, port: int, scenario: Scenario) -> None:
    body = b"x" * scenario.body_bytes or None
    status, _, answer = _ask(port, scenario.method, scenario.path, scenario.sent_headers, body)
    whole = SMALL_BODY if scenario.path == "/small" else b"x" * scenario.answer_bytes
    if status != 200:
        raise BenchError(f"{proxy.name}: status {status} in scenario {scenario.name}")
    if answer != whole:
        raise BenchError(
            f"{proxy.name}: {len(answer)} bytes, not the backend's {len(whole)}, in scenario {scenario.name}"
        )


def _check_headers(proxy: Proxy, port: int) -> str:
    """What the backend saw; returns the request id it was given."""
    _, headers, body = _ask(port, "GET", "/seen", {"Host": HOST, "X-Forwarded-For": CLIENT}, None)
    seen = dict(line.split(": ", 1) for line in body.decode().splitlines())
    expected = {"Host": re.escape(HOST), **(EXPECTED if proxy.like_router else {})}
    for name, pattern in expected.items():
        if not re.fullmatch(pattern, seen[name]):
            raise BenchError(f"{proxy.name}: the backend saw {name}: {seen[name]!r}, expected {pattern}")
    request_id = seen["X-Vcap-Request-Id"]
    if proxy.like_router and headers.get("x-vcap-request-id") != request_id:
        raise BenchError(f"{proxy.name}: the answer's X-Vcap-Request-Id is not the one the backend saw")
    return request_id


def _check_log(proxy: Proxy, log: Path, request_id: str) -> None:
    deadline = time.monotonic() + LOG_SECONDS
    while request_id.encode() not in log.read_bytes():
        if time.monotonic() > deadline:
            raise BenchError(f"{proxy.name}: no line with request id {request_id} in its access log")
        time.sleep(0.1)


def _ask(
    port: int, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"port {port}: {method} {path}: {error or type(error).__name__}") from None
    finally:
        connection.close()
