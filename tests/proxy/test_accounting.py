"""Requests that are over wait to be accounted for by the batch; who looks sees all of them, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.observe.histogram import BACKEND, ROUTER, TOTAL, bucket
from router.proxy import accounting, exchange, request_state
from router.proxy.accounting import BATCH
from tests.support.memory import MemoryPlane

REQUEST = b"GET /%d HTTP/1.1\r\nHost: app.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, 2 * BATCH + 1])
def test_a_report_tells_of_all_that_is_over(count: int) -> None:
    memory = MemoryPlane()
    frontend, _, backend, _ = memory.connect()
    for number in range(count):
        frontend.data_received(REQUEST % number)
        backend.data_received(ANSWER)
    (endpoint,) = memory.plane.stats().endpoints
    assert endpoint.classes == [count, 0, 0, 0, 0]
    assert endpoint.bytes_out == 2 * count
    assert sum(endpoint.cells.values()) == 3 * count  # in all, in the router, in the backend
    assert not memory.plane.stats().endpoints
    memory.close()


def test_lines_keep_their_order_also_where_they_differ(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    memory = MemoryPlane(access_log_file=str(log), access_log_fields=("backend_time", "local_address"))
    frontend, _, backend, _ = memory.connect()
    for number in range(BATCH + 6):
        if number % 3:
            frontend.data_received(REQUEST % number)
            backend.data_received(ANSWER)
        else:
            frontend.data_received((REQUEST % number).replace(b"app.test", b"nowhere.test"))
    memory.plane.reopen_log()
    assert memory.plane.accounting.access_log is not None
    memory.plane.accounting.access_log.close()
    lines = log.read_bytes().splitlines()
    assert [int(line.split(b'"GET /')[1].split()[0]) for line in lines] == list(range(BATCH + 6))
    for number, line in enumerate(lines):
        known = b' local_address:"127.0.0.1:1234" x_cf_routererror:"-"' if number % 3 else b'"unknown_route"'
        assert line.endswith(known), line
    memory.close()


@pytest.mark.parametrize("fraction", [0, 7, 99_999_999, 100_000_000, 999_999_999])
@pytest.mark.parametrize(
    ("spent", "waited", "took"),
    [
        (0, 0, 0),
        (1, 8_191, 8_191),
        (20, 8_170, 8_192),
        (8_192, 3, 8_199),
        (9, 1_234_567, 60_000_001),
        (-3, 2, 0),
        (3, -2, -4),
    ],
)
@pytest.mark.parametrize("body", [b"", b"hello"])
def test_times_of_any_length_are_told_by_line_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: int, spent: int, waited: int, took: int, body: bytes
) -> None:
    """Microseconds; negative where the clock was set back."""
    log = tmp_path / "access.log"
    received = 1_700_000_000_000_000_000 + fraction
    memory = MemoryPlane(access_log_file=str(log), access_log_fields=("backend_time",))
    frontend, _, backend, _ = memory.connect()
    memory.plane.stats()
    for module, times in {
        request_state: [received],
        exchange: [received + spent * 1000, received + (spent + waited) * 1000],
        accounting: [received + took * 1000],
    }.items():
        monkeypatch.setattr(module, "time_ns", iter(times).__next__)
    length = b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n"
    frontend.data_received((REQUEST % 1)[:-2] + length + body)
    backend.data_received(ANSWER)
    (endpoint,) = memory.plane.stats().endpoints
    assert endpoint.bytes_in == len(body)
    assert endpoint.cells == {kind + bucket(us): 1 for kind, us in ((TOTAL, took), (ROUTER, spent), (BACKEND, waited))}
    memory.plane.reopen_log()
    assert memory.plane.accounting.access_log is not None
    memory.plane.accounting.access_log.close()
    (line,) = log.read_bytes().splitlines()
    assert b".%09dZ] " % fraction in line
    assert b'HTTP/1.1" 200 %d 2 ' % len(body) in line
    told = [b'"-"' if us < 0 else b"%d.%06d" % divmod(us, 1_000_000) for us in (took, spent, waited)]
    assert b'" response_time:%b gorouter_time:%b ' % (told[0], told[1]) in line
    assert b" backend_time:%b " % told[2] in line
    memory.close()
