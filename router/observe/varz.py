"""The router's figures for people and scripts: `/varz` (contract §11.4), from what workers report once a second.

Totals survive the death of a worker: what it had counted is added to a base. Rates are moving averages over 1, 5 and
15 minutes, moved on with every `tick`; latencies are of the last minute.
"""

from __future__ import annotations

import math
import operator
import os
import resource
import time
import uuid
from collections import Counter as Counts
from collections import defaultdict, deque
from typing import Any

from router.messages import EndpointSpec, EndpointStats, Stats
from router.observe import histogram
from router.observe.apps import CLASSES, AppFigures, Apps
from router.observe.counters import COUNT, Counter
from router.observe.directory import Directory
from router.observe.events import Events, Failures
from router.observe.histograms import Histograms

TICK = 5.0
"""Seconds between two ticks."""
_MINUTE = int(60 / TICK)
_TOP = 10
_PERCENTILES = (50, 75, 90, 95, 99)
LOADS = 62
"""Seconds that are kept one by one."""
TAGS = ("component", "framework", "runtime")
"""Tags by whose values figures are kept: that of contract §11.4, and those that the old router's apps carried."""
MAX_GROUPS = 1000
"""Values of a tag that are told apart."""


class Rate:
    """Events per second, averaged over 1, 5 and 15 minutes with weights that fade (exponentially)."""

    __slots__ = ("_count", "_primed", "values")

    _FADES = tuple(1 - math.exp(-TICK / 60 / minutes) for minutes in (1, 5, 15))

    def __init__(self) -> None:
        self.values = [0.0, 0.0, 0.0]
        self._count = 0
        self._primed = False

    def add(self, count: int) -> None:
        """Events that happened since the last call."""
        self._count += count

    def tick(self) -> None:
        """`TICK` seconds have passed."""
        now = self._count / TICK
        self._count = 0
        for i, fade in enumerate(self._FADES):
            self.values[i] = now if not self._primed else self.values[i] + fade * (now - self.values[i])
        self._primed = True


class _Window:
    """What came in the last minute, in slices of one tick each."""

    def __init__(self) -> None:
        self._slices: deque[Counts[int]] = deque([Counts()], maxlen=_MINUTE)

    def add(self, counts: dict[int, int]) -> None:
        self._slices[-1].update(counts)

    def tick(self) -> None:
        self._slices.append(Counts())

    def total(self) -> Counts[int]:
        total: Counts[int] = Counts()
        for part in self._slices:
            total.update(part)
        return total


class _Sums:
    """What some endpoints did, from a worker's report."""

    def __init__(self, endpoints: list[EndpointStats]) -> None:
        self.classes = [sum(counts) for counts in zip(*[each.classes for each in endpoints], strict=True)]
        self.requests = sum(self.classes) + sum([each.failures for each in endpoints])
        """Attempts."""
        self.cells: dict[int, int] = {}
        for each in endpoints:
            histogram.merge(self.cells, each.cells)


class Group:
    """Figures of all endpoints that have one value of a tag."""

    def __init__(self) -> None:
        self.requests = 0
        self.responses = [0] * len(CLASSES)
        self.rate = Rate()
        self.latency = _Window()

    def add(self, sums: _Sums) -> None:
        """What they did, from a worker's report."""
        self.requests += sums.requests
        self.responses = list(map(operator.add, self.responses, sums.classes))
        self.rate.add(sums.requests)
        self.latency.add(histogram.of_kind(sums.cells, histogram.TOTAL))

    def tick(self) -> None:
        """`TICK` seconds have passed."""
        self.rate.tick()
        self.latency.tick()

    def as_varz(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "rate": list(self.rate.values),
            **{f"responses_{c}": n for c, n in zip(CLASSES, self.responses, strict=True)},
            "latency": _latency(self.latency),
        }


