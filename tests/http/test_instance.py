"""The headers by which a client asks for one instance (contract §3.5)."""

from __future__ import annotations

import pytest

from router.http import errors
from router.http.errors import ErrorRow
from router.http.instance import Wanted, wanted
from router.messages import EndpointSpec
from tests.support.memory import MemoryPlane, through

GUID = "0a1b2c3d-0000-4000-8000-0123456789ab"
APP, PROCESS = b"x-cf-app-instance", b"x-cf-process-instance"

READ: list[tuple[dict[bytes, bytes], Wanted | ErrorRow | None]] = [
    ({}, None),
    ({APP: b""}, None),
    ({PROCESS: b""}, None),
    ({APP: f"{GUID}:3".encode()}, Wanted(False, GUID, "3", errors.UNKNOWN_INSTANCE)),
    ({PROCESS: GUID.encode()}, Wanted(True, GUID, None, errors.UNKNOWN_PROCESS)),
    ({PROCESS: f"{GUID}:3".encode()}, Wanted(True, GUID, "3", errors.UNKNOWN_PROCESS_INSTANCE)),
    ({APP: f"{GUID}:3".encode(), PROCESS: b"rubbish"}, Wanted(False, GUID, "3", errors.UNKNOWN_INSTANCE)),
    *[
        ({APP: value}, errors.INVALID_APP_INSTANCE)
        for value in (
            GUID.encode(),
            b"x",
            f"{GUID}:".encode(),
            f"{GUID}:-1".encode(),
            f"{GUID}:1 ".encode(),
            f"{GUID}:1:2".encode(),
            f"{GUID.upper()}:1".encode(),
            f"{GUID}:\xb2".encode("latin-1"),
            f"{GUID}:1, {GUID}:2".encode(),
        )
    ],
    *[
        ({PROCESS: value}, errors.INVALID_PROCESS_INSTANCE)
        for value in (b"x", f"{GUID}:x".encode(), f"{GUID}:1\n".encode())
    ],
]


@pytest.mark.parametrize(("noted", "meaning"), READ, ids=lambda value: repr(value)[:60])
def test_read(noted: dict[bytes, bytes], meaning: Wanted | ErrorRow | None) -> None:
    assert wanted(noted) == meaning


SPEC = EndpointSpec("127.0.0.1", 1, app=GUID, instance_index="3", tags=(("process_id", "p"),))


@pytest.mark.parametrize(
    ("process", "guid", "number", "matches"),
    [
        (False, GUID, "3", True),
        (False, GUID, "4", False),
        (False, "other", "3", False),
        (True, "p", None, True),
        (True, "p", "3", True),
        (True, "p", "4", False),
        (True, GUID, None, False),
    ],
)
def test_matches(process: bool, guid: str, number: str | None, matches: bool) -> None:
    assert Wanted(process, guid, number, errors.UNKNOWN_INSTANCE).matches(SPEC) is matches


ABSENT = [
    (b"X-CF-App-Instance: %b:3", "Requested instance ('3') with guid ('{}') does not exist"),
    (b"X-CF-Process-Instance: %b:3", "Requested instance ('3') with process guid ('{}') does not exist"),
    (b"X-CF-Process-Instance: %b", "Requested instance with process guid ('{}') does not exist"),
]


@pytest.mark.parametrize(("line", "text"), ABSENT)
def test_an_instance_that_is_not_there_is_named(line: bytes, text: str) -> None:
    memory = MemoryPlane()
    message = b"GET / HTTP/1.1\r\nHost: app.test\r\n%b\r\n\r\n" % (line % GUID.encode())
    backend, client = through(memory, message)
    assert backend == b""
    assert client.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert client.endswith(f"400 Bad Request: {text.format(GUID)} for route ('app.test')\n".encode())
    memory.close()
