"""`http_rewrite` (contract §5.5): removed, then added where there is none of the name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.memory import MemoryPlane, back, through

GET = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n"


@contextmanager
def plane(**settings: Any) -> Iterator[MemoryPlane]:
    memory = MemoryPlane(**settings)
    try:
        yield memory
    finally:
        memory.close()


RULES = [
    # add, remove, header lines of the backend, lines that the client gets of those names
    ([("X-A", "1")], [], [], [b"X-A: 1"]),
    ([("X-A", "1"), ("x-a", "2")], [], [], [b"X-A: 1", b"x-a: 2"]),
    ([("X-A", "1")], [], [b"x-A: own"], [b"x-A: own"]),
    ([], ["X-A"], [b"x-a: own", b"X-A: 2"], []),
    ([("X-A", "1")], ["x-a"], [b"X-A: own"], [b"X-A: 1"]),
    ([("X-Vcap-Request-Id", "1")], ["X-Vcap-Request-Id"], [], [b"X-Vcap-Request-Id: 1"]),
    ([], ["X-Vcap-Request-Id"], [], []),
    ([], ["X-Vcap-Request-Id"], [b"X-Vcap-Request-Id: theirs"], []),
]


@pytest.mark.parametrize(("add", "remove", "lines", "expected"), RULES)
def test_responses(add: list[tuple[str, str]], remove: list[str], lines: list[bytes], expected: list[bytes]) -> None:
    names = {name.lower().encode() for name, _ in add} | {name.lower().encode() for name in remove}
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    with plane(add_response_headers=tuple(add), remove_response_headers=tuple(remove)) as memory:
        head = back(memory, GET, answer)
    assert [line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() in names] == expected
    assert b"\r\nContent-Length: 0\r\n" in head


def test_errors_of_our_own_too() -> None:
    with plane(add_response_headers=(("X-A", "1"),), remove_response_headers=("x-cf-routererror",)) as memory:
        _, head = through(memory, GET.replace(b"app.test", b"nope.test"))
    assert b"\r\nX-A: 1\r\n" in head
    assert b"X-Cf-RouterError" not in head
    assert b"\r\nContent-Length: " in head


def test_interim_responses_only_lose_headers() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nX-B: 1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    with plane(add_response_headers=(("X-A", "1"),), remove_response_headers=("X-B",)) as memory:
        head = back(memory, GET, answer)
    assert head.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nX-A: 1\r\n")


def test_not_a_101() -> None:
    ask = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-B: 1\r\n\r\n"
    with plane(add_response_headers=(("X-A", "1"),), remove_response_headers=("X-B",)) as memory:
        frontend, client, backend, _ = memory.connect()
        frontend.data_received(ask)
        backend.data_received(switch)
        assert b"\r\nX-B: 1\r\n" in client.written
        assert b"X-A" not in client.written
