"""HPACK, written and read by us, next to the hpack library (RFC 7541)."""

from __future__ import annotations

import hpack
import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from router.http import huffman
from router.http.hpack import NO_TABLE, Decoder, HpackError, TooLarge, encode, integer, literal

NAMES = st.one_of(
    st.sampled_from([b":status", b"content-type", b"cookie", b"date", b"x-own", b"accept-encoding", b"via"]),
    st.from_regex(rb"\A[a-z0-9-]{1,40}\Z"),
)
VALUES = st.one_of(st.sampled_from([b"200", b"", b"gzip, deflate"]), st.binary(max_size=400))
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=12)
LARGEST = 65536


def read(*blocks: str) -> list[list[tuple[bytes, bytes]]]:
    """Blocks in hex, read one after the other."""
    decoder = Decoder(LARGEST)
    return [list(decoder.decode(bytes.fromhex(block))) for block in blocks]


# ---------------------------------------------------------------- writing


@given(st.lists(FIELDS, max_size=3))
def test_every_block_reads_as_it_was_meant(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    decoder = hpack.Decoder()
    for fields in blocks:
        assert [(f[0], f[1]) for f in decoder.decode(NO_TABLE + encode(fields), raw=True)] == fields


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
    (field,) = hpack.Decoder().decode(encode([(b"Set-Cookie", b"a=b")]), raw=True)
    assert isinstance(field, hpack.NeverIndexedHeaderTuple)
    assert field == (b"set-cookie", b"a=b")


def test_a_common_head_is_short() -> None:
    assert encode([(b":status", b"200"), (b"content-length", b"2")]) == b"\x88\x0f\x0d\x012"


def test_names_go_out_in_lower_case() -> None:
    assert encode([(b"Content-Length", b"2")]) == encode([(b"content-length", b"2")])
    assert literal(b"X-One", b"v" * 2000) == literal(b"x-one", b"v" * 2000)


def test_who_allows_no_table_can_read_us() -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    assert decoder.decode(NO_TABLE + encode([(b":status", b"200")])) == [(":status", "200")]


# ---------------------------------------------------------------- reading


@given(
    st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=6),
    st.booleans(),
)
def test_what_the_library_writes_reads_as_it_was_meant(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]], twice: bool
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(LARGEST)
    for fields, coded, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        for _ in range(1 + twice):  # the second time most of it is in the table
            assert decoder.decode(encoder.encode(fields, huffman=coded)) == fields


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"/", b"/a", b"/b?c"]),  # never indexed
            st.sampled_from([[], [(b"x", b"1")], [(b"x", b"2")], [(b"y", b"z" * 4000)]]),  # indexed
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_blocks_that_differ_in_a_literal_only_read_as_they_were_meant(
    blocks: list[tuple[bytes, list[tuple[bytes, bytes]], bool]],
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(LARGEST)
    for path, more, before in blocks:
        rest = [(b":scheme", b"https"), (b"user-agent", b"test"), (b"cookie", b"a=b"), *more]
        fields = [*(rest if before else []), hpack.NeverIndexedHeaderTuple(b":path", path), *rest]
        assert decoder.decode(encoder.encode(fields)) == fields


@given(
    st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"\x82", b"\xbe", b"\x3f\xe1\x1f", b"\x40\x01a\x01b"])))
)
def test_any_bytes_read_as_the_library_reads_them(pieces: list[bytes]) -> None:
    block = b"".join(pieces)
    try:
        meant = [(f[0], f[1]) for f in hpack.Decoder().decode(block, raw=True)]
    except hpack.HPACKError:
        with pytest.raises(HpackError):
            Decoder(LARGEST).decode(block)
    else:
        assert Decoder(LARGEST).decode(block) == meant


def test_the_examples_of_the_rfc() -> None:
    """RFC 7541, appendices C.3 (plain) and C.4 (Huffman): three requests over one connection."""
    first = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
    third = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]
    meant = [first, [*first, (b"cache-control", b"no-cache")], third]
    assert meant == read(
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    )
    assert meant == read(
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    )


def test_old_entries_make_room_for_new_ones() -> None:
    """RFC 7541, appendix C.5: a table of 256 bytes."""
    decoder = Decoder(LARGEST)
    decoder.decode(
        bytes.fromhex(
            "3fe101"
            "4803333032580770726976617465611d4d6f6e2c203231204f6374203230"
            "31332032303a31333a323120474d546e1768747470733a2f2f7777772e65"
            "78616d706c652e636f6d"
        )
    )
    assert decoder.decode(bytes.fromhex("4803333037c1c0bf")) == [
        (b":status", b"307"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ]
    with pytest.raises(HpackError):
        decoder.decode(b"\xc2")  # `:status: 302` is gone


def test_a_block_that_comes_again_is_read_by_the_table_as_it_is_then() -> None:
    assert read("4001610131", "be", "be", "4001610132", "be", "be", "3f00", "") == [
        [(b"a", b"1")],
        [(b"a", b"1")],
        [(b"a", b"1")],
        [(b"a", b"2")],
        [(b"a", b"2")],
        [(b"a", b"2")],
        [],
        [],
    ]


@pytest.mark.parametrize(
    "block",
    [
        "80",  # a field of index 0
        "be",  # nothing is there
        "ff00",  # nor there
        "ff",  # a number that breaks off
        "ffffffffffffffff7f",  # a number without an end
        "ff8080808080808000",  # one that is padded without an end
        "40",  # a name is missing
        "400161",  # a value is missing
        "40016105",  # a value breaks off
        "40016181ff",  # eight bits of padding
        "40016184ffffffff",  # the end, in the middle
        "40016181fe",  # padding that is not ones
        "4001618207ff",  # "0" and eleven bits of padding
        "8220",  # a table size behind a field
        "3fe21f",  # a table of 4,097 bytes
    ],
)
def test_blocks_that_can_not_be_read(block: str) -> None:
    with pytest.raises(HpackError):
        read(block)


def test_a_small_block_that_unpacks_to_a_large_one_is_not_unpacked() -> None:
    decoder = Decoder(8192)
    decoder.decode(literal(b"x", b"") + b"\x40\x01b" + integer(4000, 7, 0) + b"x" * 4000)
    assert decoder.decode(b"\xbe" * 3) is None
    assert decoder.decode(b"\xbe") == [(b"b", b"x" * 4000)]
    assert decoder.decode(b"\xbe" * 60) is None
    with pytest.raises(TooLarge):
        decoder.decode(b"\xbe" * 70)


# ---------------------------------------------------------------- Huffman


def test_the_code_is_that_of_the_rfc() -> None:
    assert huffman.codes() == list(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True))


@given(st.binary(max_size=200))
def test_strings_come_back(string: bytes) -> None:
    coder = hpack.huffman.HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    assert huffman.decoded(coder.encode(string)) == string
