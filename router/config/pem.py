"""Certificates and keys in the configuration: PEM text, or the path of a file that holds it (contract §9, §13.1).

Read and checked by control only; workers get plain PEM. Certificates are taken apart by `cryptography`, which is
imported when the first one comes along.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509

_BEGIN = "-----BEGIN "


class PemError(Exception):
    """What is wrong with a certificate or key; the message names the file, if there is one, and never shows a key."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate chain and its key, both PEM. `names` are what it is good for, lower case, `*.` for wildcards."""

    chain: str
    key: str
    names: tuple[str, ...]
    not_after: datetime

    def days_left(self, now: datetime | None = None) -> float:
        """Days until it expires; negative when it has."""
        return (self.not_after - (now or datetime.now(UTC))).total_seconds() / 86400


def is_text(value: str) -> bool:
    """The value is PEM itself and not a path."""
    return _BEGIN in value


def read_pem(value: str) -> str:
    """The PEM text that a setting means. Raises PemError."""
    if is_text(value):
        return value
    try:
        text = Path(value).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise PemError(f"can't read {value}: {why or error}") from None
    if not is_text(text):
        raise PemError(f"{value} holds no PEM: there is no line that begins with {_BEGIN.strip()}")
    return text


def read_certificates(value: str) -> list[x509.Certificate]:
    """All certificates of a PEM text or file. Raises PemError."""
    from cryptography import x509

    text = read_pem(value)
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise PemError(f"{_named(value)} holds no certificate that can be read") from None


def read_pair(chain: str, key: str) -> Pair:
    """A certificate chain and the key that belongs to it. Raises PemError."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    leaf = read_certificates(chain)[0]
    try:
        private = load_pem_private_key(read_pem(key).encode(), None)
    except (ValueError, TypeError):
        raise PemError(f"{_named(key)} holds no private key that can be read without a password") from None
    der = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*der) != leaf.public_key().public_bytes(*der):
        raise PemError("the key does not belong to the certificate")
    return Pair(read_pem(chain), read_pem(key), _names(leaf), leaf.not_valid_after_utc)


SUBJECT_FIELDS = {
    "common_name": "commonName",
    "serial_number": "serialNumber",
    "country": "countryName",
    "organization": "organizationName",
    "organizational_unit": "organizationalUnitName",
    "locality": "localityName",
    "province": "stateOrProvinceName",
    "street_address": "streetAddress",
    "postal_code": "postalCode",
}
"""Fields of a subject in the configuration, and their X.520 names (contract §9.2)."""
SubjectKey = tuple[tuple[str, str], ...]


def subject_key(fields: dict[str, str | list[str]]) -> SubjectKey:
    """A subject of the configuration, comparable: pairs of X.520 name and value, sorted."""
    found = []
    for field, name in SUBJECT_FIELDS.items():
        values = fields.get(field) or []
        found += [(name, value) for value in ([values] if isinstance(values, str) else values)]
    return tuple(sorted(found))


def subject_of(certificate: x509.Certificate) -> SubjectKey:
    """The subject of a certificate, comparable likewise."""
    names = {
        "2.5.4.3": "commonName",
        "2.5.4.5": "serialNumber",
        "2.5.4.6": "countryName",
        "2.5.4.7": "localityName",
        "2.5.4.8": "stateOrProvinceName",
        "2.5.4.9": "streetAddress",
        "2.5.4.10": "organizationName",
        "2.5.4.11": "organizationalUnitName",
        "2.5.4.17": "postalCode",
    }
    return tuple(
        sorted(
            (names[attribute.oid.dotted_string], str(attribute.value))
            for attribute in certificate.subject
            if attribute.oid.dotted_string in names
        )
    )


def _named(value: str) -> str:
    return "the text" if is_text(value) else value


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """DNS names of the certificate; its common name only where there is no subject alternative name (contract §9.1)."""
    from cryptography import x509

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common)
    return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
