"""HPACK as we write it, read by the hpack library (RFC 7541)."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.http.hpack import Encoder, integer

NAMES = st.one_of(
    st.sampled_from([b":status", b"content-type", b"cookie", b"date", b"x-own", b"accept-encoding", b"via"]),
    st.from_regex(rb"\A[a-z0-9-]{1,40}\Z"),
)
VALUES = st.one_of(st.sampled_from([b"200", b"", b"gzip, deflate"]), st.binary(max_size=400))


@given(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=12), max_size=3))
def test_every_block_reads_as_it_was_meant(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = Encoder(), hpack.Decoder()
    for fields in blocks:
        assert [(f[0], f[1]) for f in decoder.decode(encoder.encode(fields), raw=True)] == fields


@pytest.mark.parametrize(
    ("value", "prefix", "pattern", "written"),
    [
        (10, 5, 0, b"\x0a"),
        (1337, 5, 0, b"\x1f\x9a\x0a"),
        (42, 8, 0, b"\x2a"),
        (8, 7, 0x80, b"\x88"),
        (31, 5, 0, b"\x1f\x00"),
    ],
)  # RFC 7541, appendix C.1
def test_integers(value: int, prefix: int, pattern: int, written: bytes) -> None:
    assert integer(value, prefix, pattern) == written


def test_secrets_are_never_indexed() -> None:
    (field,) = hpack.Decoder().decode(Encoder().encode([(b"set-cookie", b"a=b")]), raw=True)
    assert isinstance(field, hpack.NeverIndexedHeaderTuple)


def test_a_common_head_is_short() -> None:
    assert Encoder().encode([(b":status", b"200"), (b"content-length", b"2")]) == b"\x88\x0f\x0d\x012"
