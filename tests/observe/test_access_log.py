"""The access log, line by line (contract §12.1, §12.2), of requests that went through a data plane."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from router.messages import WorkerSettings
from router.observe.access_log import AccessLog, quoted, redacted
from tests.support import certs
from tests.support.wire import Backend, Client, answering, serving

ANSWER = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"

VARIES = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", "TIME"),
    (r'"127\.0\.0\.1:\d+"', '"PEER"'),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"response_time:\d+\.\d{6}", "response_time:S"),
    (r"gorouter_time:(?!0\.000000)\d+\.\d{6}", "gorouter_time:S"),
)

NOWHERE = 'app_id:"-" app_index:"-" instance_id:"-"'
SOMEWHERE = 'app_id:"app-guid" app_index:"0" instance_id:"instance-0"'


async def line_of(tmp_path: Path, request: bytes, answer: bytes = ANSWER, body: int = 0, **settings: Any) -> str:
    """The line of one request, what varies replaced."""
    path = tmp_path / "access.log"
    async with serving(answering(answer, body=body), access_log_file=str(path), **settings) as (bench, _):
        client = await bench.client()
        await client.send(request)
        await client.response()
    (line,) = path.read_bytes().decode().splitlines()
    for pattern, name in VARIES:
        line = re.sub(pattern, name, line)
    return line


@pytest.mark.parametrize(
    ("request_", "settings", "line"),
    [
        pytest.param(
            b"GET /x?y=1 HTTP/1.1\r\nHost: App.test:80\r\nUser-Agent: curl/8\r\nReferer: http://r/\r\n\r\n",
            {},
            'App.test:80 - [TIME] "GET /x?y=1 HTTP/1.1" 200 0 2 "http://r/" "curl/8" "PEER" "PEER"'
            ' x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" vcap_request_id:"UUID" response_time:S'
            f' gorouter_time:S {SOMEWHERE} x_cf_routererror:"-"',
            id="to a backend",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: nope.com:1234\r\n\r\n",
            {},
            'nope.com:1234 - [TIME] "GET / HTTP/1.1" 404 0 BYTES "-" "-" "PEER" "-" x_forwarded_for:"-"'
            ' x_forwarded_proto:"-" vcap_request_id:"UUID" response_time:S gorouter_time:0.000000'
            f' {NOWHERE} x_cf_routererror:"unknown_route"',
            id="unknown route",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\r\n",
            {"disable_log_source_ip": True},
            'app.test - [TIME] "GET / HTTP/1.1" 200 0 2 "-" "-" "-" "PEER" x_forwarded_for:"192.0.2.1, 127.0.0.1"'
            ' x_forwarded_proto:"https" vcap_request_id:"UUID" response_time:S'
            f' gorouter_time:S {SOMEWHERE} x_cf_routererror:"-"',
            id="forwarded, without the source",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: app.test\r\nX-One: 1\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n",
            {"disable_log_forwarded_for": True, "extra_headers_to_log": ("X-One", "Not-There")},
            'app.test - [TIME] "GET / HTTP/1.1" 200 0 2 "-" "-" "PEER" "PEER" x_forwarded_for:"-"'
            ' x_forwarded_proto:"http" vcap_request_id:"UUID" response_time:S'
            f' gorouter_time:S {SOMEWHERE} x_cf_routererror:"-" x_one:"1" not_there:"-"',
            id="extra headers",
        ),
        pytest.param(
            b'GET /"q" HTTP/1.1\r\nHost: app.test\r\nUser-Agent: a "b" \\c\td \xc3\xa9\xff\r\n\r\n',
            {},
            'app.test - [TIME] "GET /\\"q\\" HTTP/1.1" 200 0 2 "-" "a \\"b\\" \\\\c\\td é\\xff" "PEER" "PEER"'
            ' x_forwarded_for:"127.0.0.1" x_forwarded_proto:"http" vcap_request_id:"UUID" response_time:S'
            f' gorouter_time:S {SOMEWHERE} x_cf_routererror:"-"',
            id="quoting",
        ),
        pytest.param(
            b"GET http://app.test/abs?q HTTP/1.1\r\nHost: app.test\r\n\r\n",
            {"redact_query_params": "all"},
            'PARTIAL "GET /abs HTTP/1.1" 200 0 2 ',
            id="absolute form, query dropped",
        ),
    ],
)
async def test_lines(tmp_path: Path, request_: bytes, settings: dict[str, Any], line: str) -> None:
    got = await line_of(tmp_path, request_, **settings)
    got = re.sub(r" 404 0 [1-9]\d* ", " 404 0 BYTES ", got)
    if line.startswith("PARTIAL"):
        assert line.removeprefix("PARTIAL") in got
    else:
        assert got == line


async def test_bodies_are_counted_both_ways(tmp_path: Path) -> None:
    answer = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    request = b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello"
    assert ' "POST / HTTP/1.1" 201 5 3 ' in await line_of(tmp_path, request, answer, body=5)


async def test_a_backend_that_is_down_is_named(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with serving(access_log_file=str(path)) as (bench, _):
        bench.route("down.test", 1)
        await (await bench.client()).get("down.test")
    assert re.search(
        r'" 502 0 \d+ "-" "-" "127.*" "127\.0\.0\.1:1" .* x_cf_routererror:"endpoint_failure \(', path.read_text()
    )


async def test_a_backend_that_breaks_off_is_named_with_our_end(tmp_path: Path) -> None:
    async def breaks_off(client: Client) -> None:
        await client.head()
        await client.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")

    path = tmp_path / "access.log"
    settings = {"access_log_fields": ("local_address",), "access_log_file": str(path)}
    async with serving(breaks_off, **settings) as (bench, backends):
        client = await bench.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        await client.rest()
        host, port = backends[0].connections[0].writer.get_extra_info("peername")
    assert f' local_address:"{host}:{port}" x_cf_routererror:"endpoint_failure (' in path.read_text()


TOOK = r"(?!0\.000000)0\.\d{6}"


@pytest.mark.parametrize(
    ("tls", "host", "times"),
    [
        (False, "127.0.0.1", f"dns_time:0.000000 dial_time:{TOOK} tls_time:0.000000"),
        (False, "localhost", f"dns_time:{TOOK} dial_time:{TOOK} tls_time:0.000000"),
        (True, "localhost", f"dns_time:{TOOK} dial_time:{TOOK} tls_time:{TOOK}"),
    ],
)
async def test_the_steps_of_connecting(tmp_path: Path, tls: bool, host: str, times: str) -> None:
    path = tmp_path / "access.log"
    backend = Backend(answering(ANSWER), certs.server(certs.issued("localhost")) if tls else None)
    settings = {"access_log_fields": ("dns_time", "dial_time", "tls_time"), "backend_tls": certs.back()}
    async with serving(access_log_file=str(path), **settings) as (bench, _):
        await backend.start()
        bench.route("app.test", backend.port, host=host, tls=tls)
        client = await bench.client()
        await client.get("app.test")
        await client.get("app.test")
        client.close()
        await bench.quiet()
        await backend.stop()
    first, second = path.read_text().splitlines()
    assert re.search(f" {times} ", first)
    assert " dns_time:0.000000 dial_time:0.000000 tls_time:0.000000 " in second


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, b'"-"'),
        (b"", b'"-"'),
        (b"plain", b'"plain"'),
        (b'a"b\\', b'"a\\"b\\\\"'),
        (b"\r\n\t\x00\x7f", b'"\\r\\n\\t\\x00\\x7f"'),
        ("é\u200b\U000e0001".encode(), "é\\u200b\\U000e0001".encode().join((b'"', b'"'))),
        (b"\xff\xc3", b'"\\xff\\xc3"'),
    ],
)
def test_quoting(value: bytes | None, line: bytes) -> None:
    assert quoted(value) == line


HASH = hashlib.sha1(b"a=1", usedforsecurity=False).hexdigest().encode()


@pytest.mark.parametrize(
    ("method", "target", "mode", "logged"),
    [
        (b"GET", b"/x?a=1", "none", b"/x?a=1"),
        (b"GET", b"/x?a=1", "all", b"/x"),
        (b"GET", b"/x?a=1", "hash", b"/x?hash=" + HASH),
        (b"POST", b"/x?a=1", "all", b"/x?a=1"),
        (b"GET", b"/x?", "hash", b"/x?"),
        (b"GET", b"/x", "all", b"/x"),
    ],
)
def test_redaction(method: bytes, target: bytes, mode: str, logged: bytes) -> None:
    assert redacted(method, target, mode) == logged


def test_the_file_is_appended_to_and_made_readable(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    AccessLog(WorkerSettings(access_log_file=str(path))).close()
    assert path.stat().st_mode & 0o777 == 0o644 & ~umask()
    with pytest.raises(OSError, match="No such file"):
        AccessLog(WorkerSettings(access_log_file=str(tmp_path / "no" / "file")))


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now
