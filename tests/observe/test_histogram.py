"""Latency buckets: within 0.8 % of the true value, mergeable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.observe.histogram import bucket, merge, percentile, value

microseconds = st.integers(0, 2**32 - 1) | st.integers(0, 5000)


@given(microseconds)
def test_a_bucket_is_near_its_values(us: int) -> None:
    assert value(bucket(us)) == pytest.approx(us / 1e6, rel=0.008, abs=1e-12)


@given(microseconds, microseconds)
def test_longer_is_never_in_an_earlier_bucket(one: int, other: int) -> None:
    assert (bucket(one) <= bucket(other)) or one > other


@pytest.mark.parametrize(("us", "same"), [(-1, 0), (-(10**9), 0), (2**40, 2**32 - 1)])
def test_what_is_out_of_range(us: int, same: int) -> None:
    assert bucket(us) == bucket(same)


@given(st.lists(microseconds, min_size=1, max_size=50), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles(samples: list[int], q: float) -> None:
    counts: dict[int, int] = {}
    for us in samples:
        merge(counts, {bucket(us): 1})
    rank = next(n for n in range(1, len(samples) + 1) if n >= q * len(samples))
    assert percentile(counts, q) == pytest.approx(sorted(samples)[rank - 1] / 1e6, rel=0.008, abs=1e-12)


def test_no_samples() -> None:
    assert percentile({}, 0.5) == 0.0
