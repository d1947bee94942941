"""A route that somebody wrote down: an item of `routes:` in the configuration, or the body of a PUT to the API.

Its keys are those of a registration on the bus (contract §2.3), so that one may be turned into the other by hand.
Unlike one, it never goes stale.
"""

from __future__ import annotations

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from router.config.duration import PATTERN, parse_duration
from router.config.kinds import HashBalance, HashKey, Host, Kind, Port, Strategy, Text
from router.config.section import Section

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_URI = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*(?:/[^\s?#*]*)?", re.ASCII | re.IGNORECASE)
_SERVICE = re.compile(r"https://[\x21-\x7e]+", re.IGNORECASE)


def _uri(text: str) -> str:
    if not _URI.fullmatch(text):
        raise ValueError
    return text


def _service(url: str) -> str:
    if url:
        parts = urlsplit(url)
        if not _SERVICE.fullmatch(url) or not parts.hostname or parts.port == 0:
            raise ValueError
    return url


def _seconds(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError
    return parse_duration(value) if isinstance(value, str) else value


Uri = Annotated[
    str,
    AfterValidator(_uri),
    Kind("a host or host/path, without scheme and port, such as `app.example.com/api` or `*.example.com`", text=True),
]
Uris = Annotated[list[Uri], Field(min_length=1), Kind("a list of hosts or host/paths, at least one")]
Tags = Annotated[dict[str, Annotated[str, Strict()]], Kind("names with texts, such as `component: shop`")]
Protocol = Annotated[str, StringConstraints(pattern="^http[12]$"), Kind("`http1` or `http2`", text=True)]
Weight = Annotated[int, Strict(), Field(ge=0, le=65535), Kind("a whole number, 0 to 65535")]
RouteHeader = Annotated[
    str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]*$"), Kind("a header name", text=True)
]
Limit = Annotated[int, Strict(), Field(ge=0, le=2**31), Kind("a whole number, 0 or more")]
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=10**9),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": PATTERN}, {"type": "number", "minimum": 0}]}),
    Kind("a duration such as 30s, or a number of seconds"),
]
"""As in a registration, a number is seconds."""
ServiceUrl = Annotated[
    str, AfterValidator(_service), Kind("an https URL such as `https://auth.example.com/check`, or nothing", text=True)
]
RouteName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,128}$"),
    Kind("up to 128 letters, digits, `.`, `_` and `-`", text=True),
]


class RouteOptions(Section):
    """How requests of a route are handled, where it differs from the router's own settings."""

    # contract 4.5
    loadbalancing: Strategy | None = None
    """How a backend is chosen, an installed strategy; without it the router's `balancing_algorithm`."""
    hash_header: RouteHeader = ""
    """With `hash`: the header whose value chooses the backend. Requests without it go by `balancing_algorithm`."""
    hash_key: HashKey = ""
    """What `consistent-hash` and `rendezvous` hash for this route; without it the router's `hash_key`."""
    hash_balance: HashBalance = 0.0
    """A backend with more than so many times the average of requests in flight is passed over by hashing strategies;
    0 = load is not looked at."""

    endpoint_timeout: Seconds = 0.0
    """Longest time of one attempt; 0 = the router's `endpoint_timeout`."""
    max_conns: Limit = 0
    """Requests in flight to one backend of this route, beyond which it takes no more; 0 = `backends.max_conns`."""

    @model_validator(mode="after")
    def _hash_has_its_header(self) -> Self:
        if self.loadbalancing == "hash" and not self.hash_header:
            raise ValueError("`hash_header`, which `hash` needs")
        return self


class StaticEndpoint(Section):
    """One backend of a static route."""

    # contract 2.3
    host: Host
    """IP address or host name."""
    port: Port = 0
    """Port for plain HTTP."""
    tls_port: Port = 0
    """Port for TLS; it wins over `port`."""
    protocol: Protocol = "http1"
    """`http1` or `http2`."""
    server_cert_domain_san: Text = ""
    """Name that the backend's certificate must carry; without it `host`."""
    availability_zone: Text = ""
    """Zone of the backend."""
    tags: Tags = {}
    """For metrics and logs."""
    app: Text = ""
    """Id of the app, for `X-CF-ApplicationID`."""
    private_instance_id: Text = ""
    """Id of the instance, for `X-CF-InstanceID`; without it `host:port`."""
    private_instance_index: Text = ""
    """Number of the instance, for `X-CF-InstanceIndex`."""
    weight: Weight | None = None
    """Share of the traffic next to the weights of the others; without it that of the tag `weight`, else 1."""

    @model_validator(mode="after")
    def _has_a_port(self) -> Self:
        if not self.port and not self.tls_port:
            raise ValueError("`port` or `tls_port`, 1 to 65535")
        return self


Endpoints = Annotated[
    list[StaticEndpoint],
    Field(min_length=1),
    Kind("a list of backends, at least one, each with `host` and `port` or `tls_port`"),
]


class StaticRoute(Section):
    """One route, or several with the same backends."""

    name: RouteName = ""
    """What the API and the logs call it; without it the first of `uris`."""
    uris: Uris
    """Hosts, or hosts with a path, `*.` for all below a domain."""
    endpoints: Endpoints
    """The backends."""
    route_service_url: ServiceUrl = ""
    """The route service that requests pass first; it needs `route_services_secret`. See docs/route-services.md."""
    options: RouteOptions = RouteOptions()


StaticRoutes = Annotated[list[StaticRoute], Kind("a list of routes, each with `uris` and `endpoints`")]
