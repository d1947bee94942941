"""Requests of known kinds through a router, and whether log and metrics say exactly what was sent.

A kind is a row of `KINDS`. The client sends them in turn over some connections and keeps its own count; then the access
log and `/metrics` must tell the same: requests by app and status, bytes by app, errors by reason.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONNECTIONS = 16
PATIENCE = 10.0
PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request. `reason` is the router's error, "" for an answer of the backend."""

    app: str
    method: str
    sent: int
    status: int
    size: int
    reason: str = ""

    @property
    def request(self) -> bytes:
        length = f"Content-Length: {self.sent}\r\n" if self.sent else ""
        head = f"{self.method} /{self.status}/{self.size} HTTP/1.1\r\nHost: {self.app}.test\r\n{length}\r\n"
        return head.encode() + b"b" * self.sent


KINDS = (
    Kind("one", "GET", 0, 200, 13),
    Kind("one", "POST", 1000, 201, 20),
    Kind("one", "GET", 0, 500, 5),
    Kind("two", "GET", 0, 200, 5000),
    Kind("two", "GET", 0, 302, 0),
    Kind("two", "GET", 0, 404, 9),
    Kind("nowhere", "GET", 0, 404, -1, "unknown_route"),
    Kind("dead", "GET", 0, 502, -1, "connection refused"),
)
ROUTED = ("one", "two")
_LINE = re.compile(rb'^(\w+)\.test - \[[^]]*\] "[^"]*" (\d+) (\d+) (\d+) .*x_cf_routererror:"([^"]*)"')


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if length and int(length[1]):
                await reader.readexactly(int(length[1]))
            status, size = head.split(b" ", 2)[1].strip(b"/").split(b"/")
            writer.write(b"HTTP/1.1 %b X\r\nContent-Length: %b\r\n\r\n" % (status, size) + b"x" * int(size))
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass  # cancelled: the bench is over
    finally:
        writer.close()


@asynccontextmanager
async def backend() -> Any:
    """A server that answers `/STATUS/SIZE` so; gives its port."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def send(port: int, total: int) -> None:
    """Send `total` requests, each kind as often as the others. Raises AssertionError at an answer of another kind."""
    turns = iter(range(total))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in turns:
            kind = KINDS[number % len(KINDS)]
            writer.write(kind.request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head[9:12]) == kind.status, (kind, head)
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            if length and int(length[1]):
                await reader.readexactly(int(length[1]))
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))


def _sent(total: int) -> Iterator[tuple[Kind, int]]:
    for place, kind in enumerate(KINDS):
        yield kind, total // len(KINDS) + (place < total % len(KINDS))


def wrong_in_log(path: Path, total: int) -> list[str]:
    """What the access log tells that was not sent, or not of what was."""
    found: Counter[tuple[str, int, int, str]] = Counter()
    sizes: Counter[tuple[str, int, int, str]] = Counter()
    for line in path.read_bytes().splitlines():
        match = _LINE.match(line)
        if match is None:
            return [f"access log: no line of ours: {line[:200]!r}"]
        app, status, received, size, error = match.groups()
        key = (app.decode(), int(status), int(received), "" if error == b"-" else "error")
        found[key] += 1
        sizes[key] += int(size)
    wrong = []
    for kind, count in _sent(total):
        key = (kind.app, kind.status, kind.sent, "error" if kind.reason else "")
        if found.pop(key, 0) != count or (kind.size >= 0 and sizes[key] != count * kind.size):
            wrong.append(f"access log: {key}: {found[key]} lines and {sizes[key]} bytes for {count} requests")
    return wrong + [f"access log: nobody sent {key}" for key in found]


def wrong_in_metrics(text: str, total: int) -> list[str]:
    """The same of a scrape."""
    values = {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines() if line[:1] != "#")
    }
    expected: Counter[str] = Counter()
    for kind, count in _sent(total):
        if kind.app in ROUTED:
            group = f"{kind.status // 100}xx"
            expected[f'router_app_responses_total{{app="{kind.app}",class="{group}"}}'] += count
            expected[f'router_app_received_bytes_total{{app="{kind.app}"}}'] += count * kind.sent
            expected[f'router_app_sent_bytes_total{{app="{kind.app}"}}'] += count * kind.size
            expected[f'responses{{status_group="{group}"}}'] += count
        elif kind.reason == "connection refused":
            expected['responses{status_group="5xx"}'] += count
            expected["bad_gateways"] += count
        else:
            expected["rejected_requests"] += count
        if kind.reason:
            expected[f'router_errors_total{{reason="{kind.reason}"}}'] += count
    return [
        f"metrics: {name} is {values.get(name, 0):.0f}, not {count}"
        for name, count in expected.items()
        if values.get(name, 0) != count
    ]


async def settled(wrong: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """What is wrong when reports have had the time to come in."""
    found: list[str] = []
    for _ in range(int(PATIENCE / PAUSE)):
        if not (found := await wrong()):
            break
        await asyncio.sleep(PAUSE)
    return found
