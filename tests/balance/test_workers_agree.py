"""Least connection over several workers: requests that stay are spread to within one, whoever races whom."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

from router import in_flight
from router.balance.least_connection import LeastConnection
from router.in_flight import InFlight
from router.messages import EndpointSpec
from router.table.endpoint import Loads
from router.table.pool import Pool
from tests.support.routers import running, until
from tests.support.table import Asking, endpoint_of
from tests.support.wire import Client
from tests.support.workers import backend

WORKERS, ENDPOINTS, ROUNDS = 4, 8, 60


def _work(fd: int, lane: int, together: Barrier) -> None:
    """One worker: at every strike of the clock each worker gets a request that stays."""
    counts = InFlight(fd, lane, WORKERS)
    pool = Pool("a.com", "/", "least-connection", LeastConnection())
    loads = Loads(counts)
    for number in range(ENDPOINTS):
        pool.put(endpoint_of(number + 1, number + 1, EndpointSpec("10.0.0.1", number + 1), loads), 0)
    for _ in range(ROUNDS):
        together.wait(20)
        request = Asking()
        endpoint = pool.strategy.pick(pool, request)
        counts.own[endpoint.slot] += 1
        pool.strategy.settle(pool, endpoint, request)


async def _knows(client: Client) -> bool:
    return (await client.get("last.test"))[0] == 200


def test_workers_that_pick_at_the_same_moment_settle_it() -> None:
    context = multiprocessing.get_context("fork")
    fd = in_flight.create(64)
    together = context.Barrier(WORKERS)
    workers = [context.Process(target=_work, args=(fd, lane, together)) for lane in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    totals = InFlight(fd, 0, WORKERS).totals(1, ENDPOINTS)
    os.close(fd)
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert sum(totals) == WORKERS * ROUNDS
    assert max(totals) - min(totals) <= 1


async def test_four_workers_and_eight_endpoints_are_level(tmp_path: Path) -> None:
    requests = 44
    held: Counter[int] = Counter()
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            held[writer.get_extra_info("sockname")[1]] += 1
            await release.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()

    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for _ in range(ENDPOINTS)]
    async with (
        running(tmp_path, workers=WORKERS, balancing_algorithm="least-connection") as (router, party),
        backend() as ready,
    ):
        for server in servers:
            await party.say("register", server.sockets[0].getsockname()[1], "a.test")
        await party.say("register", ready, "last.test")
        clients = [await Client.to(router.port) for _ in range(requests)]
        for client in clients:  # whose worker knows the last route knows all before it
            await until(lambda c=client: _knows(c))
        for client in clients:
            await client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await until(lambda: sum(held.values()) == requests)
        counts = [held[server.sockets[0].getsockname()[1]] for server in servers]
        assert max(counts) - min(counts) <= 1
        release.set()
        for client in clients:
            assert (await client.response())[0] == 200
            client.close()
    for server in servers:
        server.close()
