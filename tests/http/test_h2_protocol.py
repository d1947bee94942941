"""The HTTP/2 connection, frame by frame (RFC 9113): bytes in, calls and bytes out. What it refuses, with which code."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from hypothesis import given
from hypothesis import strategies as st

from router.http import h2_frames as wire
from router.http.h2_frames import Code, frame_head
from router.http.h2_protocol import CONNECTION_WINDOW, STREAM_WINDOW, H2Protocol, StreamState, Violation
from router.http.hpack import Field, encode

GET = encode([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")])
OK = encode([(b":status", b"200")])
FIELDS = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]


class Recorded(StreamState):
    """A stream that notes what comes."""

    def __init__(self, peer: Peer, id: int) -> None:
        super().__init__(id, peer.peer_window)
        self.peer = peer

    def data_came(self, data: bytes, size: int, ended: bool) -> None:
        self.peer.calls.append(("data", self.id, data, size, ended))
        self.owed += size
        self.peer.give_back(self)

    def reset_sent(self, code: Code, reason: str) -> None:
        self.peer.calls.append(("failed", self.id, code))


class Peer(H2Protocol[Recorded]):
    """One end of a connection that notes what it is told. A server takes every request."""

    def __init__(self, *, server: bool = True) -> None:
        super().__init__(server=server, largest_block=8192)
        self.calls: list[tuple[object, ...]] = []
        self.annoyance = 0.0

    def begin(self) -> int:
        """A client's next stream."""
        self.newest += 2 if self.newest else 1
        self.streams[self.newest] = Recorded(self, self.newest)
        return self.newest

    def headers_came(self, id: int, fields: list[Field] | None, ended: bool) -> None:
        stream = self.streams.get(id)
        if stream is not None and (self._server or self.calls):
            if self.trailers_came(stream, ended):
                self.calls.append(("trailers", id, fields))
        elif stream is not None or (self._server and id > self.newest and id & 1):
            if stream is None:
                self.newest = id
                stream = self.streams[id] = Recorded(self, id)
            stream.remote_done = ended
            self.calls.append(("head", id, fields, ended))
        else:
            self.stray_headers(id)

    def reset_came(self, stream: Recorded, code: int) -> None:
        self.calls.append(("reset", stream.id, code))

    def goaway_came(self, last: int, code: int) -> None:
        self.calls.append(("goaway", last, code))

    def connection_window_opened(self) -> None:
        self.calls.append(("window", self.window))

    def window_opened(self, stream: Recorded) -> None:
        self.calls.append(("window of", stream.id, stream.window))

    def annoyed(self, weight: float) -> None:
        self.annoyance += weight

    def introduced(self) -> None:
        pass

    def said(self) -> list[Frame]:
        """The frames that are to be sent, as hyperframe reads them."""
        data, self.out = memoryview(b"".join(self.out)), []
        frames = []
        while data:
            frame, size = Frame.parse_frame_header(data[:9])
            frame.parse_body(data[9 : 9 + size])
            frames.append(frame)
            data = data[9 + size :]
        return frames

    def resets(self) -> list[tuple[int, int]]:
        """Of them, the streams that were reset, and why."""
        return [(frame.stream_id, frame.error_code) for frame in self.said() if isinstance(frame, RstStreamFrame)]