class Figures:
    """All workers' figures together. What is kept per app and endpoint is in `apps`, histograms in `histograms`."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.apps = Apps(self.directory)
        self.histograms = Histograms()
        self.events = Events()
        self.failures = Failures()
        self.reasons: dict[str, int] = {}
        """Kind of router-made error → how many."""
        self._base = [0] * COUNT
        self._current: dict[int, list[int]] = {}
        self._seen = 0
        self._seconds: deque[tuple[int, dict[int, int]]] = deque(maxlen=LOADS)
        self.totals: deque[tuple[int, int, int]] = deque(maxlen=LOADS)
        """(second, requests, 5xx) of the last minute, the oldest first."""
        self._latency = _Window()
        self._rate = Rate()
        self.groups: dict[str, dict[str, Group]] = {tag: {} for tag in TAGS}
        """Tag → value → figures."""
        self.in_flight: dict[int, int] = {}
        """Requests in flight by worker slot."""
        self.connections: dict[int, int] = {}
        """Client connections by worker slot."""
        self.backends: dict[int, int] = {}
        """Backend connections by worker slot."""
        self.apps.on_state = self._state_changed

    def received(self, slot: int, stats: Stats) -> None:
        """A worker's report. Totals that shrink mean that another worker sits in the slot."""
        counters = (stats.counters + [0] * COUNT)[:COUNT]
        before = self._current.get(slot)
        if before is not None and any(now < then for now, then in zip(counters, before, strict=True)):
            self.gone(slot)
        self._current[slot] = counters
        self.in_flight[slot] = stats.in_flight
        self.connections[slot] = stats.connections
        self.backends[slot] = stats.backends
        self.apps.workers = len(self._current)
        self.apps.received(stats.endpoints, slot)
        self.histograms.looked_up(stats.lookups, stats.lookup_ns)
        for kind, count in stats.reasons.items():
            self.reasons[kind] = self.reasons.get(kind, 0) + count
        for failed in stats.failures:
            failed.app = failed.app or self.directory.name_at(failed.address)
        self.failures.add(slot, stats.failures)
        tagged: dict[tuple[str, str], list[EndpointStats]] = defaultdict(list)
        for each in stats.endpoints:
            tags = {"component": "", **dict(each.spec.tags or ())}
            self.histograms.add_source(tags.get("source_id", ""), each.cells)
            for tag in TAGS:
                if tag in tags:
                    tagged[tag, tags[tag]].append(each)
        cells: dict[int, int] = {}
        requests = errors = 0
        for (tag, value), some in tagged.items():
            sums, groups = _Sums(some), self.groups[tag]
            if tag == "component":  # of which everyone has one
                self.histograms.add_component(value, sums.requests, sums.cells)
                histogram.merge(cells, sums.cells)
                requests += sum(sums.classes)
                errors += sums.classes[3]
            if value and (value in groups or len(groups) < MAX_GROUPS):
                groups.setdefault(value, Group()).add(sums)
        self._latency.add(histogram.of_kind(cells, histogram.TOTAL))
        self._book(self.apps.second, cells, requests, errors)

    def _book(self, second: int, cells: dict[int, int], requests: int, errors: int) -> None:
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, {}))
            self.totals.append((second, 0, 0))
        histogram.merge(self._seconds[-1][1], cells)
        _, r, e = self.totals[-1]
        self.totals[-1] = (second, r + requests, e + errors)

    def gone(self, slot: int) -> None:
        """The worker in this slot is no more; what it counted stays counted."""
        last = self._current.pop(slot, None)
        if last is not None:
            self._base = [a + b for a, b in zip(self._base, last, strict=True)]
        self.in_flight.pop(slot, None)
        self.connections.pop(slot, None)
        self.backends.pop(slot, None)

    def _state_changed(self, app: str, spec: EndpointSpec, reason: str) -> None:
        event = "endpoint-ejected" if reason else "endpoint-restored"
        data = {"app": app, "backend": spec.address, "instance": spec.instance_index}
        self.events.add(2 if reason else 1, "router", event, {**data, "reason": reason} if reason else data)

    def tick(self) -> None:
        """`TICK` seconds have passed."""
        requests = self.total(Counter.REQUESTS)
        self._rate.add(requests - self._seen)
        self._seen = requests
        self._rate.tick()
        self._latency.tick()
        for values in self.groups.values():
            for group in values.values():
                group.tick()
        self.apps.sweep()

    def total(self, counter: Counter) -> int:
        """A counter over all workers, dead ones included."""
        return self._base[counter] + sum(counters[counter] for counters in self._current.values())

    def cells(self, window: int) -> dict[int, int]:
        """Latency cells of all requests of the last `window` complete seconds."""
        second = self.apps.second
        found: dict[int, int] = {}
        for when, cells in self._seconds:
            if second - window <= when < second:
                histogram.merge(found, cells)
        return found

    def as_varz(self, all_apps: bool = False) -> dict[str, Any]:
        """The keys of `/varz` that speak of requests; with `all_apps` every app is listed (contract §14)."""
        second = self.apps.second
        busiest = sorted(
            ((app, count) for app in self.apps.all() if (count := sum(app.per_second(second)))),
            key=lambda item: -item[1],
        )
        return {
            "requests": self.total(Counter.REQUESTS),
            "requests_per_sec": self._rate.values[0],
            "rate": list(self._rate.values),
            **{f"responses_{name}": self.total(Counter(Counter.RESPONSES_2XX + i)) for i, name in enumerate(CLASSES)},
            "latency": _latency(self._latency),
            "bad_requests": self.total(Counter.BAD_REQUESTS),
            "bad_gateways": self.total(Counter.BAD_GATEWAYS),
            "client_connections": sum(self.connections.values()),
            "app_connections": sum(self.backends.values()),
            "top10_app_requests": [self._app_varz(app, count) for app, count in busiest[:_TOP]],
            **({"top_app_requests": [self._app_varz(*each) for each in busiest]} if all_apps else {}),
            "tags": {
                tag: {value: group.as_varz() for value, group in values.items()}
                for tag, values in self.groups.items()
                if values or tag == "component"
            },
        }

    def _app_varz(self, app: AppFigures, requests: int) -> dict[str, Any]:
        """One app, in the words of the new router and of the old one (contract §11.4, §14)."""
        routes = self.directory.routes(app.name, limit=1)
        return {
            "application_id": app.name,
            "rpm": requests,
            "rps": requests // 60,
            "url": routes[0] if routes else "",
            "clients": [{"ip": ip, "rps": round(rate, 3)} for ip, rate in app.top_clients(self.apps.second)],
        }


