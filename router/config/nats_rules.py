"""What can be wrong with the settings of the bus: TLS (contract §2.8), nkeys, `.creds` files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from router.config.nkey import NkeyError, check_credentials, check_seed
from router.config.pem import PemError, read_certificates, read_pair
from router.config.tls_rules import REMEDY

if TYPE_CHECKING:
    from router.config.bus import Nats

Problems = Iterator[tuple[tuple[str, ...], str, str]]


def nats_problems(nats: Nats) -> Problems:
    """The keys (first the one to mend), what is wrong, the remedy."""
    if seed := nats.nkey_seed.get_secret_value():
        try:
            check_seed(seed)
        except NkeyError as error:
            yield ("nats.nkey_seed",), str(error), "copy the whole seed"
    if nats.credentials:
        try:
            check_credentials(nats.credentials)
        except NkeyError as error:
            yield ("nats.credentials",), str(error), "name a `.creds` file that the router may read"
    if nats.tls_enabled:
        yield from _tls_problems(nats)


def _tls_problems(nats: Nats) -> Problems:
    if nats.ca_certs:
        try:
            read_certificates(nats.ca_certs)
        except PemError as error:
            yield ("nats.ca_certs",), str(error), REMEDY
    chain, key = nats.cert_chain, nats.private_key.get_secret_value()
    if bool(chain) != bool(key):
        missing, given = ("private_key", "cert_chain") if chain else ("cert_chain", "private_key")
        yield (
            (f"nats.{missing}", f"nats.{given}"),
            "a certificate and its key go together",
            f"give `nats.{missing}` too",
        )
    elif chain:
        try:
            pair = read_pair(chain, key)
        except PemError as error:
            yield ("nats.cert_chain", "nats.private_key"), str(error), REMEDY
        else:
            if pair.days_left() < 0:
                yield ("nats.cert_chain",), "the certificate has expired", "renew it"
