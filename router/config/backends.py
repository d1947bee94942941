"""The settings of backends and route services: sections `backends` and `route_services`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from router.config.kinds import (
    CheckType,
    Count,
    Duration,
    Flag,
    Kind,
    Pem,
    Percent,
    Positive,
    SecretPem,
    Texts,
    UrlPath,
)
from router.config.section import Section


class Ejection(Section):
    """When a backend is put out of use for what requests meet with there, and for how long."""

    enabled: Flag = True
    """Judge backends by their failures, 5xx answers and overdue answers. Off: a failed connection still marks its
    backend for a quarter of `droplet_stale_threshold`, as with the Go router."""
    consecutive_failures: Positive = 5
    """Failed requests and 5xx answers in a row, or so many of late, at which a backend is compared with its fellows."""
    failure_margin: Percent = 20
    """It is put out when the share of its requests that fail, in percent, is this much more than twice the share at
    the others. So nobody is put out when all fail alike."""
    owed_requests: Positive = 3
    """Requests that wait for their answer, or were given up by their clients, at which a backend is compared with its
    fellows; it is put out when it answers nothing and owes three times as much as they do."""
    owed_after: Duration = 0.5
    """How long a request waits before it counts as overdue; three times as long as the pool usually takes, if that is
    more."""
    shortest: Duration = 0.5
    """How long a backend is out for the first time; then one request tries it. It doubles with every failed trial."""
    longest: Duration = 2.5
    """The longest time between two trials."""
    max_share: Percent = 50
    """Most backends of a route, in percent, that judgement may put out. If active checks put out more, all are used."""


class HealthCheck(Section):
    """Active checks of the backends of some routes."""

    routes: Texts = []
    """Routes as they are registered, such as `app.example.com/path`; `*.example.com` means all hosts below. Empty =
    all."""
    type: CheckType = "tcp"
    """`tcp`: a connection is accepted; `http`: a GET is answered with 200 to 399."""
    path: UrlPath = "/"
    """What is asked for with `http`."""
    interval: Duration = Field(default=10.0, gt=0)
    """Time between two checks of a backend; each comes up to a tenth sooner or later."""
    timeout: Duration = Field(default=2.0, gt=0)
    """Longest time of a check."""
    unhealthy_after: Positive = 3
    """Failed checks in a row after which a backend is used no more."""
    healthy_after: Positive = 2
    """Good checks in a row after which it is used again."""


HealthChecks = Annotated[list[HealthCheck], Kind("a list of checks")]


class Backends(Section):
    """Limits that hold for each backend."""

    # contract 4.4, 7.2
    max_attempts: Count = 3
    """How many backends are tried for one request before the router gives up; 0 acts as 1. The Go router's own
    default is 0, its official job's 3."""
    max_conns: Count = 0
    """Requests in flight to one backend, counted over all workers, beyond which it takes no more; 0 = no
    limit."""
    idle_timeout: Duration = 55.0
    """How long an idle connection to a backend is kept; one that was seen to close its own sooner gets less."""
    replay_bytes: Count = 65536
    """Bytes of a request body that are kept, so that another backend can be tried; a longer one is not repeated."""
    max_queue: Count = 32
    """Requests of one route and worker that may wait while all its backends are at `max_conns`; others get 503 at
    once."""
    queue_timeout: Duration = 0.5
    """How long such a request waits before it gets 503."""
    retry_budget: Percent = 20
    """Repeated requests, in percent of all, that a worker allows itself, besides five a second; 0 = no limit."""
    hedge_after: Duration = 0.0
    """Ask a second backend as well when a GET, HEAD, OPTIONS or TRACE without body has waited this long for its
    response; the first answer counts. It is part of the retry budget. 0 = never."""
    slow_start: Duration = 0.0
    """Time in which a new or returned backend comes up to its full share of requests; 0 = at once."""
    ejection: Ejection = Ejection()
    health_checks: HealthChecks = []
    """Active checks, none unless asked for. For each route the first entry that names it holds."""
    cert_chain: Pem = ""
    """Certificate that is shown to backends which ask for one: PEM text, or the path of a file."""
    private_key: SecretPem = SecretStr("")
    """Key of `backends.cert_chain`: PEM text, or the path of a file."""


class RouteServices(Section):
    """Requests to the route services of routes."""

    # contract 10
    max_attempts: Count = 3
    """How often a route service is tried for one request; 0 acts as 1. The Go router's own default is 0, its official
    job's 3."""
    strict_signature_validation: Flag = False
    """Refuse requests with a bad or expired signature for routes without a route service too."""
    websockets: Flag = False
    """Take WebSocket upgrades through route services. Off: they get 503, as from the Go router."""
    cert_chain: Pem = ""
    """Certificate that is shown to route services which ask for one: PEM text, or the path of a file."""
    private_key: SecretPem = SecretStr("")
    """Key of `route_services.cert_chain`: PEM text, or the path of a file."""
