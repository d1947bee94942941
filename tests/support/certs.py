"""Certificates for tests: one authority a process, made when first asked for."""

from __future__ import annotations

import ssl
from functools import cache

import trustme

from router.messages import BackendTls, Certificate, FrontTls


@cache
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Tests", organization_unit_name="Authority")


@cache
def stranger() -> trustme.CA:
    """An authority that nobody trusts."""
    return trustme.CA(organization_name="Strangers")


@cache
def issued(*names: str, by_stranger: bool = False, common_name: str | None = None) -> trustme.LeafCert:
    issuer = stranger() if by_stranger else authority()
    return issuer.issue_cert(*names, common_name=common_name, organization_name="Tests")


def pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


def certificate(leaf: trustme.LeafCert, *names: str) -> Certificate:
    chain = "".join(part.bytes().decode() for part in leaf.cert_chain_pems)
    return Certificate(chain, leaf.private_key_pem.bytes().decode(), names)


def front(*names: str, **options: object) -> FrontTls:
    """The settings of an HTTPS listener with one certificate for each name."""
    pairs = tuple(certificate(issued(name), name) for name in names or ("app.test",))
    return FrontTls(pairs, **{"client_authorities": pem(authority()), "system_authorities": False, **options})  # type: ignore[arg-type]


def back(**options: object) -> BackendTls:
    return BackendTls(**{"authorities": pem(authority()), **options})  # type: ignore[arg-type]


def client(leaf: trustme.LeafCert | None = None, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that trusts our authority, with a certificate of its own if given."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if leaf is not None:
        leaf.configure_cert(context)
    if newest is not None:
        context.maximum_version = newest
    return context


def server(leaf: trustme.LeafCert, asks: bool = False) -> ssl.SSLContext:
    """A backend with this certificate; `asks`: it wants one of the client too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        authority().configure_trust(context)
    return context
