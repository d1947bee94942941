"""Passive health: the judge by itself, with a clock of the test's own, then over the wire."""

from __future__ import annotations

import asyncio

import pytest

from router.balance.health import MEMORY, Watch
from router.messages import Ejection, EndpointSpec, PutEndpoint, PutPool, PutRoute
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool
from router.table.routes import RouteTable
from tests.support.wire import OK, Client, Script, answering, request, serving, until


class NoCounts:
    lanes = ([0] * 64,)


class Court:
    """A pool of some endpoints and its judge."""

    def __init__(self, size: int, **rules: float) -> None:
        self.loads = Loads(NoCounts())
        self.loads.now = 100.0
        self.table = RouteTable(self.loads, lambda name, options: None)
        self.table.apply([PutPool("a.com", "/", "x")])
        for id in range(1, size + 1):
            self.table.apply([PutEndpoint.of(id, id, EndpointSpec("10.0.0.1", id)), PutRoute("a.com", id)])
        self.events: list[tuple[str, int]] = []
        self.watch = Watch(
            self.loads, self.table.pools.get, lambda event, pool, e, why: self.events.append((event, e.id))
        )
        self.watch.configure(Ejection(**rules))  # type: ignore[arg-type]

    @property
    def pool(self) -> Pool:
        return self.table.pools["a.com"]

    def __getitem__(self, id: int) -> Endpoint:
        return self.table.endpoints[id]

    def answers(self, statuses: dict[int, int], rounds: int = 1) -> None:
        """Every endpoint that has a status here gives it, `rounds` times in turn."""
        for _ in range(rounds):
            for id, status in statuses.items():
                if status >= 500 or self[id].record is not None:
                    self.watch.answered(self.pool, self[id], status, self.loads.now, trial=False)

    def dies(self, id: int, *, trial: bool = False) -> None:
        self.watch.failed(self.pool, self[id], "refused", marks=True, trial=trial)

    def owes(self, id: int, count: int) -> None:
        for _ in range(count):
            self.watch.owed(self.pool, self[id], 1.0)

    def after(self, seconds: float) -> None:
        self.loads.now += seconds
        self.watch.tick(self.loads.now)

    def out(self) -> dict[int, str]:
        return {e.id: e.state[0] for e in self.pool.endpoints if e.state[0] != "in"}

    def trial(self, status: int = 200) -> int:
        """The endpoint of a trial, which is answered so; 0 when none is due."""
        endpoint = self.watch.trial(self.pool)
        if endpoint is None:
            return 0
        assert self.watch.answered(self.pool, endpoint, status, self.loads.now, trial=True) is (status < 500)
        return endpoint.id


def test_nothing_is_kept_of_a_pool_that_is_well() -> None:
    court = Court(3)
    assert court.watch.answered(court.pool, court[1], 501, 0.0, trial=False)
    assert all(e.record is None for e in court.pool.endpoints)
    assert court.pool.ward is None


def test_a_pool_is_watched_until_all_has_been_well_for_a_while() -> None:
    court = Court(3)
    court.answers({1: 500})
    assert all(e.record is not None for e in court.pool.endpoints)
    court.after(MEMORY - 1)
    assert court.pool.ward is not None
    court.after(1)
    assert court.pool.ward is None
    assert all(e.record is None for e in court.pool.endpoints)


FAILURES = [
    # rounds of statuses by endpoint, who is out then
    ([({1: 500, 2: 200, 3: 200}, 4)], {}),
    ([({1: 500, 2: 200, 3: 200}, 5)], {1: "ejected"}),
    ([({1: 500, 2: 500, 3: 500}, 50)], {}),
    ([({1: 501, 2: 200, 3: 200}, 50)], {}),
    ([({1: 404, 2: 200, 3: 200}, 50)], {}),
    ([({1: 500, 2: 200, 3: 200}, 1), ({1: 200, 2: 200, 3: 200}, 9)] * 10, {}),
    ([({1: 500, 2: 200, 3: 200}, 1), ({1: 200, 2: 200, 3: 200}, 1)] * 10, {1: "ejected"}),
    ([({1: 500, 2: 500, 3: 200}, 1), ({1: 200, 2: 200, 3: 500}, 1)] * 10, {}),
    ([({1: 500, 2: 500, 3: 200}, 50)], {}),
    ([({1: 500}, 50)], {}),
]


@pytest.mark.parametrize(("rounds", "out"), FAILURES)
def test_failures_are_judged_against_the_pool(rounds: list[tuple[dict[int, int], int]], out: dict[int, str]) -> None:
    court = Court(3)
    for statuses, count in rounds:
        court.answers(statuses, count)
    court.after(0.25)
    assert court.out() == out


