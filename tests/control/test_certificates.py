"""HTTPS of a whole router in this process: certificates from files, renewed while it runs, and their faults."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import trustme

from router.config.model import RouterConfig
from router.config.tls_rules import tls_problems
from router.control.app import Control
from router.control.certificates import Certificates
from router.control.errors import StartError
from router.messages import EndpointSpec
from tests.support import certs
from tests.support.wire import OK, Backend, Client, answering
from tests.support.workers import EventLog


def event_log() -> Any:
    log: Any = EventLog()
    log.component = lambda name: log
    return log


def write(folder: Path, leaf: trustme.LeafCert) -> dict[str, str]:
    (folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    (folder / "chain.pem").write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    return {"cert_chain": str(folder / "chain.pem"), "private_key": str(folder / "key.pem")}


def config(folder: Path, **settings: Any) -> RouterConfig:
    return RouterConfig.model_validate(
        {
            "port": 0,
            "ssl_port": 0,
            "inet": "127.0.0.1",
            "workers": 0,
            "nats": None,
            "run_dir": str(folder / "run"),
            "status": {"port": 0, "routes": {"port": 0}},
            "enable_ssl": True,
            **settings,
        }
    )


async def serial(port: int, path: str = "/") -> str:
    """Serial number of the certificate shown, after a request that was answered."""
    client = await Client.to(port, certs.client())
    assert (await client.get("app.test", path))[0] == 200
    client.close()
    return str(client.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"])


async def test_a_certificate_renewed_in_its_file(tmp_path: Path) -> None:
    log = event_log()
    backend = Backend(answering(OK))
    await backend.start()
    settings = config(tmp_path, tls_pem=[write(tmp_path, certs.authority().issue_cert("app.test"))], disable_http=True)
    async with Control(settings, log) as control:
        assert (control.port, control.ssl_port > 0) == (0, True)
        control.registry.register(EndpointSpec("127.0.0.1", backend.port), ["app.test"])
        before = await serial(control.ssl_port)

        (tmp_path / "key.pem").write_text("half a key")
        control.certificates.check()
        assert log.of("certificates-not-renewed")
        assert await serial(control.ssl_port) == before

        write(tmp_path, certs.authority().issue_cert("app.test"))
        control.certificates.check()
        await log.wait_for("certificates-renewed")
        await asyncio.sleep(0)
        assert await serial(control.ssl_port) != before
    await backend.stop()


@pytest.mark.parametrize("plain", [True, False])
async def test_the_status_port_over_tls_alone_or_beside_plain_http(tmp_path: Path, plain: bool) -> None:
    log = event_log()
    pair = write(tmp_path, certs.authority().issue_cert("app.test"))
    tls = {"port": 0, "certificate": pair["cert_chain"], "key": pair["private_key"]}
    status = {"port": 0, "routes": {"port": 0}, "tls": tls, "enable_nontls_health_checks": plain}
    async with Control(config(tmp_path, status=status, enable_ssl=False), log) as control:
        await control.healthy()
        assert (control.status_port > 0) is plain
        before = await serial(control.status_tls_port, "/health")
        write(tmp_path, certs.authority().issue_cert("app.test"))
        control.certificates.check()
        await log.wait_for("certificates-renewed")
        assert await serial(control.status_tls_port, "/health") != before
        client = await Client.to(control.status_tls_port, certs.client())
        assert (await client.get("x", "/routes"))[0] == 401


async def test_http_and_https_side_by_side_and_tls_to_the_backend(tmp_path: Path) -> None:
    backend = Backend(answering(OK), certs.server(certs.issued("instance-1")))
    await backend.start()
    settings = config(
        tmp_path, tls_pem=[write(tmp_path, certs.issued("app.test"))], ca_certs=[certs.pem(certs.authority())]
    )
    async with Control(settings) as control:
        spec = EndpointSpec("127.0.0.1", backend.port, tls=True, server_cert_domain_san="instance-1")
        control.registry.register(spec, ["app.test"])
        await serial(control.ssl_port)
        plain = await Client.to(control.port)
        assert (await plain.get())[0] == 200

        # Another app has taken the port: the endpoint leaves its pool at the first request that finds out.
        backend.tls = None
        await backend.stop()
        backend = Backend(answering(OK), certs.server(certs.issued("instance-2")))
        backend.port = spec.port
        await backend.start()
        assert (await plain.get())[0] == 503
        async with asyncio.timeout(10):
            while (await plain.get())[0] != 404:
                await asyncio.sleep(0)
        assert [(key, list(specs)) for key, specs in control.registry.routes()] == [("app.test", [])]
        plain.close()
    await backend.stop()


def test_an_expiring_certificate_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = event_log()
    made = Certificates(config(tmp_path, tls_pem=[write(tmp_path, certs.issued("app.test"))]), log, lambda *_: None)
    made.warn_of_expiry()
    assert not log.events
    monkeypatch.setattr("router.config.pem.Pair.days_left", lambda self: 3.25)
    made.warn_of_expiry()
    monkeypatch.setattr("router.config.pem.Pair.days_left", lambda self: -1.0)
    made.warn_of_expiry()
    assert [(name, fields["days_left"]) for name, fields in log.events] == [
        ("certificate-expires-soon", 3.2),
        ("certificate-expired", -1.0),
    ]


def test_what_cannot_be_used_is_told_at_start(tmp_path: Path) -> None:
    settings = config(tmp_path, tls_pem=[write(tmp_path, certs.issued("app.test"))])
    (tmp_path / "chain.pem").write_text("nothing")
    with pytest.raises(StartError, match="holds no PEM"):
        Certificates(settings, event_log(), lambda *_: None)


def told(folder: Path, **settings: Any) -> list[str]:
    """What `router check` says of certificates."""
    return [f"{keys[0]}: {wrong}" for keys, wrong, _ in tls_problems(config(folder, **settings))]


def test_faults_of_certificates(tmp_path: Path) -> None:
    pair = write(tmp_path, certs.issued("app.test"))
    other = tmp_path / "other.pem"
    other.write_bytes(certs.issued("two.test").private_key_pem.bytes())
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    chain, key = pair["cert_chain"], pair["private_key"]
    assert told(tmp_path, tls_pem=[pair]) == []
    assert told(tmp_path, tls_pem=[]) == ["tls_pem: HTTPS needs at least one certificate"]
    assert told(tmp_path, tls_pem=[pair, {"cert_chain": chain, "private_key": str(other)}]) == [
        "tls_pem: entry 2: the key does not belong to the certificate"
    ]
    assert told(tmp_path, tls_pem=[{"cert_chain": "/nowhere", "private_key": key}]) == [
        "tls_pem: entry 1: can't read /nowhere: No such file or directory"
    ]
    assert told(tmp_path, tls_pem=[{"cert_chain": chain, "private_key": str(empty)}]) == [
        f"tls_pem: entry 1: {empty} holds no PEM: there is no line that begins with -----BEGIN"
    ]
    assert told(tmp_path, tls_pem=[{"cert_chain": chain, "private_key": chain}]) == [
        f"tls_pem: entry 1: {chain} holds no private key that can be read without a password"
    ]
    assert told(tmp_path, tls_pem=[pair], ca_certs=["/nowhere"]) == [
        "ca_certs: entry 1: can't read /nowhere: No such file or directory"
    ]
    rule = {"issuer_in_chain": {"common_name": "Nobody"}, "valid_cert_subjects": []}
    assert told(
        tmp_path,
        tls_pem=[pair],
        client_ca_certs=certs.pem(certs.authority()),
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[rule],
    ) == [
        "verify_client_certificate_metadata: rule 1: `client_ca_certs` has no certificate with this `issuer_in_chain`"
    ]
    known = {"organization": ["Tests"], "organizational_unit": ["Authority"]}
    assert not told(
        tmp_path,
        tls_pem=[pair],
        client_ca_certs=certs.pem(certs.authority()),
        enable_verify_client_certificate_metadata=True,
        verify_client_certificate_metadata=[{"issuer_in_chain": known, "valid_cert_subjects": []}],
    )
