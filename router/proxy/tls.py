"""TLS as a worker speaks it: contexts made of PEM text, which certificate answers which name, who is let in.

- OpenSSL takes keys from files only, so PEM goes through an anonymous file in memory, never to disk.
- The listener keeps one context for ever: session tickets are sealed with its keys, the same in all workers
  (`tickets`). The certificate is chosen anew in
  every handshake, by the name that the client asks for, from the contexts of the certificates in force. So
  certificates change without touching a connection.
- What can go wrong with a backend's TLS is a row in `attempts.tls_failure`.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from typing import Any, cast

from router.messages import BackendTls, Certificate, FrontTls, SubjectKey
from router.proxy.client_hello import nothing_in_common
from router.proxy.handshake import Direct, Resuming, Telling

_VERSIONS = {
    "TLSv1.0": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_CERTIFICATES = {"none": ssl.CERT_NONE, "request": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}
DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS up to 1.2: what has forward secrecy and authenticates what it encrypts."""

NO_APPLICATION_PROTOCOL = 120
"""The alert of RFC 7301 §3.2."""


class FrontDoor:
    """The certificates of the HTTPS listener. `context` is what the listener uses."""

    def __init__(self, settings: FrontTls, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        self._protocols = protocols
        self._alpn = [name.encode() for name in protocols]
        self._named: dict[str, ssl.SSLContext] = {}
        self._default: ssl.SSLContext
        self.rules = settings.client_rules
        self.context = self._make(settings, settings.certificates[0])
        self.context.sni_callback = self._choose
        self.context.sslobject_class = Telling
        self.renew(settings)

    def renew(self, settings: FrontTls) -> None:
        """Put other certificates in force, for handshakes to come. Raises ssl.SSLError, and then changes nothing."""
        contexts = [self._make(settings, certificate) for certificate in settings.certificates]
        named: dict[str, ssl.SSLContext] = {}
        for context, certificate in zip(contexts, settings.certificates, strict=True):
            for name in certificate.names:
                named[name] = context
        self._named, self._default, self.rules = named, contexts[0], settings.client_rules
        if settings.ticket_secret:
            from router.proxy.tickets import share_tickets  # needs ctypes

            # A client's certificate is not looked at again when a session is resumed, so other rules mean other keys.
            share_tickets(
                self.context,
                settings.ticket_secret,
                settings.client_certificates,
                settings.client_authorities,
                settings.system_authorities,
                settings.client_rules,
            )

    def _make(self, settings: FrontTls, certificate: Certificate) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[settings.min_version]
        context.maximum_version = _VERSIONS[settings.max_version]
        context.set_ciphers(settings.ciphers or DEFAULT_CIPHERS)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(list(self._protocols))
        load_pair(context, certificate)
        context.verify_mode = _CLIENT_CERTIFICATES[settings.client_certificates]
        if context.verify_mode is not ssl.CERT_NONE:
            if settings.system_authorities:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            if settings.client_authorities:
                context.load_verify_locations(cadata=settings.client_authorities)
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """The certificate for a name: exact, then the wildcard one level up, else the first (contract §9.1).

        A client with which we have no protocol in common is refused (RFC 7301 §3.2): `ssl` itself would let it in.
        """
        if nothing_in_common(cast(Telling, connection).take_hello(), self._alpn):
            return NO_APPLICATION_PROTOCOL
        chosen = self._default
        if name:
            name = name.lower()
            named = self._named
            chosen = named.get(name) or named.get("*." + name.partition(".")[2]) or chosen
        connection.context = chosen
        return None

    def unwelcome(self, connection: ssl.SSLObject) -> dict[str, Any] | None:
        """What the log says of a client whose certificate the rules refuse (contract §9.2); None: it may come in."""
        if not self.rules:
            return None
        chain = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]  # public from Python 3.13 on
        if not chain:
            return None
        subject, *issuers = [_subject(certificate.get_info()) for certificate in chain]
        for issuer, allowed in self.rules:
            if issuer in issuers and subject not in allowed:
                return {"issuer": dict(issuer), "subject": dict(subject), "allowed": [dict(one) for one in allowed]}
        return None


def client_certificate(connection: ssl.SSLObject) -> bytes:
    """The client's certificate as `X-Forwarded-Client-Cert` tells it: base64 of its DER; empty without one."""
    der = connection.getpeercert(binary_form=True)
    return b64encode(der) if der else b""


def backend_context(settings: BackendTls, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """How TLS is spoken to backends; `protocols` are offered by ALPN. Raises ssl.SSLError."""
    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = Direct
    context.minimum_version = _VERSIONS[settings.min_version]
    if settings.max_version:
        context.maximum_version = _VERSIONS[settings.max_version]
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.hostname_checks_common_name = False
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if settings.authorities:
        context.load_verify_locations(cadata=settings.authorities)
    if settings.ciphers:
        context.set_ciphers(settings.ciphers)
    if settings.certificate is not None:
        load_pair(context, settings.certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def load_pair(context: ssl.SSLContext, certificate: Certificate) -> None:
    descriptor = os.memfd_create("router-pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, f"{certificate.key}\n{certificate.chain}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _subject(info: dict[str, Any]) -> SubjectKey:
    return tuple(sorted(pair for names in info["subject"] for pair in names))
