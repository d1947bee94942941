"""The router's figures for people and scripts: `/varz` (contract §11.4), from what workers report once a second.

Totals survive the death of a worker: what it had counted is added to a base. Rates are moving averages over 1, 5 and
15 minutes, moved on with every `tick`; latencies are of the last minute.
"""

from __future__ import annotations

import math
import os
import resource
import time
import uuid
from collections import Counter as Counts
from collections import deque
from typing import Any

from router.messages import Stats
from router.observe import histogram
from router.observe.counters import COUNT, Counter

TICK = 5.0
"""Seconds between two ticks."""
_MINUTE = int(60 / TICK)
_TOP = 10
_PERCENTILES = (50, 75, 90, 95, 99)
_CLASSES = ("2xx", "3xx", "4xx", "5xx", "xxx")


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
        self._slices: deque[Counts[Any]] = deque([Counts()], maxlen=_MINUTE)

    def add(self, counts: dict[Any, int]) -> None:
        self._slices[-1].update(counts)

    def tick(self) -> None:
        self._slices.append(Counts())

    def total(self) -> Counts[Any]:
        total: Counts[Any] = Counts()
        for part in self._slices:
            total.update(part)
        return total


class _Component:
    """Figures of one value of the tag `component`."""

    def __init__(self) -> None:
        self.requests = 0
        self.responses = [0] * len(_CLASSES)
        self.rate = Rate()
        self.latency = _Window()


class Figures:
    """All workers' figures together."""

    def __init__(self) -> None:
        self._base = [0] * COUNT
        self._current: dict[int, list[int]] = {}
        self._seen = 0
        self._latency = _Window()
        self._apps = _Window()
        self._rate = Rate()
        self._components: dict[str, _Component] = {}
        self.in_flight: dict[int, int] = {}
        """Requests in flight by worker slot."""
        self.connections: dict[int, int] = {}
        """Client connections by worker slot."""

    def received(self, slot: int, stats: Stats) -> None:
        """A worker's report. Totals that shrink mean that another worker sits in the slot."""
        counters = (stats.counters + [0] * COUNT)[:COUNT]
        before = self._current.get(slot)
        if before is not None and any(now < then for now, then in zip(counters, before, strict=True)):
            self.gone(slot)
        self._current[slot] = counters
        self.in_flight[slot] = stats.in_flight
        self.connections[slot] = stats.connections
        self._latency.add(stats.latency)
        self._apps.add(stats.apps)
        for name, group in stats.components.items():
            component = self._components.setdefault(name, _Component())
            component.requests += group.requests
            component.responses = [a + b for a, b in zip(component.responses, group.responses, strict=True)]
            component.rate.add(group.requests)
            component.latency.add(group.latency)

    def gone(self, slot: int) -> None:
        """The worker in this slot is no more; what it counted stays counted."""
        last = self._current.pop(slot, None)
        if last is not None:
            self._base = [a + b for a, b in zip(self._base, last, strict=True)]
        self.in_flight.pop(slot, None)
        self.connections.pop(slot, None)

    def tick(self) -> None:
        """`TICK` seconds have passed."""
        requests = self.total(Counter.REQUESTS)
        self._rate.add(requests - self._seen)
        self._seen = requests
        self._rate.tick()
        self._latency.tick()
        self._apps.tick()
        for component in self._components.values():
            component.rate.tick()
            component.latency.tick()

    def total(self, counter: Counter) -> int:
        """A counter over all workers, dead ones included."""
        return self._base[counter] + sum(counters[counter] for counters in self._current.values())

    def as_varz(self) -> dict[str, Any]:
        """The keys of `/varz` that speak of requests."""
        top = self._apps.total().most_common(_TOP)
        return {
            "requests": self.total(Counter.REQUESTS),
            "requests_per_sec": self._rate.values[0],
            "rate": list(self._rate.values),
            **{f"responses_{name}": self.total(Counter(Counter.RESPONSES_2XX + i)) for i, name in enumerate(_CLASSES)},
            "latency": _latency(self._latency),
            "bad_requests": self.total(Counter.BAD_REQUESTS),
            "bad_gateways": self.total(Counter.BAD_GATEWAYS),
            "top10_app_requests": [{"application_id": app, "rpm": count, "rps": count // 60} for app, count in top],
            "tags": {
                "component": {
                    name: {
                        "requests": component.requests,
                        "rate": list(component.rate.values),
                        **{f"responses_{c}": n for c, n in zip(_CLASSES, component.responses, strict=True)},
                        "latency": _latency(component.latency),
                    }
                    for name, component in self._components.items()
                }
            },
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
