"""The `options` of a registration, and its weight: a dict of JSON in, `RouteOptions` out (contract §4.5, §4.8).

A wrong option is never a reason to drop a registration: it counts as not given, and `RouteOptions.problem` says what
is wrong, for the log. The one exception is a `loadbalancing` that is no string, which is malformed (contract §2.3).
"""

from __future__ import annotations

import math
from typing import Any

from router.messages import RouteOptions
from router.table.hash_key import EXPECTED, BadHashKey, hash_key

MAX_WEIGHT = 65535
HEADER_HASH = "hash"
"""The algorithm of contract §4.8, which can't do without a header's name."""
_HASHING = (HEADER_HASH, "consistent-hash", "rendezvous")


class BadOption(Exception):
    """An option that makes the whole message malformed."""


def read_options(options: dict[str, Any] | None, tags: dict[str, str] | None) -> tuple[RouteOptions | None, int]:
    """The route's options (None when nothing is asked for) and the endpoint's weight. Raises BadOption.

    The weight is option `weight`, else tag `weight`, else 1.
    """
    if not options and (not tags or "weight" not in tags):
        return None, 1
    given = {name.lower(): value for name, value in (options or {}).items()}
    problems: list[str] = []
    weight = 1
    for place, value in (("options.weight", given.get("weight")), ("tag weight", (tags or {}).get("weight"))):
        if value is not None:
            number = _number(value)
            if number is not None and number.is_integer() and 0 <= number <= MAX_WEIGHT:
                weight = int(number)
                break
            problems.append(f"{place} must be a whole number, 0 to {MAX_WEIGHT}, not {value!r}")
    timeout = _at_least(given, "endpoint_timeout", 0.0, "a number of seconds, 0 or more", problems)
    limit = _at_least(given, "max_conns", 0.0, "a whole number, 0 or more", problems, whole=True)
    asked = given.get("loadbalancing", given.get("lb_algo")) or ""  # the latter is its former name (contract §17.2)
    if not isinstance(asked, str):
        raise BadOption("options.loadbalancing must be a string")
    sound = len(problems)
    key = _key(given, asked, problems)
    balance = _at_least(given, "hash_balance", 1.0, "0, or a number of 1 or more", problems)
    algorithm = "" if len(problems) > sound and asked in _HASHING else asked
    read = RouteOptions(algorithm, key, balance, timeout, int(limit), asked, "; ".join(problems))
    return (None if read == RouteOptions() else read), weight


def _key(given: dict[str, Any], algorithm: str, problems: list[str]) -> str:
    """What is hashed: `hash_header` names a header, `hash_key` anything (docs/strategies.md)."""
    header = given.get("hash_header")
    text = f"header:{header}" if isinstance(header, str) and header else given.get("hash_key")
    if header and not isinstance(header, str):
        problems.append(f"options.hash_header must be a header's name, not {header!r}")
    elif algorithm == HEADER_HASH and not header:
        problems.append(f"options.hash_header is missing, {HEADER_HASH} needs it")
    elif text:
        try:
            return hash_key(text if isinstance(text, str) else repr(text))
        except BadHashKey:
            name, wanted = ("hash_header", "a header's name") if header else ("hash_key", EXPECTED)
            problems.append(f"options.{name} must be {wanted}, not {given[name]!r}")
    return ""


def _at_least(
    given: dict[str, Any], name: str, lowest: float, wanted: str, problems: list[str], *, whole: bool = False
) -> float:
    """A number that is 0 (= not given) or `lowest` and more."""
    value = given.get(name)
    if value is None:
        return 0.0
    number = _number(value)
    if number is None or (number and number < lowest) or number < 0 or (whole and not number.is_integer()):
        problems.append(f"options.{name} must be {wanted}, not {value!r}")
        return 0.0
    return number


def _number(value: Any) -> float | None:
    """A JSON number, or one in a string, as some senders write it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number < 2**53 else None
