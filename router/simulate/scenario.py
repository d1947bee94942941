"""What is simulated: backends and what comes in. Data, and the random draws that make it; no events here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from random import Random

SIGMA = 1.0
"""Of the logarithm of a lognormal service time: a long tail, as web apps have it."""
SHAPE = 2.2
"""Of a Pareto distribution: heavier still."""
BURST_EVERY, BURST_LASTS = 5.0, 1.0
"""Seconds."""
CLIENTS = 1000

Draw = Callable[[Random], float]

DISTRIBUTIONS: dict[str, Draw] = {
    "constant": lambda random: 1.0,
    "exponential": lambda random: random.expovariate(1.0),
    "lognormal": lambda random: random.lognormvariate(-SIGMA * SIGMA / 2, SIGMA),
    "pareto": lambda random: random.paretovariate(SHAPE) * (SHAPE - 1) / SHAPE,
}
"""Service times by name, all with mean 1."""


class ScenarioError(Exception):
    """A scenario that can't be simulated, in words for the user."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Backends and load. Times are seconds."""

    endpoints: int = 10
    slow: int = 1
    """How many of them are slow."""
    slow_factor: float = 10.0
    dead: int = 0
    """How many of them refuse every connection."""
    concurrency: int = 8
    """Requests that a backend works on at once; others wait in line there."""
    service: str = "lognormal"
    mean: float = 0.05
    load: float = 0.6
    """Share of what the backends could do if all were well."""
    burst: float = 1.0
    """How many times the load comes for a second, every five seconds."""
    requests: int = 20_000
    seed: int = 1

    def checked(self) -> Scenario:
        """Itself. Raises ScenarioError."""
        if self.service not in DISTRIBUTIONS:
            raise ScenarioError(f"--service {self.service}: expected one of {', '.join(DISTRIBUTIONS)}")
        if self.slow + self.dead > self.endpoints:
            raise ScenarioError(f"{self.slow} slow and {self.dead} dead backends are more than {self.endpoints}")
        if self.dead == self.endpoints:
            raise ScenarioError("all backends are dead: nothing can be compared")
        return self


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: when it comes (seconds from the begin), from whom, for what, and how long it takes to serve."""

    at: float
    client: bytes
    target: bytes
    service: float


def arrivals(scenario: Scenario) -> Iterator[Arrival]:
    """Requests at random moments; the same for every strategy."""
    random = Random(scenario.seed)
    draw = DISTRIBUTIONS[scenario.service]
    rate = scenario.load * scenario.endpoints * scenario.concurrency / scenario.mean
    now = 0.0
    for _ in range(scenario.requests):
        bursting = scenario.burst != 1.0 and now % BURST_EVERY < BURST_LASTS
        now += random.expovariate(rate * scenario.burst if bursting else rate)
        client = int(CLIENTS * random.random() ** 3)  # some are busier than others
        yield Arrival(
            now, b"192.0.2.%d" % client, b"/item/%d" % random.randrange(CLIENTS), draw(random) * scenario.mean
        )


_LINE = re.compile(rb'\[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?[^\]]*\] "\S+ (\S+) [^"]*".*?"([^":]*):\d+"')


def replayed(path: Path, scenario: Scenario) -> list[Arrival]:
    """The requests of an access log of this router, when they came; service times are drawn. Raises ScenarioError."""
    random = Random(scenario.seed)
    draw = DISTRIBUTIONS[scenario.service]
    found: list[Arrival] = []
    try:
        with path.open("rb") as lines:
            for line in lines:
                match = _LINE.search(line)
                if match is not None:
                    second = datetime.fromisoformat(match[1].decode() + "+00:00").timestamp()
                    at = second + float(match[2] or b"0")
                    found.append(Arrival(at, match[4], match[3], draw(random) * scenario.mean))
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not found:
        raise ScenarioError(f"{path}: no line of an access log as this router writes it (docs/observing.md)")
    begin = min(arrival.at for arrival in found)
    return sorted((replace(arrival, at=arrival.at - begin) for arrival in found), key=lambda arrival: arrival.at)
