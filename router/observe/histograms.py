"""Histograms with fixed bounds for Prometheus (contract §11.5), totals since control began.

They are filled from the cells that workers report, so a time within 0.8 % of a bound may fall on its other side.
"""

from __future__ import annotations

from array import array
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
    """Histograms with the same bounds, told apart by the value of a label; "" is that of one that stands alone.

    `bounds` rise; `unit` is how many of their unit make a second. Counts lie in columns, so that a scrape takes those
    of 10,000 values at once, and may do so in any thread: nothing is ever taken away, and a value is a member once it
    has its row.
    """

    __slots__ = ("_places", "_unit", "bounds", "columns", "members", "totals")

    def __init__(self, bounds: Sequence[float], unit: float = 1.0) -> None:
        self.bounds = tuple(bounds)
        self.members: dict[str, int] = {}
        """Value → row."""
        self.columns = [array("Q") for _ in range(len(self.bounds) + 1)]
        """Samples of each bucket by itself, the last one without an upper bound."""
        self.totals = array("d")
        """Sum of all samples, in the unit."""
        self._unit = unit
        self._places: dict[int, tuple[array[int], float]] = {}

    @classmethod
    def alone(cls, bounds: Sequence[float]) -> Bounded:
        """A histogram without a label, there from the beginning."""
        made = cls(bounds)
        made.row("")
        return made

    def row(self, value: str) -> int:
        """The row of a value; values beyond `MAX_SOURCES` have one together."""
        row = self.members.get(value)
        if row is None:
            if len(self.members) >= MAX_SOURCES and value != OTHER:
                return self.row(OTHER)
            row = len(self.members)
            for column in self.columns:
                column.append(0)
            self.totals.append(0.0)
            self.members[value] = row
        return row

    def add(self, value: str, counts: Mapping[int, int]) -> None:
        """Take in a `histogram` of seconds."""
        places, row = self._places, self.row(value)
        for bucket, count in counts.items():
            place = places.get(bucket)
            if place is None:
                middle = histogram.value(bucket) * self._unit
                place = places[bucket] = (self.column(middle), middle)
            place[0][row] += count
            self.totals[row] += place[1] * count

    def observe(self, sample: float) -> None:
        """Take in one sample, in the unit, of what stands alone."""
        self.column(sample)[0] += 1
        self.totals[0] += sample

    def column(self, sample: float) -> array[int]:
        """The counts of the bucket that a sample falls in."""
        return self.columns[bisect_left(self.bounds, sample)]


class Histograms:
    """All of them. Bounds other than the defaults are given once, by `configure`."""

    def __init__(self) -> None:
        self.configure({}, per_app=False)

    def configure(self, bounds: Mapping[str, Sequence[float]], *, per_app: bool) -> None:
        """Begin anew with these bounds: name of the metric → bounds; empty ones mean the defaults."""
        self.gorouter_time = Bounded.alone(bounds.get("gorouter_time") or GOROUTER_TIME)
        self.registration = Bounded.alone(bounds.get("route_registration_latency") or REGISTRATION)
        self.lookup = Bounded.alone(bounds.get("route_lookup_time") or LOOKUP)
        self.latency = Bounded(bounds.get("latency") or LATENCY, MILLISECONDS)
        """By component."""
        self.http_latency = Bounded(bounds.get("http_latency_seconds") or HTTP_LATENCY)
        """By source id."""
        self.requests: dict[str, int] = {}
        """Attempts by component."""
        self._per_app = per_app

    def add_component(self, component: str, requests: int, cells: Mapping[int, int]) -> None:
        """A worker's report on all endpoints of a component: attempts, and latencies of all kinds."""
        self.latency.add(component, histogram.of_kind(cells, histogram.TOTAL))
        if component not in self.latency.members:
            component = OTHER
        self.requests[component] = self.requests.get(component, 0) + requests
        self.gorouter_time.add("", histogram.of_kind(cells, histogram.ROUTER))

    def add_source(self, source: str, cells: Mapping[int, int]) -> None:
        """A worker's report on an endpoint, for the histogram of its source id."""
        if self._per_app:
            self.http_latency.add(source or "gorouter", histogram.of_kind(cells, histogram.TOTAL))

    def looked_up(self, steps: list[int], ns: int) -> None:
        """Durations of look-ups in steps of `LOOKUP_STEP`."""
        for step, count in enumerate(steps):
            if count:
                # A step is placed by its middle; with the default bounds each is a bucket.
                self.lookup.column((step + 0.5) * LOOKUP_STEP)[0] += count
        self.lookup.totals[0] += ns
