"""TLS at the front door and towards backends, on real sockets (contract §9, §7.1, §7.3)."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from router.messages import Certificate
from router.observe.counters import Counter
from router.proxy import connections
from router.proxy.handshake import PLAIN_HTTP
from tests.support import certs
from tests.support.wire import OK, Backend, Bench, Client, answering, serving

HTTPS: dict[str, Any] = {"listeners": ("https",)}


def https(*names: str, **options: object) -> dict[str, Any]:
    return {"listeners": ("https",), "front_tls": certs.front(*names, **options)}


def shown_name(client: Client) -> str:
    """The DNS name of the certificate that the router showed."""
    shown = client.writer.get_extra_info("ssl_object").getpeercert()
    return str(dict(shown["subjectAltName"])["DNS"])


# ---------------------------------------------------------------- the front door


async def test_a_request_over_tls() -> None:
    heads: list[bytes] = []
    async with serving(answering(OK, heads=heads), **https()) as (bench, _):
        client = await bench.client(certs.client())
        for _ in range(2):
            assert (await client.get())[0::2] == (200, b"ok")
    assert b"\r\nX-Forwarded-Proto: https\r\n" in heads[0]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("app.test", "app.test"),
        ("two.test", "two.test"),
        ("APP.test", "app.test"),
        ("any.wild.test", "*.wild.test"),
        ("exact.wild.test", "exact.wild.test"),
        ("not.any.wild.test", "app.test"),  # a wildcard is one level
        ("other.test", "app.test"),  # else the first
    ],
)
async def test_the_certificate_follows_the_name(asked: str, shown: str) -> None:
    names = ("app.test", "two.test", "*.wild.test", "exact.wild.test")
    async with serving(answering(OK), **https(*names)) as (bench, _):
        context = certs.client()
        context.check_hostname = False
        client = await bench.client(context, asked)
        assert shown_name(client) == shown
        assert (await client.get())[0] == 200


async def test_versions() -> None:
    async with serving(answering(OK), **https(min_version="TLSv1.3")) as (bench, _):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await bench.client(certs.client(newest=ssl.TLSVersion.TLSv1_2))
        client = await bench.client(certs.client())
        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    async with serving(answering(OK), **https(max_version="TLSv1.2")) as (bench, _):
        client = await bench.client(certs.client())
        assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.2"


async def test_ciphers() -> None:
    async with serving(
        answering(OK),
        **https(max_version="TLSv1.2", ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"),
    ) as (bench, _):
        client = await bench.client(certs.client())
        assert "AES256-GCM-SHA384" in client.writer.get_extra_info("ssl_object").cipher()[0]


async def test_certificates_change_while_connections_stay() -> None:
    async with serving(answering(OK), **https("app.test")) as (bench, _):
        before = await bench.client(certs.client())
        assert (await before.get())[0] == 200
        renewed = certs.authority().issue_cert("app.test")
        assert bench.plane.front_door is not None
        front = certs.front()
        bench.plane.front_door.renew(
            type(front)((certs.certificate(renewed, "app.test"),), client_authorities=front.client_authorities)
        )
        after = await bench.client(certs.client())
        serial = [c.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"] for c in (before, after)]
        assert serial[0] != serial[1]
        assert (await before.get())[0] == (await after.get())[0] == 200


async def test_a_certificate_that_cannot_be_used_changes_nothing() -> None:
    async with serving(answering(OK), **https("app.test")) as (bench, _):
        door = bench.plane.front_door
        assert door is not None
        with pytest.raises(ssl.SSLError):
            door.renew(type(certs.front())((Certificate("no", "pem"),)))
        assert (await (await bench.client(certs.client())).get())[0] == 200


async def test_large_bodies_both_ways() -> None:
    size = 3 << 20
    body = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    async with serving(answering(body, body=size), **https()) as (bench, _):
        client = await bench.client(certs.client())
        sending = asyncio.create_task(
            client.send(b"POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: %d\r\n\r\n" % size, b"y" * size)
        )
        status, _, data = await client.response()
        await sending
        assert (status, len(data)) == (200, size)


async def test_websocket_over_tls() -> None:
    async def script(client: Client) -> None:
        await client.head()
        await client.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        while data := await client.reader.read(100):
            await client.send(data.upper())

    async with serving(script, **https()) as (bench, _):
        client = await bench.client(certs.client())
        await client.send(
            b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"abc"
        )
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.exactly(5) == b"hiABC"


async def test_plain_http_on_the_https_port_is_told_so_and_disturbs_nobody() -> None:
    async with serving(answering(OK), **https()) as (bench, _):
        plain = await bench.client()
        await plain.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
        assert await plain.response() == (400, PLAIN_HTTP[:-50], b"400 Bad Request: plain HTTP sent to an HTTPS port\n")
        await plain.send(b"once more")
        assert await plain.rest() == b""
        assert (await (await bench.client(certs.client())).get())[0] == 200


# ---------------------------------------------------------------- client certificates


@pytest.mark.parametrize(
    ("mode", "own", "welcome"),
    [
        ("none", "", True),
        ("request", "", True),
        ("request", "good", True),
        ("request", "unknown", False),
        ("require", "", False),
        ("require", "good", True),
        ("require", "unknown", False),
    ],
)
async def test_client_certificates(mode: str, own: str, welcome: bool) -> None:
    leaf = certs.issued("client.test", by_stranger=own == "unknown") if own else None
    async with serving(answering(OK), **https(client_certificates=mode)) as (bench, _):
        try:
            client = await bench.client(certs.client(leaf))
            await client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
            answer = await client.rest() if not welcome else await client.head()
        except (ssl.SSLError, ConnectionError):
            answer = b""
        assert answer.startswith(b"HTTP/1.1 200 ") is welcome


@pytest.mark.parametrize(("common_name", "welcome"), [("good.test", True), ("bad.test", False)])
async def test_rules_on_subjects(common_name: str, welcome: bool) -> None:
    issuer = (("organizationName", "Tests"), ("organizationalUnitName", "Authority"))
    allowed = tuple(
        sorted((("organizationName", "Tests"), ("commonName", "good.test"), ("organizationalUnitName", "Unit")))
    )
    leaf = certs.authority().issue_cert(
        "client.test", common_name=common_name, organization_name="Tests", organization_unit_name="Unit"
    )
    async with serving(answering(OK), **https(client_certificates="require", client_rules=((issuer, (allowed,)),))) as (
        bench,
        _,
    ):
        client = await bench.client(certs.client(leaf))
        await client.send(b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ") is welcome
        assert ("invalid-subject" in bench.log.names()) is not welcome


CERT_LINE = b"\r\nX-Forwarded-Client-Cert: "


@pytest.mark.parametrize(
    ("mode", "kind", "outcome"),
    [
        ("always_forward", "plain", "sent"),
        ("always_forward", "tls", "sent"),
        ("always_forward", "mtls", "sent"),
        ("forward", "plain", ""),
        ("forward", "tls", ""),
        ("forward", "mtls", "sent"),
        ("sanitize_set", "plain", ""),
        ("sanitize_set", "tls", ""),
        ("sanitize_set", "mtls", "own"),
    ],
)
async def test_forwarded_client_cert(mode: str, kind: str, outcome: str) -> None:
    heads: list[bytes] = []
    leaf = certs.issued("client.test")
    own = b"".join(leaf.cert_chain_pems[0].bytes().splitlines()[1:-1])
    settings = {} if kind == "plain" else https(client_certificates="request")
    async with serving(answering(OK, heads=heads), forwarded_client_cert=mode, **settings) as (bench, _):
        context = None if kind == "plain" else certs.client(leaf if kind == "mtls" else None)
        client = await bench.client(context)
        assert (await client.get("app.test", "/", "X-Forwarded-Client-Cert: sent"))[0] == 200
    expected = {"sent": b"sent", "own": own, "": None}[outcome]
    found = heads[0].partition(CERT_LINE)[2].partition(b"\r\n")[0] or None
    assert found == expected


# ---------------------------------------------------------------- towards backends


async def tls_backend(bench: Bench, server: ssl.SSLContext | None, **spec: Any) -> Backend:
    backend = Backend(answering(OK), server)
    await backend.start()
    bench.route("secure.test", backend.port, tls=True, **spec)
    return backend


async def test_tls_to_a_backend() -> None:
    unfit: list[tuple[str, int, str]] = []
    async with serving(backend_tls=certs.back()) as (bench, _):
        bench.plane.unfit = lambda *about: unfit.append(about)
        backend = await tls_backend(
            bench, certs.server(certs.issued("instance-1")), server_cert_domain_san="instance-1"
        )
        client = await bench.client()
        for _ in range(2):
            assert (await client.get("secure.test"))[0] == 200
        assert len(backend.connections) == 1  # kept
        await backend.stop()
    assert not unfit


async def resumptions(bench: Bench, backend: Backend, requests: int = 3) -> list[bool]:
    """Of each new connection: whether it resumed a session."""
    client = await bench.client()
    known = len(backend.connections)
    for _ in range(requests):
        assert (await client.get("secure.test"))[0] == 200
    made = backend.connections[known:]
    return [connection.writer.get_extra_info("ssl_object").session_reused for connection in made]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_new_connection_resumes_the_session_of_the_last(
    version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = certs.server(certs.issued("b.test"))
    server.maximum_version = version
    async with serving(backend_tls=certs.back(), disable_keep_alives=True) as (bench, _):
        backend = await tls_backend(bench, server, server_cert_domain_san="b.test")
        assert await resumptions(bench, backend) == [False, True, True]
        # Other authorities might judge otherwise, and a certificate is looked at again after a while.
        bench.plane.configure(bench.plane.settings)
        assert await resumptions(bench, backend) == [False, True, True]
        monkeypatch.setattr(connections, "SESSION_LIFE", -1.0)
        assert await resumptions(bench, backend) == [False, False, False]
        await backend.stop()


async def test_a_session_that_is_not_known_there_costs_nothing() -> None:
    async with serving(backend_tls=certs.back(), disable_keep_alives=True) as (bench, _):
        backend = await tls_backend(bench, certs.server(certs.issued("b.test")), server_cert_domain_san="b.test")
        assert await resumptions(bench, backend) == [False, True, True]
        await backend.stop()
        backend.tls = certs.server(certs.issued("b.test"))
        await backend.start()
        assert await resumptions(bench, backend) == [False, True, True]
        await backend.stop()


async def test_a_backend_known_by_its_address() -> None:
    async with serving(backend_tls=certs.back()) as (bench, _):
        backend = await tls_backend(bench, certs.server(certs.issued("127.0.0.1")))
        assert (await (await bench.client()).get("secure.test"))[0] == 200
        await backend.stop()


async def test_our_certificate_for_a_backend_that_asks() -> None:
    ours = certs.certificate(certs.issued("router.test"))
    async with serving(backend_tls=certs.back(certificate=ours)) as (bench, _):
        backend = await tls_backend(
            bench, certs.server(certs.issued("b.test"), asks=True), server_cert_domain_san="b.test"
        )
        assert (await (await bench.client()).get("secure.test"))[0] == 200
        await backend.stop()


@pytest.mark.parametrize(
    ("server", "status", "reason", "counter"),
    [
        (
            "another name",
            503,
            b"tls: failed to verify certificate: x509: certificate is not valid",
            Counter.BACKEND_INVALID_ID,
        ),
        ("unknown authority", 526, b"x509: certificate signed by unknown authority", Counter.BACKEND_INVALID_CERT),
        ("no TLS", 525, b"tls: first record does not look like a TLS handshake", Counter.BACKEND_HANDSHAKE_FAILED),
        ("nobody", 502, b"connect: connection refused", Counter.BAD_GATEWAYS),
    ],
)
async def test_a_backend_that_is_not_what_it_should_be(
    server: str, status: int, reason: bytes, counter: Counter
) -> None:
    contexts = {
        "another name": certs.server(certs.issued("other.test")),
        "unknown authority": certs.server(certs.issued("instance-1", by_stranger=True)),
    }
    unfit: list[tuple[str, int, str]] = []

    async def says_hello(client: Client) -> None:
        await client.send(b"220 mail.test ESMTP\r\n")
        await client.reader.read()

    async with serving(backend_tls=certs.back()) as (bench, _):
        bench.plane.unfit = lambda *about: unfit.append(about)
        backend = await tls_backend(bench, contexts.get(server), server_cert_domain_san="instance-1")
        backend.script = says_hello
        if server == "nobody":
            await backend.stop()
        found, head, _ = await (await bench.client()).get("secure.test")
        assert found == status
        assert b"\r\nX-Cf-RouterError: endpoint_failure (" in head
        assert reason in head
        assert bench.plane.counters[counter] == 1
        assert [about[0] for about in unfit] == ["secure.test"]
        await backend.stop()


async def test_a_handshake_that_never_ends() -> None:
    async def silent(client: Client) -> None:
        await client.reader.read()
        await asyncio.Event().wait()

    async with serving(backend_tls=certs.back(), tls_handshake_timeout=0.1) as (bench, _):
        backend = await tls_backend(bench, None, server_cert_domain_san="x.test")
        backend.script = silent
        status, head, _ = await (await bench.client()).get("secure.test")
        assert status == 502
        assert b"endpoint_failure (net/http: TLS handshake timeout)" in head
        await backend.stop()
