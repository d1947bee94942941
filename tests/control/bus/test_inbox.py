"""What waits to be handled: in order, not without end, and told of when it was too much."""

from __future__ import annotations

import asyncio

from router.control.bus.inbox import Inbox


async def test_messages_are_handled_in_order_with_the_moment_they_were_read() -> None:
    handled: list[tuple[float, int, bytes]] = []
    inbox = Inbox(asyncio.get_running_loop(), lambda *message: handled.append(message), lambda dropped: None)
    batches = [(float(n), [(1, b"%d %d" % (n, m)) for m in range(100)]) for n in range(30)]
    for read_at, messages in batches:
        inbox.put(read_at, messages)
    assert (inbox.messages, handled) == (3000, [])
    while inbox.messages:
        await asyncio.sleep(0)
    assert handled == [(read_at, *message) for read_at, messages in batches for message in messages]
    assert (inbox.bytes, inbox.dropped) == (0, 0)


async def test_what_finds_no_room_is_told_of_once_the_rest_is_handled() -> None:
    seen: list[object] = []
    inbox = Inbox(
        asyncio.get_running_loop(),
        lambda read_at, sid, payload: seen.append(payload),
        seen.append,
        most_messages=3,
        most_bytes=10,
    )
    inbox.put(0.0, [(1, b"a"), (1, b"b")])
    inbox.put(0.0, [(1, b"c"), (1, b"d")])
    inbox.put(0.0, [(1, b"12345678")])
    inbox.put(0.0, [(1, b"123456789")])
    await asyncio.sleep(0.01)
    assert seen == [b"a", b"b", b"12345678", 3]
    assert (inbox.messages, inbox.bytes, inbox.dropped) == (0, 0, 3)