DEBTS = [
    # what each endpoint owes, who is out then
    ({1: 2}, {}),
    ({1: 3}, {1: "ejected"}),
    ({1: 3, 2: 3, 3: 3}, {}),
    ({1: 9, 2: 2, 3: 2}, {1: "ejected"}),
    ({1: 9, 2: 4, 3: 4}, {}),
]


@pytest.mark.parametrize(("debts", "out"), DEBTS)
def test_an_endpoint_that_owes_more_than_its_fellows_is_out(debts: dict[int, int], out: dict[int, str]) -> None:
    court = Court(3)
    for _ in range(2):
        for id, count in debts.items():
            court.owes(id, count)
        court.after(0.25)
    assert court.out() == out


def test_who_answers_owes_nothing() -> None:
    court = Court(3)
    for _ in range(4):
        court.owes(1, 5)
        court.answers({1: 200})
        court.after(0.25)
    assert not court.out()


def test_clients_that_gave_up_are_evidence() -> None:
    court = Court(3)
    for _ in range(3):
        court.watch.gave_up(court.pool, court[2], 2.0, trial=False)
        court.after(1)
    assert court.out() == {2: "ejected"}
    for _ in range(9):
        court.watch.gave_up(court.pool, court[1], 0.1, trial=False)  # too soon to be anybody's fault
    court.after(0.25)
    assert court.out() == {2: "ejected"}


def test_a_late_answer_brings_back_who_was_out_for_its_debts() -> None:
    court = Court(3)
    for _ in range(2):
        court.owes(1, 5)
        court.after(0.25)
    assert court.out() == {1: "ejected"}
    court.watch.answered(court.pool, court[1], 200, 99.0, trial=False)
    assert not court.out()


def test_a_dead_endpoint_is_out_at_once_and_tried_after_growing_times() -> None:
    court = Court(3, shortest=1.0, longest=3.0)
    court.dies(1)
    assert court.out() == {1: "failed"}
    assert court[1].state == ("failed", "refused")
    waits = []
    for _ in range(4):
        waited = 0.0
        while (endpoint := court.watch.trial(court.pool)) is None:
            court.after(0.25)
            waited += 0.25
        assert court.watch.trial(court.pool) is None  # one at a time
        court.dies(endpoint.id, trial=True)
        waits.append(waited)
    assert waits == [1.0, 2.0, 3.0, 3.0]
    court.after(3)
    assert court.trial() == 1
    assert not court.out()
    assert court.events == [("endpoint-returned", 1)]


def test_a_bad_answer_to_a_trial_is_withheld() -> None:
    court = Court(3)
    court.answers({1: 500, 2: 200, 3: 200}, 5)
    court.after(1)
    assert court.trial(503) == 1
    assert court.out() == {1: "ejected"}
    court.after(1)
    assert court.trial() == 1
    assert not court.out()


def test_without_a_request_fit_for_a_trial_it_is_simply_used_again() -> None:
    court = Court(3)
    court.dies(1)
    court.after(1.4)
    assert not court[1].available
    court.after(0.2)
    assert court[1].available
    court.dies(1)
    assert not court[1].available


def test_judgement_takes_no_more_than_its_share_of_a_pool() -> None:
    court = Court(5)
    for _ in range(9):
        court.answers({1: 500, 2: 500, 3: 500, 4: 200, 5: 200}, 1)
    court.after(0.25)
    assert len(court.out()) <= 2
    one = Court(1)
    one.answers({1: 500}, 50)
    one.owes(1, 50)
    one.after(0.25)
    assert not one.out()


def test_panic_when_checks_leave_too_few_all_are_used() -> None:
    court = Court(4)
    for id in (1, 2):
        court.watch.check_result(court.pool, court[id], "connection refused")
    court.after(0.25)
    assert [e.available for e in court.pool.endpoints] == [False, False, True, True]
    assert court[1].state == ("unhealthy", "connection refused")
    court.watch.check_result(court.pool, court[3], "timed out")
    court.after(0.25)
    assert all(e.available for e in court.pool.endpoints)
    court.watch.check_result(court.pool, court[3], "")
    court.after(0.25)
    assert [e.available for e in court.pool.endpoints] == [False, False, True, True]
    court.watch.check_result(court.pool, court[1], "")
    assert court[1].available


def test_when_the_whole_pool_fails_who_was_out_is_back() -> None:
    court = Court(3)
    court.answers({1: 500, 2: 200, 3: 200}, 5)
    assert court.out() == {1: "ejected"}
    court.answers({2: 500, 3: 500}, 20)
    court.after(0.25)
    assert not court.out()


def test_switched_off_nothing_is_judged() -> None:
    court = Court(3, enabled=False)
    court.answers({1: 500, 2: 200, 3: 200}, 50)
    court.dies(1)
    assert not court.out()
    assert court.watch.owed_after > 1e9


# ---------------------------------------------------------------- over the wire

ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad"


async def get(client: Client) -> int:
    return (await client.get())[0]


