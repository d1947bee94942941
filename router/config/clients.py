"""What clients meet: certificates, whose certificates are welcome, headers of responses."""

from __future__ import annotations

from typing import Annotated

from router.config.kinds import (
    Kind,
    Pem,
    ResponseHeaderName,
    SecretPem,
    Text,
    Texts,
)
from router.config.section import Section


class Certificate(Section):
    """One certificate of the HTTPS listener."""

    # contract 9.1
    cert_chain: Pem
    """The certificate and those that lead to its issuer, its own first: PEM text, or the path of a file."""
    private_key: SecretPem
    """Its key, without a password: PEM text, or the path of a file."""


class Subject(Section):
    """The subject of a certificate; all fields that it has must be given, and no others."""

    # contract 9.2
    common_name: Text = ""
    serial_number: Text = ""
    country: Texts = []
    organization: Texts = []
    organizational_unit: Texts = []
    locality: Texts = []
    province: Texts = []
    street_address: Texts = []
    postal_code: Texts = []


class ClientCertRule(Section):
    """Which client certificates of one issuer are welcome."""

    # contract 9.2
    issuer_in_chain: Subject
    valid_cert_subjects: list[Subject]


Certificates = Annotated[list[Certificate], Kind("a list of pairs, each with `cert_chain` and `private_key`")]
ClientCertRules = Annotated[
    list[ClientCertRule], Kind("a list of rules, each with `issuer_in_chain` and `valid_cert_subjects`")
]


class AddedHeader(Section):
    """A header for responses that have none of this name."""

    name: ResponseHeaderName
    """Name of the header."""
    value: Text
    """Its value."""


class RemovedHeader(Section):
    """A header that responses lose."""

    name: ResponseHeaderName
    """Name of the header."""
    value: Text = ""
    """Without effect: every header of the name is removed. The Go router reads it and does not use it either."""


AddedHeaders = Annotated[list[AddedHeader], Kind("a list of headers, each with `name` and `value`")]
RemovedHeaders = Annotated[list[RemovedHeader], Kind("a list of headers, each with `name`")]


class RewriteResponses(Section):
    """What happens to the headers of responses: first some are removed, then some are added."""

    # contract 5.5
    add_headers_if_not_present: AddedHeaders = []
    """Headers for responses that have none of the name, errors of the router's own included. Several entries of one
    name are all added."""
    remove_headers: RemovedHeaders = []
    """Headers that no response keeps."""


class HttpRewrite(Section):
    """Rules for headers."""

    responses: RewriteResponses = RewriteResponses()
