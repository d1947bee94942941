"""What would become of a request: the same exchange that serves requests, stopped where it would call a backend.

Nothing is sent, counted or logged. The pool and its strategy are copies, and what a pick does to endpoints is undone:
wheels are turned and marks forgotten, but not in earnest. The next real request may be picked another endpoint.
"""

from __future__ import annotations

from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any, cast

from router.http import errors
from router.http.message import BadMessage
from router.http.request import Recent, RequestHead
from router.messages import Explain
from router.proxy.exchange import Exchange
from router.proxy.failures import NOTHING_TO_CHOOSE, Failure

if TYPE_CHECKING:
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.plane import Plane
    from router.table.endpoint import Endpoint
    from router.table.pool import Pool

MOST_ENDPOINTS = 1000
"""Endpoints that a report lists."""


def explain(plane: Plane, question: Explain) -> dict[str, Any]:
    """The report for one question, ready for JSON."""
    try:
        request = plane.parse_request(question.head, Recent())
    except BadMessage as bad:
        return {"answer": {"status": bad.status, "error": bad.reason}}
    exchange = _Explanation(plane, _Client(question.client, question.secure), request)
    with plane.unaccounted():
        exchange.start()
    return exchange.report()


class _Client:
    """In the place of a client's connection."""

    __slots__ = ("client_certificate", "peer_ip", "secure")

    def __init__(self, address: str, secure: bool) -> None:
        self.peer_ip = address.encode()
        self.secure = secure
        self.client_certificate = b""


