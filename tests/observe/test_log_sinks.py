"""Access log: the contract's line and its options, JSON, files that move, readers that are stuck, syslog."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from pathlib import Path

import pytest

from router.messages import Syslog
from router.observe.access_log import quoted, redacted
from router.observe.log_sinks import FileSink
from tests.support.wire import OK, Bench, Client, answering, request, serving, until

LINE = re.compile(
    r'^(?P<host>\S+) - \[(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z)\] "(?P<request>[^"]*)" (?P<status>\d+) '
    r'(?P<bytes_in>\d+) (?P<bytes_out>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" "(?P<remote>[^"]*)" '
    r'"(?P<backend>[^"]*)" x_forwarded_for:"(?P<xff>[^"]*)" x_forwarded_proto:"(?P<proto>[^"]*)" '
    r'vcap_request_id:"(?P<id>[0-9a-f-]{36})" response_time:(?P<taken>\d+\.\d{6}) gorouter_time:(?P<own>\d+\.\d{6}) '
    r'app_id:"(?P<app>[^"]*)" app_index:"(?P<index>[^"]*)" instance_id:"(?P<instance>[^"]*)"(?P<fields>.*?) '
    r'x_cf_routererror:"(?P<error>[^"]*)"(?P<headers>.*)$'
)


async def lines(bench: Bench, path: Path, count: int) -> list[str]:
    """The log, when it has so many lines."""
    found: list[str] = []

    def there() -> bool:
        bench.plane.flush_log()
        found[:] = path.read_text().splitlines()
        return len(found) >= count

    await until(there)
    return found


async def test_the_line_and_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with serving(answering(OK), access_log_file=str(path)) as (bench, [backend]):
        client = await Client.to(bench.port)
        await client.get("app.test", "/x?y=1", "User-Agent: curl/8", "Referer: http://r/")
        await client.get("nope.test:1234")
        client.close()
        first, second = [m.groupdict() for line in await lines(bench, path, 2) if (m := LINE.match(line))]
    assert (first["host"], first["request"], first["status"]) == ("app.test", "GET /x?y=1 HTTP/1.1", "200")
    assert (first["bytes_in"], first["bytes_out"], first["referer"], first["agent"]) == (
        "0",
        "2",
        "http://r/",
        "curl/8",
    )
    assert (first["backend"], first["xff"], first["proto"]) == (f"127.0.0.1:{backend.port}", "127.0.0.1", "http")
    assert (first["app"], first["index"], first["instance"], first["error"]) == ("app-guid", "0", "instance-0", "-")
    assert float(first["own"]) <= float(first["taken"])
    assert (second["host"], second["status"], second["error"]) == ("nope.test:1234", "404", "unknown_route")
    assert (second["backend"], second["app"], second["xff"], second["own"]) == ("-", "-", "-", "0.000000")


async def test_options(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    fields = ("failed_attempts", "backend_time", "dial_time", "dns_time", "tls_time", "failed_attempts_time")
    settings = {
        "access_log_file": str(path),
        "redact_query_params": "hash",
        "disable_log_source_ip": True,
        "disable_log_forwarded_for": True,
        "extra_headers_to_log": ("X-One", "X-Two"),
        "access_log_fields": (*fields, "local_address"),
    }
    async with serving(answering(OK), **settings) as (bench, _):
        client = await Client.to(bench.port)
        await client.get("app.test", "/x?y=1", 'X-One: a"b')
        await client.get("app.test", "/again")
        client.close()
        line, again = await lines(bench, path, 2)
    match = LINE.match(line)
    assert match is not None
    assert match["request"] == f"GET {redacted(b'GET', b'/x?y=1', 'hash').decode()} HTTP/1.1"
    assert (match["remote"], match["xff"]) == ("-", "-")
    assert match["headers"] == r' x_one:"a\"b" x_two:"-"'
    assert re.fullmatch(
        r" failed_attempts:0 backend_time:\d\.\d{6} dial_time:\d\.\d{6} dns_time:0.000000 tls_time:0.000000"
        r' failed_attempts_time:0.000000 local_address:"127.0.0.1:\d+"',
        match["fields"],
    )
    kept = LINE.match(again)
    assert kept is not None
    assert re.fullmatch(
        r" failed_attempts:0 backend_time:\d\.\d{6} dial_time:0.000000 dns_time:0.000000 tls_time:0.000000"
        r' failed_attempts_time:0.000000 local_address:"127.0.0.1:\d+"',
        kept["fields"],
    )


async def test_json(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = {"access_log_file": str(path), "access_log_json": True, "access_log_fields": ("failed_attempts",)}
    async with serving(answering(OK), **settings) as (bench, _):
        client = await Client.to(bench.port)
        await client.get("app.test", "/x", "User-Agent: caf\u00e9")
        client.close()
        record = json.loads((await lines(bench, path, 1))[0])
    assert (record["host"], record["status"], record["app_id"], record["failed_attempts"]) == (
        "app.test",
        200,
        "app-guid",
        0,
    )
    assert (record["referer"], record["x_cf_routererror"], record["user_agent"]) == (None, None, "caf\u00e9")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"", '"-"'), (b"a b", '"a b"'), (b'a"\\', r'"a\"\\"'), (b"\n\x00", r'"\n\x00"'), (b"\xff", r'"\xff"')],
)
def test_quoting(value: bytes, shown: str) -> None:
    assert quoted(value) == shown.encode()


async def test_a_file_that_is_moved_away_is_made_anew(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    async with serving(answering(OK), access_log_file=str(path)) as (bench, _):
        client = await Client.to(bench.port)
        await client.get()
        await lines(bench, path, 1)
        path.rename(moved)
        bench.plane.reopen_log()
        await until(path.exists)
        await client.get()
        client.close()
        assert len(await lines(bench, path, 1)) == len(moved.read_text().splitlines()) == 1


async def test_a_stuck_reader_costs_lines_and_no_time(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    stuck = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # opened, and never read
    settings = {"access_log_file": str(pipe), "access_log_buffer": 64 * 1024}
    try:
        async with serving(answering(OK), **settings) as (bench, _):
            client = await Client.to(bench.port)
            long = "/" + "x" * 4000
            for _ in range(120):
                assert (await client.get("app.test", long))[0] == 200
            client.close()
            log = bench.plane.accounting.access_log
            assert log is not None
            bench.plane.flush_log()
            for _ in range(30):  # whatever the pipe and the writer hold: in the end all that comes is lost
                log._sinks[0].put([b"x" * 4000 + b"\n"], 1)
            assert log.lost
            # Read the pipe empty, so that the writer ends.
            drained = asyncio.get_running_loop().run_in_executor(None, _drain, pipe)
            await bench.quiet()
            log.close()
            bench.plane.accounting.access_log = None
            pipe.unlink()
            await drained
    finally:
        os.close(stuck)


def _drain(pipe: Path) -> None:
    with open(pipe, "rb") as reader:
        while pipe.exists() and reader.read1(1 << 16):
            pass


def test_lines_stay_whole_in_a_pipe_and_a_full_disk_is_counted(tmp_path: Path) -> None:
    sink = FileSink("/dev/full", 1 << 20)
    sink.put([b"one\n", b"two\n"], 2)
    sink.close()
    assert sink.lost == 2


@pytest.mark.parametrize("tcp", [False, True])
async def test_syslog(tcp: bool) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        if tcp:
            receiver.listen()
        settings = {"syslog": Syslog("127.0.0.1", receiver.getsockname()[1], tcp, "vcap.gorouter", 40)}
        async with serving(answering(OK), **settings) as (bench, _):
            client = await Client.to(bench.port)
            await client.get("app.test", "/x")
            client.close()
            bench.plane.flush_log()
            async with asyncio.timeout(5):
                if tcp:
                    connection, _ = await loop.sock_accept(receiver)
                    with connection:
                        record = await loop.sock_recv(connection, 65536)
                else:
                    record = await loop.sock_recv(receiver, 65536)
    match = re.fullmatch(
        r"<14>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S+ vcap\.gorouter \d+ - - \ufeff(.*?)(\n?)", record.decode(), re.S
    )
    assert match is not None
    assert match[1].startswith("app.test - [")
    assert len(match[1]) == 40
    assert bool(match[2]) is tcp


async def test_a_log_that_cannot_be_opened_is_reported_and_nothing_else(tmp_path: Path) -> None:
    async with serving(answering(OK), access_log_file=str(tmp_path / "no" / "access.log")) as (bench, _):
        client = await Client.to(bench.port)
        await client.send(request())
        assert (await client.response())[0] == 200
        client.close()
        assert "error-creating-accesslog-file" in bench.log.names()
