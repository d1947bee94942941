"""The date line, held to the standard library's."""

from __future__ import annotations

from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from router.proxy.clock import http_date


@given(st.integers(0, 4_102_444_800))
def test_dates(second: int) -> None:
    assert http_date(second) == f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