class _Explanation(Exchange):
    """An exchange that goes no further than to the endpoint it would take."""

    __slots__ = ("_answered", "_real")

    def __init__(self, plane: Plane, client: _Client, request: RequestHead) -> None:
        super().__init__(plane, cast("FrontendH1", client), request)
        self._answered: errors.Answer | None = None
        self._real: Pool | None = None

    def _next_attempt(self, last: Failure | None) -> None:
        self._real = pool = self.pool
        assert pool is not None
        self.attempt = 1
        self.pool = _copied(pool, self.plane)
        marks = [(endpoint, endpoint.failed_at, endpoint.warm_since) for endpoint in pool.endpoints]
        self.endpoint = self.plane.choose(self.pool, self)
        for endpoint, failed_at, warm_since in marks:
            endpoint.failed_at, endpoint.warm_since = failed_at, warm_since
        self._finished = True
        if self.endpoint is None:
            if all(endpoint.overloaded for endpoint in pool.endpoints):
                self.refuse(errors.CONNECTION_LIMIT)
            else:
                self._answer(errors.endpoint_failure(NOTHING_TO_CHOOSE.status, NOTHING_TO_CHOOSE.reason))
        elif self.trial:
            self.endpoint.record.trying = False  # no request follows that would end the trial

    def _answer(self, answer: errors.Answer) -> None:
        self._answered = answer
        self._finished = True

    def refuse(self, row: errors.ErrorRow, reason: str = "") -> None:
        self._answer(errors.error_answer(row, self.request.raw_host, reason=reason))

    def _unknown_route(self) -> None:
        self._answer(errors.error_answer(errors.UNKNOWN_ROUTE, self.request.raw_host))

    # -------------------------------------------------------- in words

    def report(self) -> dict[str, Any]:
        """All there is to say."""
        request, pool = self.request, self._real if self.service is None else None
        report: dict[str, Any] = {
            "request": {
                "method": _text(request.method),
                "host": _text(request.host),
                "target": _text(request.target),
                "client": _text(self.client),
            }
        }
        if pool is None:
            pool = self.plane.table.lookup(request.host, request.target) if request.host else None
        if pool is not None:
            report["route"] = {
                "key": pool.key,
                "why": _why(pool.key, _text(request.host)),
                "context_path": pool.context_path,
                "strategy": pool.algorithm,
                "options": _options(pool),
            }
            report["endpoints"] = [self._about(endpoint) for endpoint in pool.endpoints[:MOST_ENDPOINTS]]
            report["number_of_endpoints"] = len(pool.endpoints)
            if pool.route_services:
                report["route_service"] = pool.route_service_url
        if self._answered is not None:
            answer = self._answered
            report["answer"] = {"status": answer.status, "error": answer.router_error}
        elif self.endpoint is not None:
            report["picked"] = self.endpoint.address
            if self.service is not None:
                report["picked_by"] = "the route service of the route"
            else:
                report["picked_by"] = self._picked_by()
            report["headers"], report["headers_removed"] = self._headers(self.endpoint)
        return report

    def _picked_by(self) -> str:
        wish = self.sticky
        if wish is not None and self.pool is not None and self.pool.instance(wish.id) is self.endpoint:
            return "its session cookie"
        return "a trial: it is out of use, and whether it is well is to be seen" if self.trial else "the strategy"

    def _about(self, endpoint: Endpoint) -> dict[str, Any]:
        spec = endpoint.spec
        why = []
        if endpoint.failed:
            state, reason = endpoint.state
            left = endpoint.failed_for
            why.append(f"{state}: {reason}" + (f"; it is passed over for {left:.0f} s more" if left >= 1 else ""))
        if endpoint.overloaded:
            limit = endpoint.max_conns or endpoint.loads.max_conns
            why.append(f"{endpoint.in_flight} requests in flight, at most {limit} are allowed")
        return {
            "address": endpoint.address,
            "tls": spec.tls,
            "app": spec.app,
            "instance": spec.instance_id,
            "zone": spec.availability_zone,
            "weight": endpoint.weight,
            "source": spec.source or "bus",
            "in_flight": endpoint.in_flight,
            "available": not why,
            "why": why,
            "picked": self.endpoint is not None and self.endpoint.id == endpoint.id,
        }

    def _headers(self, endpoint: Endpoint) -> tuple[list[dict[str, str]], list[str]]:
        """The header lines that the router writes itself, and names of the client's that don't reach the backend."""
        came = {name.lower(): value for name, value in self.request.headers}
        came.update((name, value) for name, value in self.request.noted.items())
        lines = []
        written = {b"host"}
        for line in (self.lines + endpoint.head_lines).split(b"\r\n"):
            name, colon, value = line.partition(b": ")
            if colon:
                key = name.lower()
                written.add(key)
                how = "added" if key not in came else "as it came" if came[key] == value else "changed"
                lines.append({"name": _text(name), "value": _text(value), "how": how})
        passed = {line.partition(b":")[0].lower() for line in self.request.text.split(b"\r\n")}
        gone = {name.lower() for name in came} - passed - written - {b"content-length", b"transfer-encoding"}
        return lines, sorted(map(_text, gone))


def _copied(pool: Pool, plane: Plane) -> Pool:
    """The pool with a strategy that stands where the real one does; one that can't be copied begins anew."""
    try:
        strategy = deepcopy(pool.strategy, {id(plane.strategies): plane.strategies})
    except Exception:  # a plug-in's may hold anything
        strategy = plane.strategies.make(pool.algorithm, pool.options)
    other = copy(pool)
    other.use(strategy)
    return other


def _options(pool: Pool) -> dict[str, Any]:
    options = pool.options
    asked = {
        "loadbalancing": options.load_balancing,
        "hash_key": options.hash_key,
        "hash_balance": options.hash_balance,
        "endpoint_timeout": options.endpoint_timeout,
        "max_conns": options.max_conns,
    }
    return {name: value for name, value in asked.items() if value}


def _why(key: str, host: str) -> str:
    name, slash, path = key.partition("/")
    if name == host:
        where = f"{name} is registered"
    elif name.startswith("*."):
        where = f"{name} is the nearest wildcard that covers {host}"
    else:
        where = f"{name} is {host} without its last dot"
    return f"{where}, and /{path} is the longest of its paths that leads there" if slash else where


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
