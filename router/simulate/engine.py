"""The simulation: events in order of time, one router, the strategy objects of the worker.

What the router does is what the worker does: it picks, counts, marks what can't be reached, tries again up to three
times, and tells the strategy how it went. Backends serve a few requests at once; the rest waits in line there.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple

from router import in_flight
from router.balance.strategy import Strategy
from router.in_flight import InFlight
from router.messages import EndpointSpec, PutEndpoint
from router.simulate.scenario import Arrival, Scenario
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool

ATTEMPTS = 3
REFUSED_AFTER = 0.001
"""Seconds until a dead backend's refusal is there."""
BEGIN = 1000.0
"""The clock when it begins: no moment is 0, which means "never" to endpoints."""
TICK = 0.25
"""Seconds between two ticks of the router's coarse clock."""


class Result(NamedTuple):
    """What a strategy made of a scenario. Latencies are seconds, in order."""

    latencies: list[float]
    failed: int
    served: list[int]
    """Requests by backend."""

    def percentile(self, share: float) -> float:
        """The latency that this share of requests stayed below, 0 without any."""
        if not self.latencies:
            return 0.0
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    @property
    def imbalance(self) -> float:
        """Requests of the busiest backend over the average."""
        total = sum(self.served)
        return max(self.served) * len(self.served) / total if total else 0.0


class _Request:
    """A request as strategies see it."""

    __slots__ = ("arrival", "attempt", "began", "client", "endpoint", "scratch", "target")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.attempt = 0
        self.scratch: Any = None
        self.client = arrival.client
        self.target = arrival.target
        self.endpoint: Endpoint | None = None
        self.began = 0.0

    def header(self, name: bytes) -> bytes | None:
        return None


class _Backend:
    __slots__ = ("busy", "dead", "factor", "line")

    def __init__(self, factor: float, dead: bool) -> None:
        self.factor = factor
        self.dead = dead
        self.busy = 0
        self.line: deque[_Request] = deque()


class Simulation:
    """One strategy in one scenario."""

    def __init__(self, scenario: Scenario, strategy: Strategy) -> None:
        self._scenario = scenario
        self._fd = in_flight.create(1 << 14)
        self._counts = InFlight(self._fd)
        self._loads = Loads(self._counts)
        self._pool = Pool("simulated", "/", "", strategy)
        self._backends: list[_Backend] = []
        for number in range(scenario.endpoints):
            slow = number < scenario.slow
            dead = number >= scenario.endpoints - scenario.dead
            self._backends.append(_Backend(scenario.slow_factor if slow else 1.0, dead))
            spec = EndpointSpec("10.0.0.1", number + 1, instance_id=f"i{number}")
            self._pool.put(Endpoint(PutEndpoint.of(number + 1, number + 1, spec), self._loads), 0)
        self._events: list[tuple[float, int, _Request]] = []
        self._order = count()
        self._latencies: list[float] = []
        self._failed = 0
        self._served = [0] * scenario.endpoints

    def run(self, arrivals: Iterable[Arrival]) -> Result:
        """Let it all happen; afterwards the simulation is used up."""
        random.seed(self._scenario.seed)  # what strategies draw
        for arrival in arrivals:
            self._happen(arrival.at)
            self._attempt(_Request(arrival), arrival.at)
        self._happen(float("inf"))
        self._counts.close()

        os.close(self._fd)
        return Result(sorted(self._latencies), self._failed, self._served)

    def _happen(self, until: float) -> None:
        """All that ends before a moment."""
        while self._events and self._events[0][0] <= until:
            now, _, request = heappop(self._events)
            self._ended(request, now)

    def _attempt(self, request: _Request, now: float) -> None:
        self._loads.now = BEGIN + now // TICK * TICK
        request.attempt += 1
        endpoint: Endpoint | None = self._pool.strategy.pick(self._pool, request)
        if endpoint is None:
            self._failed += 1
            return
        self._counts.own[endpoint.slot] += 1
        request.endpoint, request.began = endpoint, now
        backend = self._backends[endpoint.slot - 1]
        if backend.dead:
            self._end_at(now + REFUSED_AFTER, request)
        elif backend.busy < self._scenario.concurrency:
            backend.busy += 1
            self._end_at(now + request.arrival.service * backend.factor, request)
        else:
            backend.line.append(request)

    def _end_at(self, when: float, request: _Request) -> None:
        heappush(self._events, (when, next(self._order), request))

    def _ended(self, request: _Request, now: float) -> None:
        endpoint = request.endpoint
        assert endpoint is not None
        self._loads.now = BEGIN + now // TICK * TICK
        self._counts.own[endpoint.slot] -= 1
        backend = self._backends[endpoint.slot - 1]
        if self._pool.done is not None:
            self._pool.done(endpoint, request, now - request.began, not backend.dead)
        if backend.dead:
            endpoint.failed_at = self._loads.now
            if request.attempt < ATTEMPTS:
                self._attempt(request, now)
            else:
                self._failed += 1
            return
        self._served[endpoint.slot - 1] += 1
        self._latencies.append(now - request.arrival.at)
        if backend.line:
            following = backend.line.popleft()
            self._end_at(now + following.arrival.service * backend.factor, following)
        else:
            backend.busy -= 1
