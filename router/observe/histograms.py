"""Histograms with fixed bounds for Prometheus (contract §11.5), totals since control began.

They are filled from the cells that workers report, so a time within 0.8 % of a bound may fall on its other side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from router.observe import histogram
from router.observe.accounts import LOOKUP_STEP, LOOKUP_STEPS

MILLISECONDS = 1000.0
LATENCY = (1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000)
GOROUTER_TIME = (1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000)
HTTP_LATENCY = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
REGISTRATION = (0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
LOOKUP = tuple(LOOKUP_STEP * step for step in range(1, LOOKUP_STEPS + 1))
MAX_SOURCES = 10_000
"""Values of a label that get a histogram of their own; the rest is together in `other`."""
OTHER = "other"


class Bounded:
    """One histogram. `bounds` rise; `unit` is how many of their unit make a second."""

    __slots__ = ("_places", "_unit", "bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float], unit: float = 1.0) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """Samples of each bucket by itself, the last one without an upper bound."""
        self.total = 0.0
        """Sum of all samples, in the unit."""
        self._unit = unit
        self._places: dict[int, tuple[int, float]] = {}

    def add(self, counts: dict[int, int]) -> None:
        """Take in a `histogram` of seconds."""
        places = self._places
        for bucket, count in counts.items():
            place = places.get(bucket)
            if place is None:
                value = histogram.value(bucket) * self._unit
                place = places[bucket] = (bisect_left(self.bounds, value), value)
            self.counts[place[0]] += count
            self.total += place[1] * count

    def observe(self, value: float) -> None:
        """Take in one sample, in the unit."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histograms:
    """All of them. Bounds other than the defaults are given once, by `configure`."""

    def __init__(self) -> None:
        self.configure({}, per_app=False)

    def configure(self, bounds: Mapping[str, Sequence[float]], *, per_app: bool) -> None:
        """Begin anew with these bounds: name of the metric → bounds; empty ones mean the defaults."""
        self._latency_bounds = bounds.get("latency") or LATENCY
        self._http_bounds = bounds.get("http_latency_seconds") or HTTP_LATENCY
        self.gorouter_time = Bounded(bounds.get("gorouter_time") or GOROUTER_TIME)
        self.registration = Bounded(bounds.get("route_registration_latency") or REGISTRATION)
        self.lookup = Bounded(bounds.get("route_lookup_time") or LOOKUP)
        self.latency: dict[str, Bounded] = {}
        """By component."""
        self.http_latency: dict[str, Bounded] = {}
        """By source id."""
        self.requests: dict[str, int] = {}
        """Attempts by component."""
        self._per_app = per_app

    def add_component(self, component: str, requests: int, cells: Mapping[int, int]) -> None:
        """A worker's report on all endpoints of a component: attempts, and latencies of all kinds."""
        component = _label(self.latency, component)
        if component not in self.latency:
            self.latency[component] = Bounded(self._latency_bounds, MILLISECONDS)
        self.latency[component].add(histogram.of_kind(cells, histogram.TOTAL))
        self.requests[component] = self.requests.get(component, 0) + requests
        self.gorouter_time.add(histogram.of_kind(cells, histogram.ROUTER))

    def add_source(self, source: str, cells: Mapping[int, int]) -> None:
        """A worker's report on an endpoint, for the histogram of its source id."""
        if self._per_app:
            source = _label(self.http_latency, source or "gorouter")
            if source not in self.http_latency:
                self.http_latency[source] = Bounded(self._http_bounds)
            self.http_latency[source].add(histogram.of_kind(cells, histogram.TOTAL))

    def looked_up(self, steps: list[int], ns: int) -> None:
        """Durations of look-ups in steps of `LOOKUP_STEP`."""
        for step, count in enumerate(steps):
            if count:
                # A step is placed by its middle; with the default bounds each is a bucket.
                self.lookup.counts[bisect_left(self.lookup.bounds, (step + 0.5) * LOOKUP_STEP)] += count
        self.lookup.total += ns


def _label(known: dict[str, Bounded], value: str) -> str:
    return value if value in known or len(known) < MAX_SOURCES else OTHER
