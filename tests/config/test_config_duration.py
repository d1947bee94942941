"""Go durations: what they mean, what they are not, and that writing and reading one gives it back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.duration import format_duration, looks_like_seconds, parse_duration

MEANINGS = [
    ("0", 0.0),
    ("0s", 0.0),
    ("30s", 30.0),
    ("1m30s", 90.0),
    ("500ms", 0.5),
    ("1h", 3600.0),
    ("1.5h", 5400.0),
    (".5s", 0.5),
    ("1.s", 1.0),
    ("2h45m0.5s", 9900.5),
    ("10us", 1e-5),
    ("10µs", 1e-5),
    ("10\N{GREEK SMALL LETTER MU}s", 1e-5),
    ("7ns", 7e-9),
    ("-1s", -1.0),
    ("+1s", 1.0),
    ("60", 60e-9),  # a bare number is nanoseconds
    ("60000000000", 60.0),
    (" 30s ", 30.0),
]


@pytest.mark.parametrize(("text", "seconds"), MEANINGS)
def test_meaning(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "s", "30 s", "1.5", "30sec", "1d", "--1s", "1e3s", "٣s", "1s1", "30S", "."])
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration such as 30s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["3000000h", "9" * 30 + "s", "9" * 5000, "9223372036854775808"])
def test_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="292 years"):
        parse_duration(text)


WRITTEN = [
    (0, "0s"),
    (60, "1m"),
    (90, "1m30s"),
    (0.5, "500ms"),
    (900, "15m"),
    (1e-9, "1ns"),
    (3661.25, "1h1m1.25s"),
]


@pytest.mark.parametrize(("seconds", "text"), [*WRITTEN, (-90, "-1m30s"), (0.0015, "1500us"), (3600, "1h")])
def test_shortest_spelling(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=-(2**50), max_value=2**50))
def test_round_trip(nanoseconds: int) -> None:
    seconds = nanoseconds / 1e9
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_duration(text), float)


@pytest.mark.parametrize(
    ("text", "suspicious"),
    [
        ("60", True),
        ("999999", True),
        ("1000000", False),
        ("0", False),
        ("000", False),
        ("60s", False),
        ("", False),
    ],
)
def test_bare_numbers_below_a_millisecond_are_suspicious(text: str, suspicious: bool) -> None:
    assert looks_like_seconds(text) is suspicious
