"""The settings of the bus and of what routers on it share: sections `nats`, `warm_start` and `fleet`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from router.config.kinds import (
    Duration,
    Flag,
    Host,
    Kind,
    Path,
    Pem,
    RemotePort,
    Secret,
    SecretPem,
    Text,
)
from router.config.section import Section


class NatsHost(Section):
    """One NATS server."""

    hostname: Host
    """Host name or IP address."""
    port: RemotePort = 4222
    """TCP port."""


NatsHosts = Annotated[list[NatsHost], Kind("a list of servers, each with `hostname` and `port`")]


class Nats(Section):
    """The message bus the routes come from. `nats: null` runs the router without a bus."""

    # contract 2.8
    hosts: NatsHosts = Field(default=[NatsHost(hostname="localhost")], min_length=1)
    """Servers of the cluster, tried in random order."""
    user: Text = ""
    """User name; empty = none."""
    password: Secret = Field(default=SecretStr(""), alias="pass")
    """Password. Better kept in `ROUTER__NATS__PASS_FILE` than in the file."""
    token: Secret = SecretStr("")
    """Token, for servers that want one instead of a user and password."""
    nkey_seed: Secret = SecretStr("")
    """Seed of an nkey (`SU…`), for servers that want one. Needs the extra `nkeys`."""
    credentials: Path = ""
    """File with a JWT and the seed of its nkey (`.creds`). Needs the extra `nkeys`."""
    tls_enabled: Flag = False
    """Speak TLS 1.2 or 1.3 to the servers, and to no server that does not offer it."""
    ca_certs: Pem = ""
    """Authorities that certificates of the servers are checked against: PEM text, or the path of a file. Empty =
    those of the system."""
    cert_chain: Pem = ""
    """The router's own certificate, for servers that ask for one (mutual TLS): PEM text, or the path of a file."""
    private_key: SecretPem = SecretStr("")
    """Key of `nats.cert_chain`: PEM text, or the path of a file."""


class WarmStart(Section):
    """A router that starts takes the routing table from a running one or from its own last snapshot."""

    enabled: Flag = True
    """Ask a running router for its table at start, answer such questions, and keep a snapshot in `run_dir`. A table
    found so is served at once, without `start_response_delay_interval`."""
    snapshot_interval: Duration = 30.0
    """Time between two snapshots; one is also written at the end. 0 = none."""


class Fleet(Section):
    """Routers on one bus compare their tables and repair what a lost message left different."""

    enabled: Flag = True
    """Announce this router's table on `router.fleet.announce` and compare it with those of others."""
    interval: Duration = 2.0
    """Time between two announcements, at least 0.1s."""