async def test_an_erroring_backend_is_left_alone_and_comes_back() -> None:
    healed = False

    async def ailing(client: Client) -> None:
        while True:
            await client.reader.readuntil(b"\r\n\r\n")
            await client.send(OK if healed else ERROR)

    rules = Ejection(shortest=0.05, longest=0.05, owed_after=0.1)
    async with serving(ailing, answering(OK), ejection=rules) as (bench, _):
        bench.plane.clock.interval = 0.05
        client = await bench.client()
        statuses = [await get(client) for _ in range(20)]
        assert statuses.count(500) == 5
        endpoint = bench.plane.table.endpoints[1]
        assert endpoint.state[0] == "ejected"

        async def trials(count: int) -> None:
            while endpoint.record.ejections < count:
                assert await get(client) == 200  # nobody sees how a trial went
                await asyncio.sleep(0)

        async with asyncio.timeout(5):
            await trials(3)
            healed = True
            while endpoint.state[0] != "in":
                assert await get(client) == 200
        assert "endpoint-ejected" in bench.log.names()
        assert "endpoint-returned" in bench.log.names()


async def silent(client: Client) -> None:
    await client.reader.read()


async def test_a_backend_that_never_answers_is_noticed_by_what_it_owes() -> None:
    rules = Ejection(owed_after=0.1, shortest=30.0, longest=30.0)
    async with serving(silent, answering(OK), answering(OK), ejection=rules) as (bench, _):
        bench.plane.clock.interval = 0.05
        clients = [await bench.client() for _ in range(9)]
        for client in clients:
            await client.send(request())
        endpoint = bench.plane.table.endpoints[1]
        await until(lambda: endpoint.state[0] == "ejected")
        client = await bench.client()
        assert [await get(client) for _ in range(9)] == [200] * 9


async def test_a_trial_that_is_not_answered_goes_elsewhere() -> None:
    rules = Ejection(owed_after=0.1, shortest=0.0, longest=0.0)
    async with serving(silent, answering(OK), ejection=rules) as (bench, _):
        bench.plane.clock.interval = 0.05
        endpoint = bench.plane.table.endpoints[1]
        bench.plane.loads.now = bench.plane.clock.now
        pool = bench.plane.table.pools["app.test"]
        bench.plane.watch.failed(pool, endpoint, "refused", marks=True, trial=False)
        client = await bench.client()
        assert await get(client) == 200
        assert endpoint.record.ejections == 2


async def test_the_retry_budget_holds() -> None:
    async def closing(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")

    off = Ejection(enabled=False)
    async with serving(closing, closing, retry_budget=0.1, max_attempts=3, ejection=off) as (bench, backends):
        client = await bench.client()
        count = 300
        for _ in range(count):
            assert await get(client) == 502
        made = sum(len(backend.connections) for backend in backends)
        assert count <= made <= count * 1.1 + 100 + 60


def slow(release: asyncio.Event) -> Script:
    async def script(client: Client) -> None:
        while True:
            await client.reader.readuntil(b"\r\n\r\n")
            await release.wait()
            await client.send(OK)

    return script


async def test_a_full_pool_has_a_bounded_queue() -> None:
    release = asyncio.Event()
    async with serving(slow(release), max_conns=1, max_queue=2, queue_timeout=30.0) as (bench, _):
        clients = [await bench.client() for _ in range(3)]
        for number, client in enumerate(clients):
            await client.send(request())
            await until(lambda: bench.plane.own_lane[1] == 1)
            await until(lambda number=number: sum(map(len, bench.plane.queue.waiting.values())) == number)  # type: ignore[misc]
        late = await bench.client()
        status, head, _ = await late.get()
        assert (status, b"Connection Limit Reached" in head) == (503, True)
        release.set()
        assert [(await client.response())[0] for client in clients] == [200] * 3
        assert not bench.plane.queue.waiting


async def test_nobody_waits_in_the_queue_for_ever() -> None:
    release = asyncio.Event()
    async with serving(slow(release), max_conns=1, max_queue=2, queue_timeout=0.02) as (bench, _):
        first, second, third = [await bench.client() for _ in range(3)]
        await first.send(request())
        await until(lambda: bench.plane.own_lane[1] == 1)
        await third.send(request())
        await until(lambda: bool(bench.plane.queue.waiting))
        third.close()
        assert (await second.get())[0] == 503
        await until(lambda: not bench.plane.queue.waiting)
        release.set()
        assert (await first.response())[0] == 200


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"])
async def test_a_late_request_is_hedged(answer: bytes) -> None:
    async with serving(silent, answering(answer), hedge_after=0.05) as (bench, _):
        bench.plane.clock.interval = 0.05
        for _ in range(4):
            client = await bench.client()
            status, _, body = await client.get()
            assert (status, body) == (200, b"ok")
