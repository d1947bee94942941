"""What happened lately: a ring of events, and one of requests that failed, both of bounded size.

Events are what control writes into its log at level `info` or above, whatever level is written out, and what becomes of
endpoints. Failed requests come from workers, the first of each second one by one.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from router.messages import FailedRequest

EVENTS = 2000
FAILURES = 5000
_LEVELS = {1: "info", 2: "warn", 3: "error"}
_MAX_TEXT = 2048


Data = dict[str, Any] | Callable[[], dict[str, Any]]
"""What is known of an event, or what makes it when somebody looks."""


class Events:
    """The ring of events. Numbers rise by one, so that a reader can ask for what came after the last it saw."""

    def __init__(self, size: int = EVENTS) -> None:
        self._ring: deque[tuple[int, float, int, str, str, Data]] = deque(maxlen=size)
        self.last = 0
        """The number of the newest event."""

    def add(self, level: int, source: str, event: str, data: Data) -> None:
        """Something happened; `level` as in the log."""
        self.last += 1
        self._ring.append((self.last, time.time(), level, source, event, data))

    def after(self, id: int = 0, limit: int = 100, text: str = "") -> list[dict[str, Any]]:
        """At most `limit` events with a higher number and this text in name or data, the newest first."""
        found: list[dict[str, Any]] = []
        wanted = text.lower()
        for number, at, level, source, event, data in reversed(self._ring):
            if number <= id or len(found) >= limit:
                break
            facts = data() if callable(data) else data
            if not wanted or wanted in f"{event} {facts}".lower():
                name = _LEVELS.get(level, "info")
                found.append({"id": number, "at": at, "level": name, "source": source, "event": event, "data": facts})
        return found


class Failures:
    """The ring of failed requests."""

    def __init__(self, size: int = FAILURES) -> None:
        self._ring: deque[tuple[int, FailedRequest]] = deque(maxlen=size)

    def add(self, worker: int, failures: list[FailedRequest]) -> None:
        """A worker's report."""
        self._ring.extend((worker, each) for each in failures)

    def find(self, *, request_id: str = "", app: str = "", text: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """At most `limit` of those that fit, the newest first."""
        found: list[dict[str, Any]] = []
        wanted = text.lower()
        for worker, each in reversed(self._ring):
            if len(found) >= limit:
                break
            if (
                (not request_id or each.request_id == request_id)
                and (not app or each.app == app)
                and (not wanted or wanted in f"{each.host}{each.target} {each.error} {each.address} {each.app}".lower())
            ):
                found.append(_shown(worker, each))
        return found


def _shown(worker: int, each: FailedRequest) -> dict[str, Any]:
    return {
        "at": each.at / 1e9,
        "request_id": each.request_id,
        "worker": worker,
        "method": each.method,
        "host": each.host,
        "target": each.target,
        "status": each.status,
        "error": each.error[:_MAX_TEXT],
        "app": each.app,
        "backend": each.address,
        "attempts": each.attempts,
        "taken_ms": round(each.taken / 1e6, 3),
    }
