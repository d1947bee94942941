"""X-Forwarded-Proto and request ids (contract §5.3, RFC 9562)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from router.http.forwarded import RequestIds, forwarded_proto


@dataclass
class Rules:
    force_forwarded_proto_https: bool = False
    sanitize_forwarded_proto: bool = False


PROTO = [
    # sent, TLS, force, sanitize, value
    (None, False, False, False, b"http"),
    (None, True, False, False, b"https"),
    (b"", True, False, False, b"https"),
    (b"https", False, False, False, b"https"),
    (b"gopher", True, False, False, b"gopher"),
    (b"https", False, False, True, b"http"),
    (b"http", True, False, True, b"https"),
    (b"http", False, True, False, b"https"),
    (b"http", False, True, True, b"https"),
]


@pytest.mark.parametrize(("sent", "secure", "force", "sanitize", "value"), PROTO)
def test_forwarded_proto(sent: bytes | None, secure: bool, force: bool, sanitize: bool, value: bytes) -> None:
    assert forwarded_proto(sent, secure, Rules(force, sanitize)) == value


def test_request_ids_are_uuids_and_never_the_same() -> None:
    ids = RequestIds()
    made = [ids.next() for _ in range(2000)]
    assert len(set(made)) == len(made)
    shape = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(shape.fullmatch(one) for one in made)
