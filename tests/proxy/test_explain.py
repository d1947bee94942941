"""Being asked what would become of a request leaves no trace: not in a strategy, a count, a queue or a judgement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from router.balance.health import Record
from router.control.app import Control
from router.control.local import LocalKeeper
from router.messages import Explain
from router.proxy.explain import explain
from router.proxy.plane import Plane
from router.table.endpoint import Endpoint
from router.table.pool import Pool
from tests.support.router import router

STRATEGIES = {
    "round-robin": {},
    "weighted-round-robin": {},
    "least-connection": {},
    "weighted-least-connection": {},
    "random": {},
    "power-of-two": {},
    "peak-ewma": {},
    "least-response-time": {},
    "consistent-hash": {"hash_key": "path"},
    "rendezvous": {"hash_key": "path"},
    "hash": {"hash_header": "Host"},
}


class Asker:
    """A request as strategies see it."""

    attempt = 1
    client = b"192.0.2.1"

    def __init__(self, number: int) -> None:
        self.scratch: Any = None
        self.target = b"/%d" % number

    def header(self, name: bytes) -> bytes | None:
        return self.target if name == b"host" else None


def plane_of(control: Control) -> Plane:
    assert isinstance(control.keeper, LocalKeeper)
    plane = control.keeper.worker.plane
    assert plane is not None
    return plane


def pool_of(control: Control, host: str) -> Pool:
    pool = plane_of(control).table.lookup(host.encode(), b"/")
    assert pool is not None
    return pool


def ask(control: Control, host: str, *lines: str, path: str = "/") -> dict[str, Any]:
    head = "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", f"Host: {host}", *lines, ""))
    return explain(plane_of(control), Explain(1, "192.0.2.1", False, head.encode()))


def state(thing: Any) -> Any:
    """All that a strategy holds, as values that can be compared."""
    if isinstance(thing, Endpoint):
        return thing.address, thing.failed_at, thing.warm_since
    if isinstance(thing, dict):
        return {key: state(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple | set | frozenset):
        return [state(each) for each in thing]
    if type(thing).__module__.startswith("router.balance"):
        names = {name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())}
        return {name: state(getattr(thing, name)) for name in names}
    return id(thing) if hasattr(thing, "__next__") or callable(thing) else thing


def figures(control: Control) -> Any:
    plane = plane_of(control)
    return (
        list(plane.counters),
        list(plane.accounting.lookups),
        plane.accounting.lookup_ns,
        list(plane.own_lane[:64]),
        plane.queue.waiting,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_strategies_stand_where_they_stood(strategy: str, tmp_path: Path) -> None:
    endpoints = [{"host": f"10.0.0.{n}", "port": 80, "weight": 1 + n % 2} for n in range(1, 21)]
    options = {"loadbalancing": strategy, **STRATEGIES[strategy]}
    async with router(tmp_path, routes=[{"uris": ["a.test"], "endpoints": endpoints, "options": options}]) as control:
        pool = pool_of(control, "a.test")
        for number in range(30):
            pool.strategy.pick(pool, Asker(number))
        before, counted = state(pool.strategy), figures(control)
        picked = [ask(control, "a.test", path=f"/{number}")["picked"] for number in range(100, 130)]
        assert state(pool.strategy) == before
        assert figures(control) == counted
        # Nothing moved on, so nobody's turn comes.
        if "round-robin" in strategy:
            assert len(set(picked)) == 1
            turn = pool.strategy.pick(pool, Asker(0))
            assert turn is not None
            assert turn.address == picked[0]


async def test_answers_of_the_router_itself_are_not_counted(tmp_path: Path) -> None:
    routes = [{"uris": ["full.test"], "endpoints": [{"host": "10.0.0.1", "port": 80}], "options": {"max_conns": 1}}]
    async with router(tmp_path, routes=routes, backends={"max_queue": 10, "queue_timeout": "1s"}) as control:
        plane = plane_of(control)
        (endpoint,) = pool_of(control, "full.test").endpoints
        plane.own_lane[endpoint.slot] += 1
        before = figures(control)
        assert ask(control, "full.test")["answer"]["status"] == 503
        assert ask(control, "full.test", "X-Cf-App-Instance: nonsense")["answer"]["status"] == 400
        assert ask(control, "none.test")["answer"]["status"] == 404
        assert figures(control) == before
        plane.own_lane[endpoint.slot] -= 1


async def test_a_trial_that_is_due_stays_due(tmp_path: Path) -> None:
    endpoints = [{"host": f"10.0.0.{n}", "port": 80} for n in (1, 2)]
    async with router(tmp_path, routes=[{"uris": ["a.test"], "endpoints": endpoints}]) as control:
        plane, pool = plane_of(control), pool_of(control, "a.test")
        bad, other = pool.endpoints
        plane.watch.failed(pool, bad, "connection refused", marks=True, trial=False)
        marked = bad.failed_at
        record = bad.record
        assert isinstance(record, Record)
        assert record.out
        record.until = 0.0
        for _ in range(2):
            told = ask(control, "a.test")
            assert (told["picked"], told["picked_by"].partition(":")[0]) == (bad.address, "a trial")
            assert not record.trying
        plane.watch.failed(pool, other, "connection refused", marks=True, trial=False)
        record.until = record.open_at
        assert ask(control, "a.test")["picked_by"] == "the strategy"  # which would forget all marks
        assert bad.failed_at == marked
        assert other.failed
        record.until = 0.0
        assert plane.watch.trial(pool) is bad
