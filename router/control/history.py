"""What happened to routes, and when: for `router history`, and for the page of an unknown route (`debug_404`).

Bounded in memory (the last `EVENTS` changes, the last `REMEMBERED` hosts that went) and in time (a look through the
table takes at most `BUDGET` seconds, and then knows less). Heartbeats that change nothing are no events.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from itertools import islice
from typing import NamedTuple, TypeVar

from router.control.entries import who
from router.messages import unpack

EVENTS = 50_000
"""Changes of the table that are kept."""
REMEMBERED = 10_000
"""Hosts that went, of which time and reason are kept."""
BUDGET = 0.02
"""Seconds that a look through the table may take."""
LONGEST_NAME = 253
"""Letters of a host name (RFC 1035)."""
_BATCH = 128
_NEAREST = 3
_LIKENESS = 0.8
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-."

Item = TypeVar("Item")


class Event(NamedTuple):
    """A change of an endpoint of a route. `what` is `registered`, `changed`, `unregistered`, `pruned` or `ejected`."""

    when: float
    """Unix seconds."""
    what: str
    route: str
    address: str
    why: str


_Row = tuple[float, str, str, str, str | bytes]
"""An `Event`; instead of why, a registration, packed."""


def _event(row: _Row) -> Event:
    when, what, route, address, why = row
    return Event(when, what, route, address, why if isinstance(why, str) else who(unpack(why)))


class History:
    """What happened. `clock` gives unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._gone: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._events: deque[_Row] = deque(maxlen=EVENTS)
        self._waiting: deque[tuple[int, float, str, Iterable[tuple[str, str]], str]] = deque()
        self._behind = 0  # events that wait
        self._silent = False
        self.changes = 0
        """Goes up with all that is added."""

    def happened(self, what: str, route: str, addresses: Iterable[str], why: str | bytes) -> None:
        """Endpoints of a route came, changed or went; for `why` also the registration, packed: then who it was."""
        if not self._silent:
            when = self._clock()
            self.changes += 1
            self._written().extend([(when, what, route, address, why) for address in addresses])

    def happened_later(self, what: str, of: Iterable[tuple[str, str]], number: int, why: str) -> None:
        """The same happened now to so many endpoints: (route, address). Written down by `settle`, or when needed."""
        if self._silent:
            return
        self.changes += 1
        self._waiting.append((number, self._clock(), what, of, why))
        self._behind += number
        while self._behind - self._waiting[0][0] >= EVENTS:  # of this nothing would be kept
            self._behind -= self._waiting.popleft()[0]

    def settle(self) -> bool:
        """Write down some of what waits; False when nothing does."""
        if not self._waiting:
            return False
        number, when, what, of, why = self._waiting.popleft()
        self._behind -= number
        self._events.extend([(when, what, route, address, why) for route, address in of])
        return True

    def _written(self) -> deque[_Row]:
        """All events."""
        while self.settle():
            pass
        return self._events

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """A table is taken up whose history is known: what comes meanwhile is nothing new."""
        self._silent = bool(self._events or self._waiting)
        try:
            yield
        finally:
            self._silent = False

    def restore(self, events: Iterable[Event], gone: Iterable[tuple[str, float, str]]) -> None:
        """What was known before, older than all that is known now."""
        now = list(self._written())
        self._events.clear()
        self._events.extend(events)
        self._events.extend(now)
        self._gone = OrderedDict([(host, (when, why)) for host, when, why in gone]) | self._gone

    def copied(self) -> tuple[int, Iterator[Event], list[tuple[str, float, str]]]:
        """All as of now: the number of events, and they, to be made in any thread, as that takes a while; and the hosts
        that went."""
        rows = list(self._written())
        return len(rows), map(_event, rows), [(host, *told) for host, told in self._gone.items()]

    def of(self, host: str) -> list[Event]:
        """Events of a host's routes, oldest first; of every host for an empty one."""
        beginning = f"{host}/"
        return [_event(row) for row in self._written() if not host or row[2] == host or row[2].startswith(beginning)]

    def went(self, host: str, why: str) -> None:
        """The last route of a host is gone."""
        self.changes += 1
        self._gone[host] = (self._clock(), why)
        self._gone.move_to_end(host)
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def came(self, host: str) -> None:
        """The host has a route again."""
        if self._gone:
            self._gone.pop(host, None)

    def explain(self, host: str) -> list[str]:
        """A line for a person about a host that was served once; none about any other."""
        if host not in self._gone:
            return []
        when, why = self._gone[host]
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when))
        return [f"It was served until {stamp} UTC, {self._clock() - when:.0f} s ago: {why}."]


def nearest(host: str, known: Collection[str]) -> list[str]:
    """The hosts among `known` that somebody may have meant by `host` (at most `LONGEST_NAME` letters), best first."""
    for search in (_one_slip_away, _same_beginning, _alike):
        if found := search(host, known):
            return found[:_NEAREST]
    return []


def batches(items: Iterable[Item], seconds: float = BUDGET) -> Iterator[list[Item]]:
    """The items in lists of `_BATCH`, as many as can be looked at in this time."""
    deadline = time.monotonic() + seconds
    rest = iter(items)
    while (batch := list(islice(rest, _BATCH))) and time.monotonic() < deadline:
        yield batch


def _one_slip_away(host: str, known: Collection[str]) -> list[str]:
    """One letter left out, put in, changed, or swapped with the next: looked up, so found in a table of any size."""
    found: set[str] = set()
    for i in range(len(host) + 1):
        before, after = host[:i], host[i:]
        names = [before + after[1:], before + after[1:2] + after[:1] + after[2:]]
        for letter in _LETTERS:
            names += before + letter + after, before + letter + after[1:]
        found.update(name for name in names if name in known)
    found.discard(host)
    return sorted(found)


def _same_beginning(host: str, known: Collection[str]) -> list[str]:
    """The same first label: the right name in the wrong domain."""
    beginning = host.partition(".")[0] + "."
    found: list[str] = []
    for batch in batches(known, BUDGET / 2):
        found += [name for name in batch if name.startswith(beginning)]
    return sorted(found)


def _alike(host: str, known: Collection[str]) -> list[str]:
    """Alike as a whole."""
    size, letters = len(host), set(host)
    matcher = SequenceMatcher(None, "", host, autojunk=False)
    found = []
    for batch in batches(known, BUDGET / 2):
        # Cheap tests first: most names are dismissed by their length or letters.
        for name in batch:
            if abs(len(name) - size) > 4 or len(letters.symmetric_difference(name)) > 4:
                continue
            matcher.set_seq1(name)
            if matcher.quick_ratio() >= _LIKENESS and (likeness := matcher.ratio()) >= _LIKENESS:
                found.append((-likeness, name))
    return [name for _, name in sorted(found)]
