"""Durations as the Go router writes them: `30s`, `1m30s`, `500ms`, `1.5h`; a bare number is nanoseconds.

In text the Go notation holds; in Python a duration is a float of seconds. Contract section 13.
"""

from __future__ import annotations

import re
from fractions import Fraction

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5 and U+03BC look the same and both are accepted by Go
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
LONGEST = 2**63 - 1  # nanoseconds, about 292 years: what the Go router can hold
_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_UNIT = "ns|us|µs|μs|ms|s|m|h"
PATTERN = rf"^[+-]?(?:0|\d+|(?:{_NUMBER}(?:{_UNIT}))+)$"
_WHOLE = re.compile(PATTERN, re.ASCII)
_PART = re.compile(rf"({_NUMBER})({_UNIT})", re.ASCII)

EXPECTED = "a duration such as 30s, 1m30s or 500ms"


def parse_duration(text: str) -> float:
    """Seconds meant by `text`; ValueError says what a duration looks like."""
    text = text.strip()
    if not _WHOLE.match(text):
        raise ValueError(EXPECTED)
    digits = text.lstrip("+-")
    if len(digits) > 40:
        raise ValueError("a duration of at most 292 years")
    if digits.isdigit():
        total = int(digits)
    else:
        total = int(sum(Fraction(number) * NANOSECONDS[unit] for number, unit in _PART.findall(digits)))
    if total > LONGEST:
        raise ValueError("a duration of at most 292 years")
    return (-total if text.startswith("-") else total) / 1e9


def format_duration(seconds: float) -> str:
    """The shortest usual spelling of `seconds`: `15m`, `1m30s`, `500ms`, `0s`."""
    rest = round(abs(seconds) * 1e9)
    if rest == 0:
        return "0s"
    sign = "-" if seconds < 0 else ""
    if rest < NANOSECONDS["s"]:
        unit = next(unit for unit in ("ms", "us", "ns") if rest % NANOSECONDS[unit] == 0)
        return f"{sign}{rest // NANOSECONDS[unit]}{unit}"
    hours, rest = divmod(rest, NANOSECONDS["h"])
    minutes, rest = divmod(rest, NANOSECONDS["m"])
    whole, fraction = divmod(rest, NANOSECONDS["s"])
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else ""]
    if fraction:
        parts.append(f"{whole}.{fraction:09d}".rstrip("0") + "s")
    elif whole:
        parts.append(f"{whole}s")
    return sign + "".join(parts)


def looks_like_seconds(text: str) -> bool:
    """True for a bare number under a millisecond: `60` is 60 nanoseconds, and nobody means that."""
    digits = text.strip().lstrip("+-")
    return digits.isascii() and digits.isdigit() and len(digits) < 7 and int(digits) > 0
