"""The feed: what one turn changes goes out together; the table first; nobody may fall behind for ever."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import msgspec
import pytest

from router.control import feed as feed_module
from router.control.feed import CHUNK, Feed, SocketLink
from router.frames import Splitter, frame
from router.messages import (
    Delta,
    DropPool,
    HealthState,
    Listening,
    PutPool,
    Stop,
    Table,
    TableOp,
    ToWorker,
)


class FakeLink:
    """Keeps what is sent, decoded."""

    def __init__(self) -> None:
        self.sent: list[ToWorker] = []
        self.raw: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.raw.append(data)
        (payload,) = Splitter().split(data)
        self.sent.append(msgspec.msgpack.decode(payload, type=ToWorker))

    def send_table(self, frames: Iterator[bytes]) -> None:
        for data in frames:
            self.send(data)

    def close(self) -> None:
        pass


def pools(count: int) -> list[TableOp]:
    return [PutPool(f"{number}.com", "/", "") for number in range(count)]


async def turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_changes_of_one_turn_go_out_in_one_frame_and_are_encoded_once() -> None:
    feed, a, b = Feed(asyncio.get_running_loop(), list), FakeLink(), FakeLink()
    feed.add(a)
    feed.add(b)
    feed.publish([PutPool("a.com", "/", "")])
    feed.publish([DropPool("b.com")])
    assert len(a.sent) == 1
    await turn()
    assert a.sent[1:] == b.sent[1:] == [Delta([PutPool("a.com", "/", ""), DropPool("b.com")])]
    assert a.raw[1] is b.raw[1]


async def test_nothing_is_sent_when_nothing_changes() -> None:
    feed, link = Feed(asyncio.get_running_loop(), list), FakeLink()
    feed.add(link)
    feed.publish([])
    await turn()
    assert link.sent == [Table([], first=True, last=True)]


async def test_no_frame_is_too_big_to_apply_in_one_go() -> None:
    ops = pools(2 * CHUNK + 1)
    feed, link = Feed(asyncio.get_running_loop(), lambda: ops), FakeLink()
    feed.add(link)
    assert [(len(m.ops), m.first, m.last) for m in link.sent if isinstance(m, Table)] == [
        (CHUNK, True, False),
        (CHUNK, False, False),
        (1, False, True),
    ]
    feed.publish(ops)
    await turn()
    assert [len(m.ops) for m in link.sent if isinstance(m, Delta)] == [CHUNK, CHUNK, 1]


async def test_a_worker_that_comes_in_the_middle_of_a_turn_hears_nothing_twice() -> None:
    table: list[TableOp] = []
    feed, old, new = Feed(asyncio.get_running_loop(), lambda: table), FakeLink(), FakeLink()
    feed.add(old)
    change = PutPool("a.com", "/", "")
    table.append(change)
    feed.publish([change])
    feed.add(new)
    await turn()
    assert old.sent == [Table([], first=True, last=True), Delta([change])]
    assert new.sent == [Table([change], first=True, last=True)]


async def test_a_broadcast_comes_behind_the_changes_before_it() -> None:
    feed, link = Feed(asyncio.get_running_loop(), list), FakeLink()
    feed.add(link)
    feed.publish([DropPool("a.com")])
    feed.broadcast(HealthState(True))
    assert link.sent[1:] == [Delta([DropPool("a.com")]), HealthState(True)]


async def test_a_worker_that_is_gone_hears_no_more() -> None:
    feed, link = Feed(asyncio.get_running_loop(), list), FakeLink()
    feed.add(link)
    feed.remove(link)
    feed.publish([DropPool("a.com")])
    await turn()
    assert link.sent == [Table([], first=True, last=True)]


class Pair:
    """A `SocketLink` and the worker's end of its socket."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.link = SocketLink(self.messages.append, self.lost.set_result)

    async def connect(self) -> None:
        ours, self.theirs = socket.socketpair()
        for sock in (ours, self.theirs):
            sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self.link, sock=ours)

    async def read(self, until: type) -> list[ToWorker]:
        """All messages up to the first of this type."""
        splitter, got = Splitter(), []
        while True:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.theirs, 1 << 20), 10)
            for payload in splitter.split(data):
                got.append(msgspec.msgpack.decode(payload, type=ToWorker))
                if isinstance(got[-1], until):
                    return got


async def test_what_is_sent_before_the_connection_stands_arrives_in_order() -> None:
    pair = Pair()
    pair.link.send(frame(HealthState(False)))
    pair.link.send_table(iter([frame(Table([], first=True, last=True))]))
    pair.link.send(frame(Stop(1.0)))
    await pair.connect()
    assert await pair.read(Stop) == [HealthState(False), Table([], first=True, last=True), Stop(1.0)]
    pair.link.close()


async def test_a_table_is_made_only_as_fast_as_it_is_read() -> None:
    made = 0

    def frames() -> Iterator[bytes]:
        nonlocal made
        for number in range(1000):
            made += 1
            yield frame(Table(pools(CHUNK), first=number == 0, last=number == 999))

    pair = Pair()
    await pair.connect()
    pair.link.send_table(frames())
    pair.link.send(frame(Stop(1.0)))
    await turn()
    assert made < 500
    assert len(await pair.read(Stop)) == 1001
    assert made == 1000
    pair.link.close()


async def test_a_worker_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_BACKLOG", 1 << 20)
    pair = Pair()
    await pair.connect()
    data = frame(Delta(pools(CHUNK)))
    for _ in range(4 << 20, 0, -len(data)):
        pair.link.send(data)
    assert "bytes of changes unread" in await asyncio.wait_for(pair.lost, 10)


async def test_messages_are_heard_and_nonsense_ends_the_link() -> None:
    pair = Pair()
    await pair.connect()
    pair.theirs.send(frame(Listening()) + b"\x00\x00\x00\x01\xc1")
    assert "it sent what is no frame" in await asyncio.wait_for(pair.lost, 10)
    assert pair.messages == [Listening()]


async def test_the_end_of_the_worker_is_noticed() -> None:
    pair = Pair()
    await pair.connect()
    pair.theirs.close()
    assert await asyncio.wait_for(pair.lost, 10) == "it closed the connection"
