"""Session tickets that several contexts can open, as workers do (`proxy.tickets`)."""

from __future__ import annotations

import ssl
import sys

import pytest

from router.messages import FrontTls
from router.proxy import tickets
from router.proxy.tls import FrontDoor
from tests.support import certs


def front(secret: bytes, **options: object) -> FrontTls:
    return certs.front("app.test", ticket_secret=secret, **options)


def resumes(client: ssl.SSLContext, door: FrontDoor, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession, bool]:
    """A handshake in memory: the session it makes, and whether it resumed this one."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = door.context.wrap_bio(up, down, server_side=True)
    there = client.wrap_bio(down, up, server_hostname="app.test", session=session)
    for _ in range(4):
        for side in (there, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    server.write(b"x")
    there.read(1)
    assert there.session is not None
    return there.session, there.session_reused is True


RULE = (((("commonName", "issuer"),), ((("commonName", "subject"),),)),)


@pytest.mark.skipif(sys.version_info[:2] not in tickets.KNOWN_VERSIONS, reason="not tried with this Python")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_can_open_a_ticket(version: ssl.TLSVersion) -> None:
    client = certs.client(newest=version)
    door = FrontDoor(front(b"secret"))
    session, resumed = resumes(client, door, None)
    assert not resumed
    assert resumes(client, door, session)[1]
    assert resumes(client, FrontDoor(front(b"secret")), session)[1], "another worker"
    assert not resumes(client, FrontDoor(front(b"other")), session)[1], "another router"
    strict = FrontDoor(front(b"secret", client_certificates="request", client_rules=RULE))
    assert not resumes(client, strict, session)[1], "other rules for clients"
    door.renew(front(b"secret"))
    assert resumes(client, door, session)[1], "a renewed certificate"
    door.renew(front(b"newer"))
    assert not resumes(client, door, session)[1], "a new secret"


def test_an_unknown_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "KNOWN_VERSIONS", ())
    assert not tickets.share_tickets(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), b"secret")
    client = certs.client()
    session, _ = resumes(client, FrontDoor(front(b"secret")), None)
    assert not resumes(client, FrontDoor(front(b"secret")), session)[1]
