"""What happened is still known after control has ended and come back."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import pytest

from router.control import history_file
from router.control.history import Event, History
from router.control.history_file import HistoryFile
from router.messages import EndpointSpec, pack
from tests.support.bus import event_log, heartbeat, nats_server, party
from tests.support.router import router
from tests.support.workers import TIMEOUT


async def test_all_of_it_comes_back(tmp_path: Path) -> None:
    now = [100.0]
    before = History(lambda: now[0])
    before.happened("registered", "a.test", ["h:1"], pack(EndpointSpec("h", 1, app="shop")))
    before.went("a.test", "it said so")
    before.went("b.test", "it failed")
    file = HistoryFile(tmp_path, before, event_log())
    file.save()
    now[0] = 101.0
    before.happened("pruned", "b.test/x", ["h:2"], "too old")  # while it is being written
    await file.save_last()

    after = History(lambda: now[0])
    after.happened("registered", "c.test", ["h:3"], "since then")
    after.went("b.test", "it failed again")
    log = event_log()
    again = HistoryFile(tmp_path, after, log)
    again.load()
    assert after.of("") == [
        Event(100.0, "registered", "a.test", "h:1", "over the bus: app shop"),
        Event(101.0, "pruned", "b.test/x", "h:2", "too old"),
        Event(101.0, "registered", "c.test", "h:3", "since then"),
    ]
    assert "it said so" in after.explain("a.test")[0]
    assert "it failed again" in after.explain("b.test")[0]
    assert log.of("history-read") == [{"changes": 2}]
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o600

    # What has not changed is not written again.
    (tmp_path / "history").unlink()
    await again.save_last()
    assert not (tmp_path / "history").exists()


async def test_it_is_written_sparingly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_file, "SPARING", 1e9)
    history = History()
    file = HistoryFile(tmp_path, history, event_log())
    for route in ("a.test", "b.test"):
        history.happened("registered", route, ["h:1"], "x")
        file.save()
        if file._saving is not None:
            await file._saving
    copy = History()
    HistoryFile(tmp_path, copy, event_log()).load()
    assert [event.route for event in copy.of("")] == ["a.test"]
    await file.save_last()
    HistoryFile(tmp_path, copy, event_log()).load()
    assert [event.route for event in copy.of("")] == ["a.test", "b.test", "a.test"]


@pytest.mark.parametrize("data", [b"", b"nonsense", b"x\x9c\x03\x00\x00\x00\x00\x01"])
async def test_a_file_that_is_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(data)
    history, log = History(), event_log()
    HistoryFile(tmp_path, history, log).load()
    assert history.of("") == []
    assert log.of("history-not-readable")


async def test_a_restart_adds_nothing_of_its_own(tmp_path: Path) -> None:
    """The table comes back from its snapshot, and its endpoints are no news."""
    async with nats_server() as server, party(server.port) as app, asyncio.timeout(TIMEOUT):
        bus = {"hosts": [{"hostname": "127.0.0.1", "port": server.port}]}
        async with router(tmp_path, nats=bus) as control:
            await control.healthy()
            await app.publish("router.register", heartbeat(1))
            await app.publish("router.register", heartbeat(2))
            await app.publish("router.unregister", heartbeat(1))
            while "app-2.test" not in control.registry.hosts or "app-1.test" in control.registry.hosts:
                await asyncio.sleep(0.01)
            known = control.registry.history.of("")
            assert [event.what for event in known] == ["registered", "registered", "unregistered"]
        async with router(tmp_path, nats=bus) as control:
            await control.healthy()
            assert list(control.registry.hosts) == ["app-2.test"]
            assert control.registry.history.of("") == known
            assert "its last instance unregistered" in control.registry.history.explain("app-1.test")[0]


async def test_all_of_it_is_never_there_twice(tmp_path: Path) -> None:
    history = History()
    for number in range(10_000):
        spec = pack(EndpointSpec("h", number, app=f"app-{number}"))
        history.happened("registered", f"{number}.test", (f"h:{number}",), spec)
    file = HistoryFile(tmp_path, history, event_log())
    tracemalloc.start()
    try:
        await file.save_last()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # all at once took 2.6 MB
    finally:
        tracemalloc.stop()
    copy = History()
    HistoryFile(tmp_path, copy, event_log()).load()
    assert copy.of("") == history.of("")
