"""One batch of strange conversations over HTTP/2, reproducible by its seed: clients' and backends'."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import hpack
import hyperframe.exceptions
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from router.http.h2_frames import HEADERS, PREFACE
from tests.fuzz.frames import from_backend, from_client
from tests.fuzz.oracle import Finding, check_answer, read_requests, read_response
from tests.support.memory import MemoryPlane

Request = tuple[bytes, bytes, bytes]
"""Method, target, body."""
IDLE = 24
"""Connections to the backend that are there: more than a conversation has requests."""


@dataclass
class TallyH2:
    """What became of the conversations."""

    conversations: int = 0
    broken_off: int = 0
    forwarded: int = 0
    compared: int = 0
    answers: int = 0
    bad_gateways: int = 0
    passed: int = 0

    def __str__(self) -> str:
        return (
            f"{self.conversations:,} strange HTTP/2 clients: {self.broken_off:,} sent away; {self.forwarded:,} "
            f"requests left the router, each read alike by h11, {self.compared:,} of them also by h2.\n"
            f"{self.answers:,} strange HTTP/2 backends: {self.bad_gateways:,} answers turned into 502; {self.passed:,} "
            "complete ones reached the client, each read alike by h11."
        )


def run_h2(seed: int, count: int, tally: TallyH2) -> None:
    """`count` clients and as many backends. Raises Finding with what reproduces it."""
    random = Random(seed)
    memory = MemoryPlane(max_response_head=8192)
    try:
        for _ in range(count):
            _one_client(random, memory, tally, seed)
            _one_backend(random, memory, tally, seed)
    finally:
        memory.close()


def _one_client(random: Random, memory: MemoryPlane, tally: TallyH2, seed: int) -> None:
    said = from_client(random)
    tally.conversations += 1
    try:
        forwarded, told = _from_client(memory, said, 1)
        again, told_again = _from_client(memory, said, random.choice([2, 3, 7, len(said) or 1]))
        if (forwarded, told) != (again, told_again):
            raise Finding(
                f"another reading when it comes in pieces: {forwarded!r}, {told!r}; {again!r}, {told_again!r}"
            )
        meant, whole = _meant_requests(said)
        for request in forwarded:
            if request in meant:
                tally.compared += 1
            elif whole:
                raise Finding(f"the client meant {meant!r} and the backend got {request!r}")
    except Finding as finding:
        raise Finding(f"seed {seed}, {said!r}: {finding}") from finding
    tally.forwarded += len(forwarded)
    tally.broken_off += any(kind == "goaway" for kind, *_ in told)


def _from_client(memory: MemoryPlane, said: bytes, pieces: int) -> tuple[list[Request], list[tuple[object, ...]]]:
    """What backends get of a client's bytes, and the heads, resets and farewells that it is told."""
    frontend, client, servers = memory.connect_h2(IDLE)
    size = max(1, -(-len(said) // pieces))
    for at in range(0, len(said), size):
        frontend.data_received(said[at : at + size])
    memory.turn()
    told = _told(client.written)
    frontend.connection_lost(None)
    for backend, server in servers:
        if not server.closed:
            backend.connection_lost(None)
    return [request for _, server in servers for request in read_requests(server.written)], told


def _told(data: bytes) -> list[tuple[object, ...]]:
    """The frames of an answer, as the libraries read them."""
    decoder = hpack.Decoder()
    told: list[tuple[object, ...]] = []
    try:
        for frame in _frames(data):
            if isinstance(frame, HeadersFrame):
                (name, status), *_ = decoder.decode(frame.data, raw=True)
                if name != b":status":
                    raise Finding(f"a response that begins with {name!r}")
                told.append(("head", frame.stream_id, status))
            elif isinstance(frame, RstStreamFrame):
                told.append(("reset", frame.stream_id, frame.error_code))
            elif isinstance(frame, GoAwayFrame):
                told.append(("goaway", frame.last_stream_id, frame.error_code))
    except (hyperframe.exceptions.HyperframeError, hpack.HPACKError, ValueError) as error:
        raise Finding(f"the client can't read {data!r}: {error}") from error
    return told


def _frames(data: bytes) -> list[Frame]:
    frames, rest = [], memoryview(data)
    while rest:
        frame, size = Frame.parse_frame_header(rest[:9])
        frame.parse_body(rest[9 : 9 + size])
        frames.append(frame)
        rest = rest[9 + size :]
    return frames


def _meant_requests(said: bytes) -> tuple[list[Request], bool]:
    """What the h2 library makes of a client's bytes: whole requests, and whether it refused nothing."""
    library = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    library.initiate_connection()
    heads: dict[int, dict[bytes, bytes]] = {}
    bodies: dict[int, bytes] = {}
    ended: set[int] = set()
    refused = False
    for piece in _by_frame(said):
        try:
            events = library.receive_data(piece)
        except H2Error:
            refused = True
            break
        for event in events:
            if isinstance(event, RequestReceived):
                heads[event.stream_id] = dict(event.headers or ())
                bodies[event.stream_id] = b""
            elif isinstance(event, DataReceived):
                bodies[event.stream_id] += event.data or b""
            elif isinstance(event, StreamReset):
                refused = True
            elif isinstance(event, StreamEnded):
                ended.add(event.stream_id)
    whole = [
        (head.get(b":method", b""), head.get(b":path", b""), bodies[id])
        for id, head in heads.items()
        if id in ended or head.get(b"content-length") == b"%d" % len(bodies[id])  # to HTTP/1.1 that is an end
    ]
    return whole, not refused


def _by_frame(said: bytes) -> list[bytes]:
    """Cut so that the library, which loses what it read before an error in the same bytes, loses nothing."""
    at = len(PREFACE) if said.startswith(PREFACE) else 0
    pieces = [said[:at]] if at else []
    while at < len(said):
        size = 9 + int.from_bytes(said[at : at + 3], "big")
        pieces.append(said[at : at + size])
        at += size
    return pieces


def _one_backend(random: Random, memory: MemoryPlane, tally: TallyH2, seed: int) -> None:
    said = from_backend(random)
    method = random.choice([b"GET", b"GET", b"HEAD"])
    tally.answers += 1
    try:
        whole = read_response(_to_client(memory, method, said, 1), method)
        split = read_response(_to_client(memory, method, said, random.choice([2, 3, 7, len(said) or 1])), method)
        if whole != split:
            raise Finding(f"another reading when it comes in pieces: {whole!r}, {split!r}")
        check_answer(whole, _meant_response(said, method))
    except Finding as finding:
        raise Finding(f"seed {seed}, {method!r} answered by {said!r}: {finding}") from finding
    if whole is not None and whole[2]:
        tally.bad_gateways += whole[0] == 502
        tally.passed += whole[0] != 502


def _to_client(memory: MemoryPlane, method: bytes, said: bytes, pieces: int) -> bytes:
    """What a client over HTTP/1.1 gets of a backend's frames."""
    frontend, client, backend, server = memory.connect_to_h2()
    frontend.data_received(method + b" / HTTP/1.1\r\nHost: app.test\r\n\r\n")
    memory.turn()
    sent = _frames(server.written.removeprefix(PREFACE))
    assert [frame.stream_id for frame in sent if frame.type == HEADERS] == [1]
    size = max(1, -(-len(said) // pieces))
    for at in range(0, len(said), size):
        if server.closed:
            break
        backend.data_received(said[at : at + size])
    memory.turn()
    backend.connection_lost(None)
    if not client.closed:
        frontend.connection_lost(None)
    return client.written


def _meant_response(said: bytes, method: bytes) -> tuple[int, bytes] | None:
    """What the h2 library makes of a backend's bytes: status and body, or None if it refuses them or waits for more."""
    library = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    library.initiate_connection()
    head = [(":method", method.decode()), (":scheme", "https"), (":authority", "app.test"), (":path", "/")]
    library.send_headers(1, head, end_stream=True)
    status, body = 0, b""
    for piece in _by_frame(said):
        try:
            events = library.receive_data(piece)
        except H2Error:
            return None
        for event in events:
            if isinstance(event, ResponseReceived):
                said_status = dict(event.headers or ())[b":status"]
                if not said_status.isdigit():
                    return None
                status = int(said_status)
            elif isinstance(event, DataReceived):
                body += event.data or b""
            elif isinstance(event, StreamReset):
                return None
            elif isinstance(event, StreamEnded):
                without = method == b"HEAD" or status in (204, 304)  # where the library would take one
                return status, b"" if without else body
    return None