def _latency(window: _Window) -> dict[str, Any]:
    """Percentiles in seconds; the last two keys are constants (contract §11.4)."""
    counts = window.total()
    shown: dict[str, Any] = {str(p): histogram.percentile(counts, p / 100) for p in _PERCENTILES}
    return {**shown, "samples": 1, "value": 5e-07}


class Process:
    """The keys of `/varz` that speak of the router as a process (contract §11.4)."""

    def __init__(self, index: int, host: str, credentials: tuple[str, str]) -> None:
        """`host` is `host:port` of the status server."""
        self._index = index
        self._uuid = f"{index}-{uuid.uuid4()}"
        self._host = host
        self._credentials = credentials
        self._started = time.time()
        self._cpu = (time.monotonic(), 0.0)

    def as_varz(self) -> dict[str, Any]:
        """Keys and values as of now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "type": "Router",
            "index": self._index,
            "uuid": self._uuid,
            "host": self._host,
            "credentials": list(self._credentials),
            "start": time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(self._started)),
            "uptime": _uptime(int(time.time() - self._started)),
            "num_cores": os.cpu_count() or 1,
            "mem": usage.ru_maxrss,
            "cpu": self._cores_used(usage.ru_utime + usage.ru_stime),
            "log_counts": {},
        }

    def _cores_used(self, seconds: float) -> float:
        """CPU seconds per second since the last question."""
        then, before = self._cpu
        now = time.monotonic()
        self._cpu = (now, seconds)
        return (seconds - before) / max(now - then, 1e-3)


def _uptime(seconds: int) -> str:
    """`0d:3h:22m:31s`."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}d:{hour}h:{minute}m:{second}s"
