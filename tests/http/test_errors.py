"""Answers of the router's own, byte for byte (contract §6). What a client or a backend said can't leave its line."""

from __future__ import annotations

import pytest

from router.http import errors
from router.http.errors import ErrorRow, endpoint_failure, error_answer, health_answer, options_answer, refusal
from tests.fuzz.oracle import check_heads

ROWS = [
    # row, status, X-Cf-RouterError, Cache-Control, text (contract §6, the table of row numbers)
    (errors.EMPTY_HOST, 400, "empty_host", "public,max-age=2", "400 Bad Request: Request had empty Host header"),
    (
        errors.INVALID_APP_INSTANCE,
        400,
        "invalid_cf_app_instance_header",
        "no-cache, no-store",
        "400 Bad Request: Invalid X-CF-App-Instance Header",
    ),
    (
        errors.INVALID_PROCESS_INSTANCE,
        400,
        "invalid_cf_process_instance_header",
        "no-cache, no-store",
        "400 Bad Request: Invalid X-CF-Process-Instance Header",
    ),
    (
        errors.UNKNOWN_ROUTE,
        404,
        "unknown_route",
        "no-cache, no-store",
        "404 Not Found: Requested route ('h') does not exist.",
    ),
    (
        errors.UNKNOWN_INSTANCE,
        400,
        "unknown_route",
        "no-cache, no-store",
        "400 Bad Request: Requested instance ('3') with guid ('g') does not exist for route ('h')",
    ),
    (
        errors.NO_ENDPOINTS,
        503,
        "no_endpoints",
        "public,max-age=2",
        "503 Service Unavailable: Requested route ('h') has no available endpoints.",
    ),
    (
        errors.CONNECTION_LIMIT,
        503,
        "Connection Limit Reached",
        "",
        "503 Service Unavailable: Requested route ('h') has reached the connection limit.",
    ),
    (errors.HEAD_TOO_LARGE, 431, "max-request-size-exceeded", "", ""),
]


@pytest.mark.parametrize(("row", "status", "reason", "caching", "text"), ROWS, ids=lambda value: repr(value)[:40])
def test_rows(row: ErrorRow, status: int, reason: str, caching: str, text: str) -> None:
    answer = error_answer(row, b"h", guid="g", index="3")
    assert (answer.status, answer.router_error) == (status, reason)
    assert f"X-Cf-RouterError: {reason}\r\n".encode() in answer.headers
    assert (f"Cache-Control: {caching}\r\n".encode() in answer.headers) is bool(caching)
    assert b"Content-Length: %d\r\n" % len(answer.body) in answer.headers
    assert answer.body == (f"{text}\n".encode() if text else b"")


def test_hints_stand_below_the_message() -> None:
    assert error_answer(errors.UNKNOWN_ROUTE, b"h", ["Look here."]).body.endswith(b"exist.\nLook here.\n")


HOSTILE = ["a\r\nSet-Cookie: x", "a\nb", "a\0b", "a\x7fb", "\u2028", "é", "x" * 9000]


@pytest.mark.parametrize("reason", HOSTILE, ids=lambda value: repr(value)[:20])
def test_a_reason_stays_in_its_line(reason: str) -> None:
    """RFC 9110 §5.5: no control characters in values, whatever a backend sent."""
    answer = endpoint_failure(502, reason)
    check_heads(b"HTTP/1.1 502 Bad Gateway\r\n" + answer.headers + b"\r\n")
    assert answer.headers.count(b"\r\n") == 4


@pytest.mark.parametrize("host", [b"a'b", b"\xff\xfe", "bücher.test".encode(), b"{0}", b"<script>"])
def test_any_host_can_be_named(host: bytes) -> None:
    answer = error_answer(errors.UNKNOWN_ROUTE, host)
    assert answer.status == 404
    check_heads(b"HTTP/1.1 404 Not Found\r\n" + answer.headers + b"\r\n")
    answer.body.decode()


@pytest.mark.parametrize("status", [400, 405, 408, 414, 431, 501, 503, 505])
def test_a_refusal_closes_and_says_how_long_it_is(status: int) -> None:
    whole = refusal(status, "because é", b"Retry-After: 1\r\n")
    check_heads(whole)
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in head
    assert b"\r\nRetry-After: 1" in head
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert body.decode().endswith(": because é\n")


def test_answers_that_are_no_errors() -> None:
    assert health_answer(True).body == b"ok\n"
    assert health_answer(False).status == 503
    assert options_answer().status == 200