def frame(kind: int, id: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    return frame_head(len(payload), kind, flags, id) + payload


def head(id: int, ended: bool = True, block: bytes = GET) -> bytes:
    return wire.headers(id, block, ended, wire.SMALLEST_FRAME)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def setting(key: int, value: int) -> bytes:
    return frame(wire.SETTINGS, 0, key.to_bytes(2, "big") + number(value))


SETTINGS = frame(wire.SETTINGS)
START = wire.PREFACE + SETTINGS
PRIORITIES = number(0) + b"\x10"


def server(*data: bytes) -> Peer:
    """A server's end to which a client has said hello, and this."""
    peer = Peer()
    peer.feed(START + b"".join(data))
    return peer


def client(*data: bytes) -> Peer:
    """A client's end with one request under way, to which a server has said hello, and this."""
    peer = Peer(server=False)
    peer.begin()
    peer.feed(SETTINGS + b"".join(data))
    return peer


# ---------------------------------------------------------------- what is allowed

REQUEST = [("head", 1, FIELDS, True)]
UPLOAD = ("head", 1, FIELDS, False)


@pytest.mark.parametrize(
    ("data", "calls"),
    [
        (head(1), REQUEST),
        (frame(wire.HEADERS, 1, b"\x03" + GET + b"abc", 0x0D), REQUEST),  # padded
        (frame(wire.HEADERS, 1, PRIORITIES + GET, 0x25), REQUEST),
        (frame(wire.HEADERS, 1, b"\x01" + PRIORITIES + GET + b"x", 0x2D), REQUEST),
        (frame(wire.HEADERS, 1, number(1) + b"\x10" + GET, 0x25), REQUEST),  # depends on itself: §5.3.2
        (frame(wire.HEADERS, 1, GET[:3], 1) + frame(wire.CONTINUATION, 1, GET[3:], 4), REQUEST),
        (frame(wire.HEADERS, 1, b"", 1) + frame(wire.CONTINUATION, 1) + frame(wire.CONTINUATION, 1, GET, 4), REQUEST),
        (head(1) + head(7), [*REQUEST, ("head", 7, FIELDS, True)]),
        (head(1, False) + frame(wire.DATA, 1, b"abc", 1), [UPLOAD, ("data", 1, b"abc", 3, True)]),
        (head(1, False) + frame(wire.DATA, 1, b"\x02abcxx", 9), [UPLOAD, ("data", 1, b"abc", 6, True)]),
        (head(1, False) + frame(wire.DATA, 1, b"\x00", 8), [UPLOAD, ("data", 1, b"", 1, False)]),
        (
            head(1, False) + head(1, True, encode([(b"x", b"y")])),
            [UPLOAD, ("trailers", 1, [(b"x", b"y")])],
        ),
        (head(1) + frame(wire.RST_STREAM, 1, number(8)), [*REQUEST, ("reset", 1, 8)]),
        (head(1) + frame(wire.RST_STREAM, 1, number(99)), [*REQUEST, ("reset", 1, 99)]),  # a code that nobody knows
        (head(1) + frame(wire.WINDOW_UPDATE, 1, number(5)), [*REQUEST, ("window of", 1, 65540)]),
        (frame(wire.WINDOW_UPDATE, 0, number(0x80000005)), [("window", 65540)]),  # the first bit means nothing
        (head(1) + setting(4, 65530), REQUEST),
        (head(1) + setting(4, 65540), [*REQUEST, ("window of", 1, 65540)]),
        (head(1) + setting(0x99, 7), REQUEST),  # §6.5.2: unknown ones are ignored
        (frame(wire.GOAWAY, 0, number(3) + number(2) + b"why"), [("goaway", 3, 2)]),
        (frame(0x42, 5, b"whatever", 0xFF), []),
        (frame(wire.PRIORITY, 5, PRIORITIES), []),
        (head(1) + frame(wire.RST_STREAM, 1, number(8)) * 2, [*REQUEST, ("reset", 1, 8)]),
        (head(1) + frame(wire.RST_STREAM, 1, number(8)) + frame(wire.WINDOW_UPDATE, 1, number(5)), None),
        (head(5) + frame(wire.WINDOW_UPDATE, 3, number(5)), None),  # 3 was closed by 5: §5.1.1
        (frame(wire.DATA, 0)[:0], []),
    ],
)
def test_frames_that_may_come(data: bytes, calls: list[tuple[object, ...]] | None) -> None:
    peer = server(data)
    assert calls is None or peer.calls == calls
    assert not peer.resets()


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", frame(wire.SETTINGS, flags=1)),
        (frame(wire.SETTINGS, flags=1), frame(wire.SETTINGS, flags=1)),  # an acknowledgement is not acknowledged
        (frame(wire.PING, 0, b"12345678"), frame(wire.SETTINGS, flags=1) + frame(wire.PING, 0, b"12345678", 1)),
        (frame(wire.PING, 0, b"12345678", 1), frame(wire.SETTINGS, flags=1)),
    ],
)
def test_what_is_answered_at_once(data: bytes, answer: bytes) -> None:
    assert b"".join(server(data).out) == answer


