"""The event log of control and workers (contract §12.4): one line an event, written at once.

To a file or pipe a line is a JSON object with `log_level`, `timestamp`, `message`, `source`, `data`, and nothing else;
to a terminal it is one line of coloured text. Control and workers write to the same place: a line is one `write`. Only
the standard library and msgspec are imported here, because workers log too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

LEVELS = {"debug": 0, "info": 1, "warn": 2, "error": 3, "fatal": 3}
"""Level → `log_level` on the wire."""
_COLOURS = {0: "\033[2m", 1: "\033[36m", 2: "\033[33m", 3: "\033[31m"}
_NAMES = {0: "debug", 1: "info", 2: "warn", 3: "error"}
_SHOWN = 1024
"""Characters of a value that a terminal line shows."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Log:
    """Writes events of at least `level` under the name `source`. `fd` is where to, standard output by default."""

    __slots__ = ("_fd", "_human", "_rfc3339", "level", "ring", "source", "threshold")

    def __init__(self, source: str = "router", level: str = "info", timestamp: str = "rfc3339", fd: int = 1) -> None:
        self.source = source
        self.level = level
        self.threshold = LEVELS[level]
        self._rfc3339 = timestamp == "rfc3339"
        self._fd = fd
        self._human = os.isatty(fd)
        self.ring: Any = None
        """Where else events go, whatever the level: something with `add(level, source, event, data)`."""

    def component(self, name: str) -> Log:
        """A log whose source is `<source>.<name>`."""
        part = Log(f"{self.source}.{name}", self.level, "rfc3339" if self._rfc3339 else "unix-epoch", self._fd)
        part.ring = self.ring
        return part

    def debug(self, event: str, **data: Any) -> None:
        """What only somebody looking for a fault wants to know."""
        if self.threshold <= 0:
            self._write(0, event, data)

    def info(self, event: str, **data: Any) -> None:
        """What happened in the course of things."""
        if self.threshold <= 1:
            self._write(1, event, data)
        if self.ring is not None:
            self.ring.add(1, self.source, event, data)

    def tell(self, event: str, make: Callable[..., dict[str, Any]], *about: Any) -> None:
        """As `info`, for what happens by the thousand: `make(*about)` gives the data, if anybody wants to know."""
        if self.threshold <= 1:
            self._write(1, event, make(*about))
        if self.ring is not None:
            self.ring.add(1, self.source, event, partial(make, *about))

    def warn(self, event: str, **data: Any) -> None:
        """What may become a fault."""
        if self.threshold <= 2:
            self._write(2, event, data)
        if self.ring is not None:
            self.ring.add(2, self.source, event, data)

    def error(self, event: str, **data: Any) -> None:
        """What went wrong."""
        self._write(3, event, data)
        if self.ring is not None:
            self.ring.add(3, self.source, event, data)

    def _write(self, level: int, event: str, data: dict[str, Any]) -> None:
        line = self._text(level, event, data) if self._human else self._json(level, event, data)
        try:
            os.write(self._fd, line)
        except OSError:
            pass  # nobody reads the log: no reason to stop serving

    def _json(self, level: int, event: str, data: dict[str, Any]) -> bytes:
        now = time.time_ns()
        record = {
            "log_level": level,
            "timestamp": _rfc3339(now) if self._rfc3339 else now / 1e9,
            "message": event,
            "source": self.source,
            "data": data,
        }
        return _encode(record) + b"\n"

    def _text(self, level: int, event: str, data: dict[str, Any]) -> bytes:
        clock = datetime.now().strftime("%H:%M:%S")
        facts = "".join(f" {name}={_shown(value)}" for name, value in data.items())
        text = f"{clock} {_COLOURS[level]}{_NAMES[level]:5}\033[0m {event}\033[2m{facts}  {self.source}\033[0m\n"
        return text.encode("utf-8", "replace")


class Limiter:
    """Lets an event through once per key and `seconds`, and counts what it held back."""

    __slots__ = ("_clock", "_held", "_seconds", "_until")

    def __init__(self, seconds: float, clock: Any = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._until: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def allow(self, key: str) -> int | None:
        """None: not now. Else the number of events held back since the last that was let through."""
        now = self._clock()
        if now < self._until.get(key, 0.0):
            self._held[key] = self._held.get(key, 0) + 1
            return None
        self._until[key] = now + self._seconds
        return self._held.pop(key, 0)


def _rfc3339(ns: int) -> str:
    second, fraction = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value).decode()
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:_SHOWN])
    return f'"{text}"' if " " in text and isinstance(value, str) else text
