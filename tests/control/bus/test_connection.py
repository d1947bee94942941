"""The parser that takes registrations out of the stream: the same messages as nats-py's, in any pieces."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.bus.connection import Connection

PAYLOADS = st.binary(max_size=40) | st.sampled_from(
    [b"", b"\r\n", b"MSG router.register 1 5\r\nhello\r\n", b"PING\r\n"]
)
FRAMES = st.lists(
    st.tuples(st.sampled_from(["direct", "direct with reply", "other", "headers", "ping", "ok"]), PAYLOADS), max_size=12
)


class Stream:
    """A connection that no server is behind."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.pings = 0
        self.connection = Connection(lambda at, messages: self.heard.extend(messages))
        self.connection.direct.add(1)
        self.connection._process_ping = self._ping  # type: ignore[method-assign]
        self.connection._build_message = self._message  # type: ignore[method-assign]
        self.connection._subs = {2: _Subscription()}  # type: ignore[dict-item]

    async def _ping(self) -> None:
        self.pings += 1

    def _message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        self.heard.append((sid, data))


class _Subscription:
    _received = 0
    _max_msgs = 0


def frame(kind: str, payload: bytes) -> bytes:
    size = len(payload)
    match kind:
        case "direct":
            return b"MSG router.register 1 %d\r\n%b\r\n" % (size, payload)
        case "direct with reply":
            return b"MSG router.register 1 _INBOX.x %d\r\n%b\r\n" % (size, payload)
        case "other":
            return b"MSG router.greet 2 _INBOX.y %d\r\n%b\r\n" % (size, payload)
        case "headers":
            head = b"NATS/1.0\r\nA: b\r\n\r\n"
            return b"HMSG router.greet 2 %d %d\r\n%b%b\r\n" % (len(head), len(head) + size, head, payload)
        case "ping":
            return b"PING\r\n"
    return b"+OK\r\n"


@settings(max_examples=150, deadline=None)
@given(FRAMES, st.data())
def test_messages_come_whole_and_in_order_in_any_pieces(frames: list[tuple[str, bytes]], data: Any) -> None:
    stream = Stream()
    wire = b"".join(frame(kind, payload) for kind, payload in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))

    async def feed() -> None:
        for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            await stream.connection._ps.parse(wire[begin:end])

    asyncio.run(feed())
    numbers = {"direct": 1, "direct with reply": 1, "other": 2, "headers": 2}
    assert stream.heard == [(numbers[kind], payload) for kind, payload in frames if kind in numbers]
    assert stream.pings == sum(kind == "ping" for kind, _ in frames)
