"""Chunked bodies: what is read, what is refused, and that cuts make no difference (RFC 9112 §7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.http.framing import MAX_CHUNK_LINE, MAX_TRAILERS, ChunkedReader, LengthReader, chunk, last_chunk
from router.http.message import BadMessage, HeaderList

END = b"0\r\n\r\n"

READ: list[tuple[str, bytes, bytes, HeaderList]] = [
    ("7.1", END, b"", []),
    ("7.1", b"5\r\nhello\r\n" + END, b"hello", []),
    ("7.1", b"A\r\n0123456789\r\n" + END, b"0123456789", []),
    ("7.1", b"a\r\n0123456789\r\n" + END, b"0123456789", []),
    ("7.1", b"005\r\nhello\r\n000\r\n\r\n", b"hello", []),
    ("7.1", b"2\r\n\r\n\r\n" + END, b"\r\n", []),
    ("7.1", b"3\r\n0\r\n\r\n" + END, b"0\r\n", []),
    ("7.1.1", b"5;a\r\nhello\r\n" + END, b"hello", []),
    ("7.1.1", b"5;a=b;c\r\nhello\r\n0;x=y\r\n\r\n", b"hello", []),
    ("7.1.1", b'5 ; a="b\tc"\r\nhello\r\n' + END, b"hello", []),
    ("7.1.2", b"0\r\nX-Sum: 1 \r\nX-B:\r\n\r\n", b"", [(b"X-Sum", b"1"), (b"X-B", b"")]),
    ("9110 6.5.1", b"0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n", b"", [(b"X-Sum", b"1")]),
    ("9110 6.5.1", b"0\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"", []),
    ("9110 6.5.1", b"0\r\nSet-Cookie: a=b\r\nAuthorization: x\r\nX-Forwarded-For: y\r\n\r\n", b"", []),
    ("9110 6.5.1", b"0\r\nX-CF-InstanceID: a\r\nX-Vcap-Request-Id: b\r\nConnection: close\r\n\r\n", b"", []),
]

BAD = [
    # chunk sizes
    ("7.1", b"\r\n"),
    ("7.1", b"g\r\n"),
    ("7.1", b"0x5\r\nhello\r\n" + END),
    ("7.1", b"+5\r\nhello\r\n" + END),
    ("7.1", b"-5\r\nhello\r\n" + END),
    ("7.1", b" 5\r\nhello\r\n" + END),
    ("7.1", b"5 \r\nhello\r\n" + END),
    ("7.1", b"5_0\r\n"),
    ("7.1", b"5\0\r\nhello\r\n" + END),
    ("7.1", b"\xb2\r\n"),
    ("7.1", b"FFFFFFFFFFFFFFFFF\r\n"),
    ("7.1", b"0000000000000005\r\nhello\r\n" + END),
    ("7.1", b";a\r\n"),
    # ends of lines and chunks
    ("2.2", b"5\nhello\r\n" + END),
    ("2.2", b"5\rhello\r\n" + END),
    ("2.2", b"5\r\nhello\n" + END),
    ("2.2", b"5\r\nhello\rx"),
    ("2.2", b"5\r\r\nhello\r\n" + END),
    ("7.1", b"5\r\nhello!\r\n" + END),
    ("7.1", b"4\r\nhello\r\n" + END),
    # extensions
    ("7.1.1", b"5;a\nhello\r\n" + END),
    ("7.1.1", b"5;a\rb\r\nhello\r\n" + END),
    ("7.1.1", b"5;a\0\r\nhello\r\n" + END),
    ("7.1.1", b"5;a\x01\r\nhello\r\n" + END),
    ("7.1.1", b"5;a\x7f\r\nhello\r\n" + END),
    ("7.1.1", b"5;" + b"a" * MAX_CHUNK_LINE + b"\r\nhello\r\n" + END),
    ("7.1.1", b"5;" + b"a" * (MAX_CHUNK_LINE + 5)),
    # trailers
    ("5.1", b"0\r\nX : y\r\n\r\n"),
    ("5.1", b"0\r\nno colon\r\n\r\n"),
    ("5.1", b"0\r\n: y\r\n\r\n"),
    ("5.2", b"0\r\nX: y\r\n folded\r\n\r\n"),
    ("5.2", b"0\r\n X: y\r\n\r\n"),
    ("9110 5.5", b"0\r\nX: a\rb\r\n\r\n"),
    ("9110 5.5", b"0\r\nX: a\nb\r\n\r\n"),
    ("9110 5.5", b"0\r\nX: a\0b\r\n\r\n"),
    ("7.1.2", b"0\r\n" + b"X: y\r\n" * (MAX_TRAILERS // 6 + 1) + b"\r\n"),
]


def read(reader: ChunkedReader | LengthReader, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Payload, and what stands behind the message."""
    payload = b""
    for number, piece in enumerate(pieces):
        payload += reader.feed(piece)
        if reader.done:
            return payload, reader.rest + b"".join(pieces[number + 1 :])
    raise AssertionError("no end")


@pytest.mark.parametrize(("rfc", "data", "payload", "trailers"), READ, ids=lambda value: repr(value)[:40])
def test_read_whole_and_split_at_every_byte(rfc: str, data: bytes, payload: bytes, trailers: HeaderList) -> None:
    message = data + b"NEXT"
    for at in range(len(message)):
        reader = ChunkedReader()
        assert read(reader, [message[:at], message[at:]]) == (payload, b"NEXT")
        assert reader.trailers == trailers
    assert read(ChunkedReader(), [bytes([byte]) for byte in message]) == (payload, b"NEXT")


@pytest.mark.parametrize(("rfc", "data"), BAD, ids=lambda value: repr(value)[:40])
def test_refused_whole_and_split_at_every_byte(rfc: str, data: bytes) -> None:
    # A long line needs no cut at every byte of its middle.
    for at in [*range(min(len(data), 64)), len(data) - 1]:
        reader = ChunkedReader()
        with pytest.raises(BadMessage) as refused:
            read(reader, [data[:at], data[at:]])
        assert refused.value.status == 400
        assert not reader.done


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_what_we_frame_we_read(bodies: list[bytes], data: st.DataObject) -> None:
    trailers = [(b"X-Sum", b"1")]
    message = b"".join(map(chunk, bodies)) + last_chunk(trailers) + b"NEXT"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=8)))
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    reader = ChunkedReader()
    assert read(reader, pieces) == (b"".join(bodies), b"NEXT")
    assert reader.trailers == trailers


@given(st.binary(min_size=1, max_size=60), st.binary(max_size=20), st.data())
def test_a_counted_body_ends_where_it_says(body: bytes, rest: bytes, data: st.DataObject) -> None:
    message = body + rest
    at = data.draw(st.integers(0, len(message)))
    assert read(LengthReader(len(body)), [message[:at], message[at:]]) == (body, rest)
