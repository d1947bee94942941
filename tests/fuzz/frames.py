"""Conversations over HTTP/2, and ways to spoil them: frames out of place, wrong in size, state or header block.

Header blocks are written by the hpack library, with its dynamic table and Huffman code, so that reading them is tried
as well. What is in them carries the tricks of request smuggling from HTTP/2 to HTTP/1.1.
"""

from __future__ import annotations

from random import Random

import hpack

from router.http import h2_frames as wire
from router.http.h2_frames import frame_head

Fields = list[tuple[bytes, bytes]]

_GOOD: list[Fields] = [
    [],
    [(b"accept", b"*/*"), (b"user-agent", b"fuzz")],
    [(b"cookie", b"a=1"), (b"cookie", b"b=2")],
    [(b"te", b"trailers")],
    [(b"x-long", b"v" * 300)],
    [(b"host", b"app.test")],
]
_TRICKS: list[tuple[bytes, bytes]] = [
    (b"x", b"a\r\nb: c"),
    (b"x", b"a\r\n\r\nGET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"),
    (b"x", b"a\nb"),
    (b"x", b"a\0"),
    (b"x", b" a "),
    (b"x", b"\xff\xfe"),
    (b"x: y\r\nz", b"a"),
    (b"X-Upper", b"a"),
    (b"x y", b"a"),
    (b"", b"a"),
    (b"x:", b"a"),
    (b"connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"transfer_encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"te", b"gzip"),
    (b"content-length", b"5"),
    (b"content-length", b"0"),
    (b"content-length", b"+5"),
    (b"content-length", b"5, 5"),
    (b"content-length", b"99999999999999999999"),
    (b"content_length", b"3"),
    (b"host", b"evil.test"),
    (b"host", b"app.test\r\nx: y"),
    (b"expect", b"100-continue"),
    (b"expect", b"200-ok"),
    (b"trailer", b"content-length"),
    (b":path", b"/again"),
    (b":status", b"200"),
    (b":protocol", b"websocket"),
    (b"x-forwarded-for", b"1.2.3.4\r\nx: y"),
    (b"x_forwarded_for", b"1.2.3.4"),
]
_METHODS = [b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"G T", b"", b"GET /"]
_PATHS = [
    b"/",
    b"/",
    b"/a/b?c=d",
    b"/x y",
    b"/x HTTP/1.1\r\nX: y",
    b"/#f",
    b"a",
    b"",
    b"*",
    b"http://evil.test/",
    b"/\xe9",
]
_HOSTS = [b"app.test"] * 6 + [b"app.test:80", b"evil.test", b"app.test@evil.test", b"app.test\r\nx: y", b""]
_STATUSES = [b"200"] * 6 + [b"204", b"304", b"100", b"103", b"101", b"999", b"20", b"2xx", b"", b"200 OK\r\nX: y"]
_BODIES = [b"", b"hello", b"x" * 1000, b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: app.test\r\n\r\n"]
_TRAILERS: list[Fields] = [
    [(b"x-sum", b"1")],
    [(b"grpc-status", b"0"), (b"content-length", b"50")],
    [(b"x", b"a\r\nb: c")],
    [(b":path", b"/")],
    [],
]


def from_client(random: Random) -> bytes:
    """What a client says: up to four requests, mostly decent ones, with other frames between them, spoiled or not."""
    encoder = hpack.Encoder()
    frames = [_settings(random)]
    for id in range(1, 1 + 2 * random.randrange(1, 5), 2):
        pseudo = [
            (b":method", _one(random, _METHODS)),
            (b":scheme", b"https"),
            (b":authority", _one(random, _HOSTS)),
            (b":path", _one(random, _PATHS)),
        ]
        frames += _message(random, encoder, id, pseudo)
    return wire.PREFACE + _spoiled(random, frames)


def from_backend(random: Random) -> bytes:
    """What a backend says to one request: heads, body and trailers, with other frames between them, spoiled or not."""
    encoder = hpack.Encoder()
    frames = [_settings(random)]
    if not random.randrange(4):
        frames += _head(random, encoder.encode([(b":status", b"103"), (b"link", b"</a>")]), 1, False)
    frames += _message(random, encoder, 1, [(b":status", _one(random, _STATUSES))])
    return _spoiled(random, frames)


def _one(random: Random, values: list[bytes]) -> bytes:
    """Mostly the first."""
    return values[0] if random.randrange(3) else random.choice(values)


def _message(random: Random, encoder: hpack.Encoder, id: int, pseudo: Fields) -> list[bytes]:
    fields = [*pseudo, *random.choice(_GOOD)]
    if not random.randrange(3):
        fields.insert(random.randrange(len(fields) + 1), random.choice(_TRICKS))
    body = random.choice(_BODIES) if random.randrange(2) else b""
    trailers = random.choice(_TRAILERS) if not random.randrange(4) else None
    if body and not random.randrange(3):
        fields.append((b"content-length", b"%d" % (len(body) + random.choice([0, 0, 0, 0, 1, -1]))))
    has_body = bool(body) or not random.randrange(8)
    frames = _head(random, encoder.encode(fields, huffman=random.random() < 0.5), id, not has_body and trailers is None)
    if has_body:
        cut = random.randrange(len(body) + 1)
        pieces = [piece for piece in (body[:cut], body[cut:]) if piece] or [b""]
        for at, piece in enumerate(pieces, 1):
            frames.append(_data(random, piece, id, at == len(pieces) and trailers is None))
    if trailers is not None:
        frames += _head(random, encoder.encode(trailers), id, True)
    if not random.randrange(4):
        frames.insert(random.randrange(1, len(frames) + 1), _other(random, id))
    return frames


def _head(random: Random, block: bytes, id: int, ended: bool) -> list[bytes]:
    flags = wire.END_STREAM if ended else 0
    if not random.randrange(6):
        block, flags = random.randbytes(4) + b"\x10" + block, flags | wire.PRIORITY_FLAG
    cut = random.randrange(5, len(block) + 1) if len(block) > 5 and not random.randrange(4) else len(block)
    first, rest = block[:cut], block[cut:]
    if not random.randrange(6):
        padding = random.randrange(10)
        first, flags = bytes((padding,)) + first + bytes(padding), flags | wire.PADDED
    if not rest:
        return [_frame(wire.HEADERS, flags | wire.END_HEADERS, id, first)]
    return [_frame(wire.HEADERS, flags, id, first) + _frame(wire.CONTINUATION, wire.END_HEADERS, id, rest)]


def _data(random: Random, data: bytes, id: int, ended: bool) -> bytes:
    flags = wire.END_STREAM if ended else 0
    if not random.randrange(6):
        padding = random.randrange(10)
        data, flags = bytes((padding,)) + data + bytes(padding), flags | wire.PADDED
    return _frame(wire.DATA, flags, id, data)


def _settings(random: Random) -> bytes:
    values = random.choice([b"", b"\0\x04\0\0\0\x64", b"\0\x01\0\0\0\0", b"\0\x03\0\0\0\x64\0\x05\0\0\x50\0"])
    return _frame(wire.SETTINGS, 0, 0, values)


def _other(random: Random, id: int) -> bytes:
    kind, of, payload = random.choice(
        [
            (wire.PING, 0, bytes(8)),
            (wire.PING, 0, bytes(7)),
            (wire.SETTINGS, 0, b"\0\x04\0\0\xff\xff"),
            (wire.SETTINGS, 0, b"\0\x04\xff\xff\xff\xff"),
            (wire.WINDOW_UPDATE, 0, b"\0\0\0\x64"),
            (wire.WINDOW_UPDATE, id, b"\0\0\0\x64"),
            (wire.WINDOW_UPDATE, id, bytes(4)),
            (wire.WINDOW_UPDATE, id, b"\x7f\xff\xff\xff"),
            (wire.PRIORITY, id, bytes(5)),
            (wire.PRIORITY, id, bytes(4)),
            (wire.RST_STREAM, id, b"\0\0\0\x08"),
            (wire.GOAWAY, 0, bytes(8)),
            (wire.PUSH_PROMISE, id, b"\0\0\0\x02\x82"),
            (wire.CONTINUATION, id, b"\x82"),
            (0x42, id, b"unknown"),
        ]
    )
    return _frame(kind, random.choice([0, 0, 0, 1, 4, 255]), of, payload)


def _frame(kind: int, flags: int, id: int, payload: bytes) -> bytes:
    return frame_head(len(payload), kind, flags, id) + payload


def _spoiled(random: Random, frames: list[bytes]) -> bytes:
    """The frames as they go out, after up to two mutations of them or of their bytes."""
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        at = random.randrange(len(frames))
        frame = bytearray(frames[at])
        how = random.randrange(7)
        if how == 0:
            frames.insert(at, frames[at])
        elif how == 1:
            del frames[at]
        elif how == 2:
            frames.insert(random.randrange(len(frames) + 1), frames.pop(at))
        elif how == 3:
            frame[random.randrange(len(frame))] = random.randrange(256)
            frames[at] = bytes(frame)
        elif how == 4:
            frame[4] ^= 1 << random.choice([0, 2, 3, 5])
            frames[at] = bytes(frame)
        elif how == 5:
            frame[8] = random.choice([0, 1, 2, 3, 5, 99])
            frames[at] = bytes(frame)
        else:
            frames[at] = bytes(frame[: random.randrange(wire.HEAD_SIZE, len(frame) + 1)])
        if not frames:
            break
    return b"".join(frames)