def test_both_ends_greet() -> None:
    peer = Peer(server=False)
    peer.greet({wire.Setting.ENABLE_PUSH: 0})
    assert b"".join(peer.out).startswith(wire.PREFACE)
    peer.out[0] = peer.out[0].removeprefix(wire.PREFACE)
    settings, window = peer.said()
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {2: 0, 4: STREAM_WINDOW, 6: 8192}
    assert isinstance(window, WindowUpdateFrame)
    assert window.window_increment == CONNECTION_WINDOW - 65535


def test_windows_open_again_as_bodies_come() -> None:
    peer = server(head(1, False))
    peer.said()
    for _ in range(CONNECTION_WINDOW // 16384):
        peer.feed(frame(wire.DATA, 1, bytes(16384)))
    opened = [(f.stream_id, f.window_increment) for f in peer.said()]  # type: ignore[attr-defined]
    assert sum(more for id, more in opened if id == 0) == CONNECTION_WINDOW
    assert sum(more for id, more in opened if id == 1) == CONNECTION_WINDOW
    assert len(opened) == 2 + 16  # and not one a frame


def test_a_late_change_of_windows_may_take_them_below_zero() -> None:
    peer = server(head(1))
    peer.streams[1].window -= 65535
    peer.feed(setting(4, 100))
    assert peer.streams[1].window == 100 - 65535
    peer.feed(head(3))
    assert peer.streams[3].window == 100


LARGE = b"\x40\x01b\x7f\x85\x1e" + b"x" * 3972  # a field of 4,005 bytes that goes into the table
BOMB = LARGE + b"\xbe" * 70


@pytest.mark.parametrize(
    "block",
    [
        GET + LARGE + b"\xbe" * 2,
        LARGE + GET + b"\xbe" * 60,
        LARGE + b"\x00\x01x\x01y" * 300,
    ],
)
def test_a_header_block_with_more_in_it_than_we_take_is_read_for_the_tables_sake(block: bytes) -> None:
    peer = server(head(1, True, block), head(3), head(5, True, b"\xbe"), head(7, False))
    peer.feed(frame(wire.HEADERS, 7, block[:100], 1) + frame(wire.CONTINUATION, 7, block[100:], 4))
    assert [call[:3] for call in peer.calls] == [
        ("head", 1, None),
        ("head", 3, FIELDS),
        ("head", 5, [(b"b", b"x" * 3972)]),
        ("head", 7, FIELDS),
        ("trailers", 7, None),
    ]


def test_a_window_is_opened_for_what_was_sent() -> None:
    peer = server(head(1))
    update = frame(wire.WINDOW_UPDATE, 0, number(1)) + frame(wire.WINDOW_UPDATE, 1, number(1))
    peer.earned = 100 * 1024
    peer.feed(update * 100)
    assert (peer.earned, peer.annoyance) == (0, 0)
    peer.feed(update * 10)
    peer.feed(frame(wire.RST_STREAM, 1, number(8)))
    before = peer.annoyance
    assert before > 0
    peer.feed(update)  # late ones are counted too
    assert peer.annoyance > before


# ---------------------------------------------------------------- what ends the connection


@pytest.mark.parametrize(
    ("data", "code"),
    [
        # §3.4: how it begins
        (b"GET / HTTP/1.1\r\n", Code.PROTOCOL_ERROR),
        (wire.PREFACE[:-1] + b"x", Code.PROTOCOL_ERROR),
        (wire.PREFACE + frame(wire.PING, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (wire.PREFACE + frame(wire.SETTINGS, flags=1), Code.PROTOCOL_ERROR),
        # §4.2, §4.3
        (START + frame_head(16385, wire.DATA, 0, 1), Code.FRAME_SIZE_ERROR),
        (START + frame_head(16385, 0x42, 0, 1), Code.FRAME_SIZE_ERROR),
        (START + head(1, True, b"\x80"), Code.COMPRESSION_ERROR),
        (START + head(1, True, BOMB), Code.ENHANCE_YOUR_CALM),
        # §5.1, §5.1.1
        (START + frame(wire.DATA, 1, b"x"), Code.PROTOCOL_ERROR),
        (START + frame(wire.RST_STREAM, 1, number(8)), Code.PROTOCOL_ERROR),
        (START + frame(wire.WINDOW_UPDATE, 1, number(8)), Code.PROTOCOL_ERROR),
        (START + head(2), Code.PROTOCOL_ERROR),
        (START + head(5) + head(3), Code.PROTOCOL_ERROR),
        (START + head(1) + frame(wire.RST_STREAM, 1, number(8)) + head(1), Code.STREAM_CLOSED),
        (START + head(1) + frame(wire.DATA, 2, b"x"), Code.PROTOCOL_ERROR),
        # §6.1, §6.2
        (START + frame(wire.DATA, 0, b"x"), Code.PROTOCOL_ERROR),
        (START + head(1, False) + frame(wire.DATA, 1, b"", 8), Code.FRAME_SIZE_ERROR),
        (START + head(1, False) + frame(wire.DATA, 1, b"\x01", 8), Code.PROTOCOL_ERROR),
        (START + head(0), Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1, b"\xff" + GET, 0x0D), Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1, b"abcd", 0x25), Code.FRAME_SIZE_ERROR),
        # §6.3
        (START + frame(wire.PRIORITY, 0, PRIORITIES), Code.PROTOCOL_ERROR),
        (START + frame(wire.PRIORITY, 1, b"abcd"), Code.FRAME_SIZE_ERROR),
        # §6.4
        (START + frame(wire.RST_STREAM, 0, number(8)), Code.PROTOCOL_ERROR),
        (START + head(1) + frame(wire.RST_STREAM, 1, b"abc"), Code.FRAME_SIZE_ERROR),
        # §6.5
        (START + frame(wire.SETTINGS, 1), Code.PROTOCOL_ERROR),
        (START + frame(wire.SETTINGS, 0, b"abc"), Code.FRAME_SIZE_ERROR),
        (START + frame(wire.SETTINGS, 0, bytes(6), 1), Code.FRAME_SIZE_ERROR),
        (START + setting(2, 2), Code.PROTOCOL_ERROR),
        (START + setting(4, 1 << 31), Code.FLOW_CONTROL_ERROR),
        (START + setting(5, 16383), Code.PROTOCOL_ERROR),
        (START + setting(5, 1 << 24), Code.PROTOCOL_ERROR),
        # §6.6: a client has nothing to push
        (START + frame(wire.PUSH_PROMISE, 1, number(2) + GET, 4), Code.PROTOCOL_ERROR),
        # §6.7, §6.8
        (START + frame(wire.PING, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (START + frame(wire.PING, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (START + frame(wire.GOAWAY, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (START + frame(wire.GOAWAY, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        # §6.9
        (START + frame(wire.WINDOW_UPDATE, 0, b"abc"), Code.FRAME_SIZE_ERROR),
        (START + frame(wire.WINDOW_UPDATE, 0, number(0)), Code.PROTOCOL_ERROR),
        (START + frame(wire.WINDOW_UPDATE, 0, number(2**31 - 1)), Code.FLOW_CONTROL_ERROR),
        (
            START + head(1) + frame(wire.WINDOW_UPDATE, 1, number(2**31 - 1 - 65535)) + setting(4, 65536),
            Code.FLOW_CONTROL_ERROR,
        ),
        # §6.10
        (START + frame(wire.CONTINUATION, 1, GET, 4), Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1, GET[:3], 1) + frame(wire.CONTINUATION, 3, GET[3:], 4), Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1, GET[:3], 1) + frame(wire.PING, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1, GET[:3], 1) + frame(0x42), Code.PROTOCOL_ERROR),
        (START + head(1) + frame(wire.CONTINUATION, 1, GET, 4), Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1) + frame(wire.CONTINUATION, 1) * 81, Code.PROTOCOL_ERROR),
        (START + frame(wire.HEADERS, 1) + frame(wire.CONTINUATION, 1, bytes(16000)) * 18, Code.ENHANCE_YOUR_CALM),
    ],
)
def test_what_ends_a_clients_connection(data: bytes, code: Code) -> None:
    peer = Peer()
    with pytest.raises(Violation) as caught:
        peer.feed(data)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(wire.PING, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (SETTINGS + frame(wire.PUSH_PROMISE, 1, number(2) + GET, 4), Code.PROTOCOL_ERROR),
        (SETTINGS + setting(2, 1), Code.PROTOCOL_ERROR),
        (SETTINGS + head(2, True, OK), Code.PROTOCOL_ERROR),
        (SETTINGS + head(3, True, OK), Code.PROTOCOL_ERROR),
        (SETTINGS + frame(wire.DATA, 3, b"x"), Code.PROTOCOL_ERROR),
    ],
)
def test_what_ends_a_backends_connection(data: bytes, code: Code) -> None:
    peer = Peer(server=False)
    peer.begin()
    with pytest.raises(Violation) as caught:
        peer.feed(data)
    assert caught.value.code == code


# ---------------------------------------------------------------- what ends a stream


@pytest.mark.parametrize(
    ("data", "code"),
    [
        # §5.1, half-closed (remote)
        (head(1) + frame(wire.DATA, 1, b"x"), Code.STREAM_CLOSED),
        (head(1) + head(1), Code.STREAM_CLOSED),
        # §6.3, §6.9
        (head(1) + frame(wire.PRIORITY, 1, b"abcd"), Code.FRAME_SIZE_ERROR),
        (head(1) + frame(wire.WINDOW_UPDATE, 1, number(0)), Code.PROTOCOL_ERROR),
        (head(1) + frame(wire.WINDOW_UPDATE, 1, number(2**31 - 1)), Code.FLOW_CONTROL_ERROR),
        # §8.1
        (head(1, False) + head(1, False), Code.PROTOCOL_ERROR),
    ],
)
def test_what_ends_a_stream_and_nothing_else(data: bytes, code: Code) -> None:
    peer = server(data, head(3))
    assert peer.resets() == [(1, code)]
    assert [call for call in peer.calls if call[0] != "head"] == [("failed", 1, code)]
    assert list(peer.streams) == [3]
    assert peer.annoyance > 0


def test_more_data_than_the_window_allows_ends_the_stream() -> None:
    peer = server(head(1, False))
    peer.give_back = lambda stream: None  # type: ignore[method-assign]
    for _ in range(STREAM_WINDOW // 16384):
        peer.feed(frame(wire.DATA, 1, bytes(16384)))
    assert not peer.resets()
    peer.feed(frame(wire.DATA, 1, b"x"))
    assert peer.resets() == [(1, Code.FLOW_CONTROL_ERROR)]


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (frame(wire.DATA, 1, b"abcd", 1), True),
        (frame(wire.DATA, 1, b"abcd") + frame(wire.DATA, 1, b"", 1), True),
        (frame(wire.DATA, 1, b"abcd") + head(1, True, b""), True),
        (frame(wire.DATA, 1, b"abcde"), False),
        (frame(wire.DATA, 1, b"abc", 1), False),
        (frame(wire.DATA, 1, b"abc") + head(1, True, b""), False),
    ],
)
def test_a_body_has_the_length_it_was_said_to_have(data: bytes, whole: bool) -> None:
    peer = server(head(1, False))
    peer.streams[1].awaited = 4
    peer.feed(data)
    assert peer.resets() == ([] if whole else [(1, Code.PROTOCOL_ERROR)])


def test_what_comes_behind_our_reset_is_read_and_forgotten() -> None:
    peer = server(head(1, False))
    peer.end(peer.streams[1], Code.CANCEL)
    assert peer.resets() == [(1, Code.CANCEL)]
    late = encode([(b"x", b"y")]) + b"\x40\x01a\x01b"
    peer.feed(frame(wire.DATA, 1, b"x" * 100) + frame(wire.WINDOW_UPDATE, 1, number(5)) + head(1, True, late))
    peer.feed(frame(wire.RST_STREAM, 1, number(8)))
    assert not peer.resets()
    peer.feed(head(3, True, b"\xbe"))  # the table has what the late block put into it
    assert peer.calls[-1] == ("head", 3, [(b"a", b"b")], True)


def test_data_behind_the_clients_reset_is_refused() -> None:
    peer = server(head(1, False), frame(wire.RST_STREAM, 1, number(8)), frame(wire.DATA, 1, b"x"))
    assert peer.resets() == [(1, Code.STREAM_CLOSED)]


# ---------------------------------------------------------------- in any pieces, and next to the library

CONVERSATION = b"".join(
    (
        START,
        head(1, False),
        frame(wire.DATA, 1, b"hello"),
        frame(wire.HEADERS, 3, GET[:5], 1),
        frame(wire.CONTINUATION, 3, GET[5:], 4),
        frame(wire.PING, 0, b"12345678"),
        frame(wire.DATA, 1, b"\x03abcxxx", 9),
        frame(0x42, 1, b"?"),
        head(5, True, GET + b"\x40\x01a\x01b"),
        head(7, True, b"\xbe"),
        frame(wire.WINDOW_UPDATE, 0, number(9)),
        frame(wire.RST_STREAM, 5, number(8)),
    )
)


def test_a_conversation_reads_alike_wherever_it_is_split() -> None:
    whole = Peer()
    whole.feed(CONVERSATION)
    for at in range(len(CONVERSATION)):
        peer = Peer()
        peer.feed(CONVERSATION[:at])
        peer.feed(CONVERSATION[at:])
        assert (peer.calls, b"".join(peer.out)) == (whole.calls, b"".join(whole.out))


@given(st.lists(st.integers(1, 40), max_size=40))
def test_a_conversation_reads_alike_in_any_pieces(sizes: list[int]) -> None:
    whole, peer = Peer(), Peer()
    whole.feed(CONVERSATION)
    at = 0
    for size in [*sizes, len(CONVERSATION)]:
        peer.feed(CONVERSATION[at : at + size])
        at += size
    assert (peer.calls, b"".join(peer.out)) == (whole.calls, b"".join(whole.out))


NAMES = st.from_regex(rb"\A[a-z][a-z-]{0,20}\Z")
VALUES = st.binary(max_size=60).map(lambda value: value.replace(b"\0", b"").strip())


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(NAMES, VALUES), max_size=5),
            st.lists(st.binary(max_size=300), max_size=3),
            st.integers(0, 5),
        ),
        max_size=5,
    )
)
def test_what_the_library_says_is_heard(
    requests: list[tuple[list[tuple[bytes, bytes]], list[bytes], int]],
) -> None:
    config = h2.config.H2Configuration(
        client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    library, peer = h2.connection.H2Connection(config), Peer()
    library.initiate_connection()
    meant: list[tuple[object, ...]] = []
    for fields, pieces, padding in requests:
        id = library.get_next_available_stream_id()
        library.send_headers(id, [*FIELDS, *fields], end_stream=not pieces)
        meant.append(("head", id, [*FIELDS, *fields], not pieces))
        for at, piece in enumerate(pieces, 1):
            library.send_data(id, piece, end_stream=at == len(pieces), pad_length=padding)
            meant.append(("data", id, piece, len(piece) + padding + 1, at == len(pieces)))
    peer.feed(library.data_to_send())
    assert peer.calls == meant


@given(st.binary(max_size=40000), st.booleans())
def test_long_header_blocks_are_heard_by_the_library(value: bytes, ended: bool) -> None:
    value = value.replace(b"\0", b"").strip()
    fields = [(b":status", b"200"), (b"x", value)]
    config = h2.config.H2Configuration(client_side=True, header_encoding=None, validate_inbound_headers=False)
    library = h2.connection.H2Connection(config)
    library.initiate_connection()
    library.send_headers(1, FIELDS, end_stream=True)
    library.decoder.max_header_list_size = 1 << 20
    events = library.receive_data(SETTINGS + wire.headers(1, encode(fields), ended, 16384))
    (response,) = [event for event in events if isinstance(event, h2.events.ResponseReceived)]
    assert [(name, text) for name, text in response.headers or ()] == fields
    assert (response.stream_ended is not None) is ended


def test_the_reasons_of_an_end_are_read_by_the_library() -> None:
    peer = server(head(1))
    peer.said()
    peer.last_words(Code.ENHANCE_YOUR_CALM, "why")
    (goaway,) = peer.said()
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (1, 11, b"why")
