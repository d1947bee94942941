"""Flow control at the seams: a connection that was paused for one exchange reads again for the next."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from router.proxy.backend_h1 import BackendH1
from tests.support.memory import MemoryPlane, Transport

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


class Full(Transport):
    """Tells its protocol with the first byte that it holds too much."""

    def __init__(self) -> None:
        super().__init__()
        self.on_full: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        super().write(data)
        self.on_full()


@pytest.mark.parametrize("pieces", [[HEAD + b"body"], [HEAD, b"body"], [HEAD + b"bo", b"dy"]])
def test_a_client_that_is_full_at_the_end_leaves_no_paused_connection_behind(pieces: list[bytes]) -> None:
    memory = MemoryPlane()
    frontend, _, backend, server = memory.connect()
    client = frontend.transport = Full()  # type: ignore[assignment]
    client.on_full = frontend.pause_writing
    frontend.data_received(GET)
    for piece in pieces:
        backend.data_received(piece)
    assert frontend.exchange is None
    assert backend.usable
    assert server.reading
    frontend.resume_writing()
    assert server.reading
    memory.close()


def test_a_client_that_is_full_in_the_middle_does_pause_the_backend() -> None:
    memory = MemoryPlane()
    frontend, _, backend, server = memory.connect()
    client = frontend.transport = Full()  # type: ignore[assignment]
    client.on_full = frontend.pause_writing
    frontend.data_received(GET)
    backend.data_received(HEAD + b"bo")
    assert not server.reading
    frontend.resume_writing()
    assert server.reading
    memory.close()


def test_a_client_that_was_paused_for_one_attempt_is_read_for_the_next() -> None:
    memory = MemoryPlane()
    frontend, client, backend, _ = memory.connect()
    frontend.data_received(b"PUT / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 8\r\n\r\nhalf")
    exchange = frontend.exchange
    assert exchange is not None
    backend.pause_writing()
    assert not client.reading
    other = BackendH1(memory.plane)
    other.connection_made(Transport())  # type: ignore[arg-type]
    exchange._send(other)
    assert client.reading
    assert other.transport.written.endswith(b"\r\n\r\nhalf")  # type: ignore[attr-defined]
    memory.close()
