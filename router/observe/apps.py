"""Figures per app and per endpoint, from what workers report once a second, over windows of 1, 10 and 60 seconds.

Memory follows traffic, not the table: an app that had no request has nothing here, and of one that had, each second
with requests is kept for a minute as packed bytes, 8 for each different latency. So a minute of traffic costs at most
some 160 bytes a request, however many apps there are, and an app that falls silent shrinks to its totals.

Seconds are control's: worker reports come on the whole second, and what is asked for are the complete ones before.
"""

from __future__ import annotations

import operator
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from router.messages import EndpointSpec, EndpointStats
from router.observe import histogram
from router.observe.directory import Directory

WINDOWS = (1, 10, 60)
"""Seconds."""
MINUTE = 60
CLASSES = ("2xx", "3xx", "4xx", "5xx", "xxx")
FORGOTTEN_AFTER = 600
"""Seconds of silence after which an app without endpoints is forgotten."""
STATE_HOLDS = 2.5
"""Seconds for which a worker's word on an endpoint holds: it is said anew with every report."""
_TOP_CLIENTS = 5
_CLIENT_SLICE = 10
_5XX = 3

_COUNT_BITS = 32
_COUNT = (1 << _COUNT_BITS) - 1
_TOTALS_END = histogram.TOTAL + (1 << histogram.KIND_SHIFT) << _COUNT_BITS


def pack_cells(cells: Mapping[int, int]) -> bytes:
    """Cells and counts, 8 bytes each."""
    return array("Q", [cell << _COUNT_BITS | count for cell, count in cells.items()]).tobytes()


def unpack_cells(parts: Iterable[bytes]) -> dict[int, int]:
    """The sum of packed cells."""
    found: dict[int, int] = {}
    for packed in array("Q", b"".join(parts)):
        cell = packed >> _COUNT_BITS
        found[cell] = found.get(cell, 0) + (packed & _COUNT)
    return found


def packed_quantiles(parts: Iterable[bytes], shares: Sequence[float]) -> list[int]:
    """The bucket of each share of packed cells of the kind `TOTAL`, as of `histogram.percentile`; none without any."""
    rising = sorted(array("Q", b"".join(parts)))
    del rising[bisect_left(rising, _TOTALS_END) :]
    total = sum(rising) & _COUNT
    if total == len(rising):  # each came once, as is usual where there is little traffic
        return [rising[ceil(share * total) - 1] >> _COUNT_BITS for share in shares] if rising else []
    counts = [packed & _COUNT for packed in rising]
    return [packed >> _COUNT_BITS for packed in histogram.quantiles(rising, counts, shares)]


class Out(NamedTuple):
    """Why a worker does not use an endpoint. Times are monotonic seconds: `until` it is tried again at the earliest."""

    state: str
    why: str
    until: float
    holds_until: float
    """When this is forgotten, if the worker doesn't say it again."""


class EndpointFigures:
    """One endpoint of an app. `seconds` holds (second, requests, packed cells), the oldest first."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "classes",
        "failures",
        "out",
        "reason",
        "seconds",
        "spec",
    )

    def __init__(self, spec: EndpointSpec) -> None:
        self.spec = spec
        self.classes = [0] * len(CLASSES)
        self.bytes_in = self.bytes_out = self.failures = 0
        self.reason = ""
        """Why the last attempt that failed did so."""
        self.out: dict[int, Out] | None = None
        """Worker → what it says, of workers that do not use the endpoint."""
        self.seconds: deque[tuple[int, int, bytes]] = deque()

    def add(self, second: int, now: float, stats: EndpointStats, requests: int, worker: int) -> None:
        """A worker's report; so many requests ended."""
        self.spec = stats.spec
        self.classes = list(map(operator.add, self.classes, stats.classes))
        self.bytes_in += stats.bytes_in
        self.bytes_out += stats.bytes_out
        self.failures += stats.failures
        self.reason = stats.reason or self.reason
        if stats.state != "in":
            told = Out(stats.state, stats.why, now + stats.failed_for, now + max(stats.failed_for, STATE_HOLDS))
            self.out = {**(self.out or {}), worker: told}
        elif self.out is not None:
            self.out.pop(worker, None)
        self.trim(second)
        if stats.cells or requests:
            self.seconds.append((second, requests, pack_cells(stats.cells)))

    def outs(self, now: float) -> list[Out]:
        """What workers say that do not use the endpoint, the worst first."""
        if not self.out:
            return []
        self.out = {worker: told for worker, told in self.out.items() if told.holds_until > now} or None
        return (
            sorted(self.out.values(), key=lambda told: (told.state != "failed", told.until), reverse=True)
            if self.out
            else []
        )

    def is_out(self, now: float) -> bool:
        """Some worker says that it does not use the endpoint. Changes nothing, so that any thread may ask."""
        out = self.out
        return out is not None and any(told.holds_until > now for told in tuple(out.values()))

    def trim(self, second: int) -> None:
        """Forget what is over a minute old."""
        seconds = self.seconds
        while seconds and seconds[0][0] < second - MINUTE:
            seconds.popleft()

    def requests(self, second: int, window: int) -> int:
        """Finished requests in the `window` seconds before `second`."""
        return sum(count for when, count, _ in self.seconds if second - window <= when < second)

    def cells(self, second: int, window: int) -> dict[int, int]:
        """Latency cells of the `window` seconds before `second`."""
        start = second - window
        return unpack_cells(packed for when, _, packed in self.seconds if start <= when < second)


