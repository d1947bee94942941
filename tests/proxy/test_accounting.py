"""Requests that are over wait to be accounted for by the batch; who looks sees all of them, in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

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
