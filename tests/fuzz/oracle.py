"""What leaves the router, read by somebody stricter: h11, and a few rules of our own on top.

A message that the oracle can't read, or reads differently from how it is meant, is a finding.
"""

from __future__ import annotations

import re

import h11

_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\x00-\x08\x0a-\x1f\x7f]*\Z")


class Finding(AssertionError):
    """Something that must not leave the router."""


def check_heads(data: bytes) -> None:
    """The first head of `data` is canonical: CRLF lines, one colon each, no doubt about framing."""
    head, found, _ = data.partition(b"\r\n\r\n")
    if not found:
        raise Finding(f"no end of head: {data[:200]!r}")
    first, *lines = head.split(b"\r\n")
    if b"\n" in first or b"\r" in first or b"\0" in first:
        raise Finding(f"control characters in {first!r}")
    names = []
    for line in lines:
        if not _LINE.match(line):
            raise Finding(f"line {line!r}")
        names.append(line.partition(b":")[0].lower())
    for single in (b"content-length", b"transfer-encoding", *((b"host",) if not first.startswith(b"HTTP/") else ())):
        if names.count(single) > 1:
            raise Finding(f"several {single!r}")
    if b"content-length" in names and b"transfer-encoding" in names:
        raise Finding("both Content-Length and Transfer-Encoding")


def read_requests(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Every complete request in `data` as (method, target, body); an incomplete last one is left out."""
    requests = []
    while data:
        check_heads(data)
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 22)
        reader.receive_data(data)
        head, body = None, b""
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError as error:
                raise Finding(f"h11 says {error} to {data[:300]!r}") from error
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return requests
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        assert head is not None
        requests.append((head.method, head.target, body))
        data = reader.trailing_data[0]
    return requests


def meant_requests(data: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """What h11 makes of a client's own bytes: (method, body) of each request, and whether it refused none."""
    requests: list[tuple[bytes, bytes]] = []
    while data:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 22)
        reader.receive_data(data)
        method, body = b"", b""
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError:
                return requests, False
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return requests, True
            if isinstance(event, h11.Request):
                method = event.method
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        requests.append((method, body))
        data = reader.trailing_data[0]
    return requests, True


def meant_response(data: bytes, method: bytes) -> tuple[int, bytes] | None:
    """What h11 makes of a backend's own bytes: status and body, or None if it refuses them or waits for more."""
    try:
        read = _read_response(data, method)
    except h11.RemoteProtocolError:
        return None
    return read[:2] if read is not None and read[2] else None


def read_response(data: bytes, method: bytes) -> tuple[int, bytes, bool] | None:
    """The first final response in `data` as (status, body, complete); None when there is none."""
    if not data:
        return None
    check_heads(data)
    try:
        return _read_response(data, method)
    except h11.RemoteProtocolError as error:
        raise Finding(f"h11 says {error} to {data[:300]!r}") from error


def check_answer(answer: tuple[int, bytes, bool] | None, meant: tuple[int, bytes] | None) -> None:
    """A whole answer that is not the router's own 502 is what the backend meant. Raises Finding."""
    if answer is not None and answer[2] and answer[0] != 502 and meant is not None and answer[:2] != meant:
        raise Finding(f"the backend said {meant!r} and the client got {answer!r}")


def _read_response(data: bytes, method: bytes) -> tuple[int, bytes, bool] | None:
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 22)
    reader.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"app.test")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    status, body = 0, b""
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA or event is h11.PAUSED:
            return (status, body, False) if status else None
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body, True