class AppFigures:
    """One app: totals for ever, and a ring of its last seconds."""

    __slots__ = (
        "_clients",
        "_clients_before",
        "_errors",
        "_last",
        "_requests",
        "_slice",
        "bytes_in",
        "bytes_out",
        "classes",
        "endpoints",
        "failures",
        "name",
        "named",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.named = False
        """Has series of its own in the metrics; decided once, so that no count moves from one series to another."""
        self.classes = [0] * len(CLASSES)
        self.bytes_in = self.bytes_out = self.failures = 0
        self.endpoints: dict[str, EndpointFigures] = {}
        """By address."""
        self._requests = array("I", bytes(4 * (MINUTE + 4)))
        self._errors = array("I", bytes(4 * (MINUTE + 4)))
        self._last = 0
        self._clients: dict[bytes, int] = {}
        self._clients_before: dict[bytes, int] = {}
        self._slice = 0

    def add(self, second: int, now: float, stats: EndpointStats, endpoint: EndpointFigures, worker: int) -> None:
        """A worker's report on one of the app's endpoints, which is here already."""
        if second > self._last:
            self._move_to(second)
        self.classes = list(map(operator.add, self.classes, stats.classes))
        self.bytes_in += stats.bytes_in
        self.bytes_out += stats.bytes_out
        self.failures += stats.failures
        requests = sum(stats.classes)
        place = second % len(self._requests)
        self._requests[place] += requests
        self._errors[place] += stats.classes[_5XX] + stats.classes[-1]
        endpoint.add(second, now, stats, requests, worker)
        if second // _CLIENT_SLICE != self._slice:
            self._clients_before = self._clients if second // _CLIENT_SLICE == self._slice + 1 else {}
            self._clients = {}
            self._slice = second // _CLIENT_SLICE
        for client, count in stats.clients.items():
            self._clients[client] = self._clients.get(client, 0) + count

    def _move_to(self, second: int) -> None:
        """Empty the seconds since the last one, in which nothing came."""
        size = len(self._requests)
        for passed in range(max(self._last + 1, second - size + 1), second + 1):
            self._requests[passed % size] = self._errors[passed % size] = 0
        self._last = second

    def per_second(self, second: int, seconds: int = MINUTE) -> list[int]:
        """Requests of each of the `seconds` before `second`, the oldest first."""
        return self._ring(self._requests, second, seconds)

    def rate(self, second: int, window: int) -> float:
        """Requests a second."""
        return sum(self._ring(self._requests, second, window)) / window

    def error_rate(self, second: int, window: int) -> float:
        """5xx answers, and those of no class, a second."""
        return sum(self._ring(self._errors, second, window)) / window

    def _ring(self, ring: array[int], second: int, seconds: int) -> list[int]:
        size = len(ring)
        oldest = self._last - size
        return [ring[s % size] if oldest < s <= self._last else 0 for s in range(second - seconds, second)]

    def cells(self, second: int, window: int) -> dict[int, int]:
        """Latency cells of the `window` seconds before `second`."""
        return unpack_cells(self.packed(second, window))

    def packed(self, second: int, window: int) -> list[bytes]:
        """As `cells`, packed. Any thread may ask."""
        start = second - window
        found: list[bytes] = []
        if self._last < start:
            return found
        for endpoint in tuple(self.endpoints.values()):
            for when, _, packed in reversed(tuple(endpoint.seconds)):
                if when < start:
                    break
                if when < second:
                    found.append(packed)
        return found

    def take_over(self, other: AppFigures) -> None:
        """Add the totals of another app."""
        self.classes = [a + b for a, b in zip(self.classes, other.classes, strict=True)]
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.failures += other.failures

    def silent_since(self, second: int) -> bool:
        """No request in the last minute."""
        return self._last < second - MINUTE

    def top_clients(self, second: int) -> list[tuple[str, float]]:
        """Client addresses and their requests a second, the busiest first, over the last ten to twenty seconds."""
        if second // _CLIENT_SLICE > self._slice + 1:
            return []
        counts = dict(self._clients_before)
        for client, count in self._clients.items():
            counts[client] = counts.get(client, 0) + count
        span = _CLIENT_SLICE + second % _CLIENT_SLICE if self._clients_before else max(second % _CLIENT_SLICE, 1)
        top = sorted(counts.items(), key=lambda item: -item[1])[:_TOP_CLIENTS]
        return [(client.decode("ascii", "replace"), count / span) for client, count in top]


class Apps:
    """All apps with traffic."""

    def __init__(self, directory: Directory, clock: Callable[[], float] = time.monotonic) -> None:
        self.directory = directory
        self._clock = clock
        self._figures: dict[str, AppFigures] = {}
        self._named = 0
        self.max_named = 1000
        """Apps that may have series of their own."""
        self.departed = AppFigures("")
        """Totals of forgotten apps that had no series of their own."""
        self.on_state: Callable[[str, EndpointSpec, str], None] = lambda app, spec, reason: None
        """Told when an endpoint begins to be passed over, with the reason, and when it is back, without one."""
        self.workers = 1
        """Workers that report."""

    @property
    def second(self) -> int:
        """The second that reports are booked in now; those before it are complete."""
        return int(self._clock() + 0.5)

    def received(self, stats: list[EndpointStats], worker: int = 0) -> None:
        """A worker's report."""
        now = self._clock()
        second = int(now + 0.5)
        for each in stats:
            name = self.directory.app_of(each.spec)
            app = self._figures.get(name)
            if app is None:
                app = self._figures[name] = AppFigures(name)
                app.named = self._named < self.max_named
                self._named += app.named
            address = each.spec.address
            endpoint = app.endpoints.get(address)
            if endpoint is None:
                endpoint = app.endpoints[address] = EndpointFigures(each.spec)
            was_out = endpoint.is_out(now)
            app.add(second, now, each, endpoint, worker)
            is_out = endpoint.is_out(now)
            if is_out != was_out:
                self.on_state(name, each.spec, (endpoint.reason or each.why) if is_out else "")

    def sweep(self) -> None:
        """Forget what is gone and silent; to be called every few seconds."""
        second = self.second
        for name, app in list(self._figures.items()):
            if not app.silent_since(second):
                continue
            known = name in self.directory
            if not known and app.silent_since(second - FORGOTTEN_AFTER):
                del self._figures[name]
                self._named -= app.named
                if not app.named:
                    self.departed.take_over(app)
                continue
            alive = {spec.address for spec in self.directory.endpoints(name)}
            for address, endpoint in list(app.endpoints.items()):
                endpoint.trim(second)
                if address not in alive:
                    del app.endpoints[address]

    def get(self, name: str) -> AppFigures | None:
        """The figures of an app, None when it had no request yet."""
        return self._figures.get(name)

    def all(self) -> list[AppFigures]:
        """Apps that had a request since control began."""
        return list(self._figures.values())

    def names(self) -> Iterator[str]:
        """Apps with endpoints or with traffic in the last minute."""
        yield from self.directory.apps()
        second = self.second
        for name, app in list(self._figures.items()):
            if name not in self.directory and not app.silent_since(second):
                yield name

    def state(self, spec: EndpointSpec, figures: EndpointFigures | None) -> tuple[str, str]:
        """Of an endpoint: `in`, or what keeps requests away (`unhealthy`, `ejected`, `failed`), and why."""
        if unhealthy := self.directory.unhealthy(spec):
            return "unhealthy", f"active check: {unhealthy}"
        now = self._clock()
        outs = figures.outs(now) if figures is not None else []
        if figures is None or not outs:
            return "in", ""
        worst = outs[0]
        why = [worst.why]
        if figures.reason and figures.reason not in worst.why:
            why = [figures.reason] if worst.state == "failed" else [worst.why, f"last failure: {figures.reason}"]
        left = worst.until - now
        why.append(f"tried again in {left:.0f} s" if left >= 0.5 else "the next request tries it")
        if len(outs) < self.workers:
            why.append(f"so for {len(outs)} of {self.workers} workers")
        return worst.state, "; ".join(part for part in why if part)


def latency(cells: Mapping[int, int], kind: int = histogram.TOTAL) -> dict[str, Any]:
    """Percentiles of one kind of time in milliseconds, null without samples."""
    counts = histogram.of_kind(cells, kind)
    total = sum(counts.values())
    return {
        "samples": total,
        **{
            f"p{label}": round(histogram.percentile(counts, q) * 1000, 3) if total else None
            for label, q in (("50", 0.5), ("90", 0.9), ("99", 0.99))
        },
    }
