"""The registrar's file: keys of contract §15.1, read and checked like the router's own configuration.

What is different from the Go program: `host` may be left out (`registrar.address`), a health check may be an HTTP
probe, NATS may be lost for as long as it likes. YAML or JSON.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from router.config.kinds import Address, Count, Duration, Flag, Host, Kind, Path, RemotePort, Secret, Text, Texts
from router.config.nkey import NkeyError, check_credentials, check_seed
from router.config.other_file import load_file
from router.config.problems import Notice
from router.config.section import Section
from router.config.static import Protocol, RouteOptions, ServiceUrl, Tags, Uris

SHORTEST = 0.01
"""Seconds: no interval is shorter."""
UNSUPPORTED = {
    "routing_api": "routes go to the message bus only; there are no TCP routes",
}


def _long_enough(seconds: float) -> float:
    if seconds < SHORTEST:
        raise ValueError("a duration of 10ms or more; a number without a unit is nanoseconds, write 20s for 20 seconds")
    return seconds


def _server(text: str) -> str:
    host, _, port = text.removeprefix("nats://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or "@" in text or "/" in host:
        raise ValueError
    return f"{host}:{port}"


def _http_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError
    return text


Interval = Annotated[Duration, AfterValidator(_long_enough)]
Server = Annotated[str, AfterValidator(_server), Kind("`HOST:PORT` of a NATS server", text=True)]
HttpUrl = Annotated[str, AfterValidator(_http_url), Kind("a URL with http:// or https://", text=True)]


class MessageBusServer(Section):
    """One NATS server."""

    host: Server
    """`HOST:PORT`."""
    user: Text = ""
    """User name; empty = none."""
    password: Secret = SecretStr("")
    """Password."""


class NatsTls(Section):
    """TLS to NATS."""

    enabled: Flag = False
    """Speak TLS."""
    ca_path: Path = ""
    """File with the authorities of the servers' certificates; empty = the system's."""
    cert_path: Path = ""
    """File with our certificate, for servers that ask for one."""
    key_path: Path = ""
    """File with its key."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.cert_path) != bool(self.key_path):
            raise ValueError("`cert_path` and `key_path` together, or neither")
        return self


class HealthCheck(Section):
    """How to find out whether a route may be announced. Without one it always may."""

    name: Text = ""
    """For the log."""
    script_path: Path = ""
    """Run by `/bin/sh -c`: exit status 0 means healthy."""
    url: HttpUrl | None = None
    """Asked with GET: a status from 200 to 399 means healthy."""
    timeout: Interval | None = None
    """Longest time of one check; it must be shorter than the interval. Without it: half the interval."""

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        if bool(self.script_path) == bool(self.url):
            raise ValueError("either `script_path` or `url`")
        return self


class Route(Section):
    """URIs, and the backend that serves them."""

    name: Annotated[Text, Field(min_length=1)]
    """For the log."""
    type: Text = "http"
    """`http`, or nothing."""
    host: Host | None = None
    """Address that routers reach the backend at; without it the `host` of all, else this machine's own."""
    port: RemotePort | None = None
    """Port for plain HTTP."""
    tls_port: RemotePort | None = None
    """Port for TLS; routers prefer it."""
    protocol: Protocol | None = None
    """`http1` or `http2`."""
    uris: Uris
    """Hosts, or hosts with a path."""
    tags: Tags | None = None
    """For metrics and logs of routers."""
    route_service_url: ServiceUrl = ""
    """https URL that requests are sent through."""
    server_cert_domain_san: Text = ""
    """Name that the backend's certificate carries."""
    registration_interval: Interval
    """Time between two registrations; routers forget after 120 s, 20 s is usual."""
    health_check: HealthCheck | None = None
    options: RouteOptions = RouteOptions()

    @field_validator("type")
    @classmethod
    def _is_http(cls, text: str) -> str:
        if text in ("tcp", "sni"):
            raise ValueError("`http`; this program registers no TCP routes")
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.port is None and self.tls_port is None:
            raise ValueError("`port` or `tls_port`")
        check = self.health_check
        if check is not None and check.timeout is not None and check.timeout >= self.registration_interval:
            raise ValueError("a `health_check.timeout` that is shorter than `registration_interval`")
        return self


Servers = Annotated[
    list[MessageBusServer], Field(min_length=1), Kind("a list of NATS servers, each with `host: HOST:PORT`")
]
RouteList = Annotated[list[Route], Kind("a list of routes, each with `name`, `port`, `uris`, `registration_interval`")]


class RegistrarConfig(Section):
    """The whole file."""

    message_bus_servers: Servers
    """Servers of one NATS cluster."""
    nats_mtls_config: NatsTls = NatsTls()
    nats_credentials: Path = ""
    """File with a JWT and the seed of its nkey (`.creds`), for servers that want one."""
    nats_nkey_seed: Secret = SecretStr("")
    """Seed of an nkey, for servers that want one."""
    host: Host | None = None
    """Address of routes that name none; without it this machine's own: the one it reaches NATS from."""
    local_route: Address = None
    """IP address: announce the address of the interface that leads there, not to NATS."""
    allow_loopback: Flag = False
    """Announce a loopback address to a NATS server elsewhere, for what can't be reached from there anyway."""
    availability_zone: Text = ""
    """Zone of all routes."""
    unregistration_message_limit: Annotated[Count, Field(ge=1)] = 5
    """Times that an unhealthy route is unregistered in a row."""
    routes: RouteList = []
    """What to register."""
    dynamic_config_globs: Texts = []
    """Patterns of further files with `routes`, looked at every 10 s: what they add is registered, what they drop is
    unregistered."""

    @field_validator("nats_credentials")
    @classmethod
    def _is_a_credentials_file(cls, path: str) -> str:
        try:
            if path:
                check_credentials(path)
        except NkeyError as error:
            raise ValueError(f"a `.creds` file: {error}") from None
        return path

    @field_validator("nats_nkey_seed")
    @classmethod
    def _is_a_seed(cls, seed: SecretStr) -> SecretStr:
        try:
            if seed.get_secret_value():
                check_seed(seed.get_secret_value())
        except NkeyError as error:
            raise ValueError(f"a seed: {error}") from None
        return seed

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if not self.routes and not self.dynamic_config_globs:
            raise ValueError("`routes` or `dynamic_config_globs`")
        return self


def load(path: str) -> tuple[RegistrarConfig, list[Notice]]:
    """The file at `path`, and warnings. Raises ConfigError."""
    return load_file(path, RegistrarConfig, UNSUPPORTED)
