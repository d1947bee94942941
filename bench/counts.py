"""Requests of known kinds through a router, and whether log and metrics say exactly what was sent.

A kind is a row of `KINDS`. The client sends them in turn over some connections and writes down what was answered, when
and on which connection; then the access log and `/metrics` must tell the same: requests by app and status, bytes by
app, errors by reason. When a worker is killed, its connections break: what it had answered on them just before may be
missing, and what it had not answered yet may be there or not. Nothing else may differ.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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
REPORTED = 1.2
"""Seconds after which a worker has reported what it did, and written its lines: every second, and some for noise."""
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


@dataclass(slots=True)
class Ledger:
    """What the client knows of its requests."""

    answered: list[tuple[float, int, Kind]] = field(default_factory=list)
    """When (monotonic), on which connection, what."""
    broken: dict[int, float] = field(default_factory=dict)
    """Connection → when it broke."""
    unanswered: Counter[Kind] = field(default_factory=Counter)
    """Requests that were under way then."""

    def add(self, more: Ledger) -> None:
        """What was sent after that, over other connections."""
        offset = 1 + max((connection for _, connection, _ in self.answered), default=0)
        self.answered += [(when, connection + offset, kind) for when, connection, kind in more.answered]
        self.broken |= {connection + offset: when for connection, when in more.broken.items()}
        self.unanswered += more.unanswered

    def bounds(self, lost_seconds: float) -> dict[Kind, tuple[int, int]]:
        """Kind → the fewest and the most that may be told of, if a worker's last seconds are lost with it."""
        most = Counter(kind for _, _, kind in self.answered)
        lost = Counter(
            kind
            for when, connection, kind in self.answered
            if connection in self.broken and when > self.broken[connection] - lost_seconds
        )
        return {kind: (most[kind] - lost[kind], most[kind] + self.unanswered[kind]) for kind in KINDS}


async def send(port: int, total: int, at: Callable[[int], None] = lambda number: None) -> Ledger:
    """Send `total` requests, each kind as often as the others; `at` is told the number of each before it is sent.

    A connection that breaks is replaced. Raises AssertionError at an answer of another kind, and TimeoutError with the
    number and kind of a request that got none within `PATIENCE` seconds.
    """
    turns = iter(range(total))
    connections = iter(range(total + CONNECTIONS))
    ledger = Ledger()

    async def client() -> None:
        for connection in connections:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for number in turns:
                at(number)
                kind = KINDS[number % len(KINDS)]
                try:
                    async with asyncio.timeout(PATIENCE):
                        await ask(reader, writer, kind)
                except TimeoutError:
                    raise TimeoutError(f"request {number} has no answer after {PATIENCE:.0f} s: {kind}") from None
                except (asyncio.IncompleteReadError, ConnectionError):
                    ledger.broken[connection] = time.monotonic()
                    ledger.unanswered[kind] += 1
                    break
                ledger.answered.append((time.monotonic(), connection, kind))
            else:
                writer.close()
                return
            writer.close()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Kind) -> None:
        writer.write(kind.request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert int(head[9:12]) == kind.status, (kind, head)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if length and int(length[1]):
            await reader.readexactly(int(length[1]))

    clients = [asyncio.ensure_future(client()) for _ in range(CONNECTIONS)]
    try:
        await asyncio.gather(*clients)
    finally:
        for each in clients:
            each.cancel()
    return ledger


Bounds = dict[Kind, tuple[int, int]]


def wrong_in_log(path: Path, bounds: Bounds) -> list[str]:
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
    for kind, (fewest, most) in bounds.items():
        key = (kind.app, kind.status, kind.sent, "error" if kind.reason else "")
        lines = found.pop(key, 0)
        if not fewest <= lines <= most:
            wrong.append(f"access log: {key}: {lines} lines for {_range(fewest, most)} requests")
        if kind.size >= 0 and sizes[key] != lines * kind.size:
            wrong.append(f"access log: {key}: {sizes[key]} bytes in {lines} lines of {kind.size} each")
    return wrong + [f"access log: nobody sent {key}" for key in found]


def wrong_in_metrics(text: str, bounds: Bounds) -> list[str]:
    """The same of a scrape."""
    values = series(text)
    fewest: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def expect(name: str, each: tuple[int, int], times: int = 1) -> None:
        fewest[name] += each[0] * times
        most[name] += each[1] * times

    for kind, each in bounds.items():
        group = f"{kind.status // 100}xx"
        if kind.app in ROUTED:
            expect(f'router_app_responses_total{{app="{kind.app}",class="{group}"}}', each)
            expect(f'router_app_received_bytes_total{{app="{kind.app}"}}', each, kind.sent)
            expect(f'router_app_sent_bytes_total{{app="{kind.app}"}}', each, kind.size)
            expect(f'responses{{status_group="{group}"}}', each)
        elif kind.reason == "connection refused":
            expect('responses{status_group="5xx"}', each)
            expect("bad_gateways", each)
        else:
            expect("rejected_requests", each)
        if kind.reason:
            expect(f'router_errors_total{{reason="{kind.reason}"}}', each)
    return [
        f"metrics: {name} is {values.get(name, 0):.0f}, not {_range(fewest[name], most[name])}"
        for name in most
        if not fewest[name] <= values.get(name, 0) <= most[name]
    ]


def series(text: str) -> dict[str, float]:
    """Name and labels → value, of a scrape."""
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines() if line[:1] != "#")
    }


def fallen(before: str, now: str) -> list[str]:
    """Counters, buckets of histograms among them, that are less than in the scrape before, or gone."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", before, re.MULTILINE))
    then, values = series(before), series(now)
    rising = {name for name, kind in kinds.items() if kind in ("counter", "histogram")}

    def rises(name: str) -> bool:
        plain = name.partition("{")[0]
        return plain in rising or re.sub(r"_(bucket|sum|count)$", "", plain) in rising

    return [
        f"metrics: {name} fell from {value} to {values.get(name)}"
        for name, value in then.items()
        if rises(name) and values.get(name, -1.0) < value
    ]


def _range(fewest: int, most: int) -> str:
    return str(most) if fewest == most else f"{fewest} to {most}"


def missing(path: Path, text: str, ledger: Ledger) -> tuple[int, int]:
    """Answered requests that the log, and a scrape, do not tell of, less the unanswered ones that they do."""
    told = sum(
        value for name, value in series(text).items() if name.startswith("responses{") or name == "rejected_requests"
    )
    return len(ledger.answered) - sum(1 for _ in path.open("rb")), len(ledger.answered) - int(told)


async def settled(wrong: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """What is wrong when reports have had the time to come in."""
    found: list[str] = []
    for _ in range(int(PATIENCE / PAUSE)):
        if not (found := await wrong()):
            break
        await asyncio.sleep(PAUSE)
    return found
