"""What can be wrong with certificates, keys and authorities in a configuration (contract §9, §13.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from router.config.pem import PemError, read_certificates, read_pair, subject_key, subject_of

if TYPE_CHECKING:
    from router.config.model import RouterConfig
    from router.config.observing import StatusTls

REMEDY = "give PEM text, or the path of a file that the router may read"


def tls_problems(config: RouterConfig) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The keys (first the one to mend), what is wrong, the remedy."""
    if config.enable_ssl:
        if not config.tls_pem:
            yield (
                ("tls_pem", "enable_ssl"),
                "HTTPS needs at least one certificate",
                "add a `cert_chain` and `private_key`",
            )
        for number, entry in enumerate(config.tls_pem):
            try:
                read_pair(entry.cert_chain, entry.private_key.get_secret_value())
            except PemError as error:
                yield ("tls_pem",), f"entry {number + 1}: {error}", REMEDY
    try:
        own = config.client_ca_certs and read_certificates(config.client_ca_certs)
    except PemError as error:
        yield ("client_ca_certs",), str(error), REMEDY
    else:
        if config.enable_verify_client_certificate_metadata:
            known = {subject_of(authority) for authority in own or ()}
            for number, rule in enumerate(config.verify_client_certificate_metadata):
                if subject_key(rule.issuer_in_chain.model_dump()) not in known:
                    yield (
                        ("verify_client_certificate_metadata", "client_ca_certs"),
                        f"rule {number + 1}: `client_ca_certs` has no certificate with this `issuer_in_chain`",
                        "compare it with `openssl x509 -noout -subject`",
                    )
    for number, authority in enumerate(config.ca_certs):
        try:
            read_certificates(authority)
        except PemError as error:
            yield ("ca_certs",), f"entry {number + 1}: {error}", REMEDY
    yield from _status_problems(config.status.tls)
    for name, section in (("backends", config.backends), ("route_services", config.route_services)):
        chain, key = section.cert_chain, section.private_key.get_secret_value()
        if chain and key:
            try:
                read_pair(chain, key)
            except PemError as error:
                yield (f"{name}.cert_chain", f"{name}.private_key"), str(error), REMEDY


def _status_problems(tls: StatusTls) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The status port's own certificate (contract §11.1)."""
    key = tls.key.get_secret_value()
    if bool(tls.certificate) != bool(key):
        missing, given = ("key", "certificate") if tls.certificate else ("certificate", "key")
        yield (
            (f"status.tls.{missing}", f"status.tls.{given}"),
            "a certificate and its key go together",
            f"give `status.tls.{missing}` too",
        )
    elif tls.certificate:
        try:
            read_pair(tls.certificate, key)
        except PemError as error:
            yield ("status.tls.certificate", "status.tls.key"), str(error), REMEDY
    elif tls.port != type(tls)().port:
        yield (
            ("status.tls.port", "status.tls.certificate"),
            "nobody listens there without a certificate",
            "give `status.tls.certificate` and `status.tls.key`",
        )
