"""What the event log says of attempts that failed (contract §12.5): names and fields are those of the Go router."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.observe.log import Log
from router.proxy.failures import TIMED_OUT, TOO_MANY_HEADERS, Failure

if TYPE_CHECKING:
    from router.proxy.request_state import RequestState
    from router.table.endpoint import Endpoint

_KINDS = {TIMED_OUT: "backend-request-timeout", TOO_MANY_HEADERS: "backend-too-many-response-headers"}
"""Failures that have an event of their own besides."""


def log_failure(
    log: Log, exchange: RequestState, endpoint: Endpoint, failure: Failure, *, retry: bool, stale: bool
) -> None:
    """An attempt at `endpoint` failed. `retry`: another follows; `stale`: on a connection that had been idle."""
    about = _about(endpoint)
    pool, trace = exchange.pool, exchange.trace
    facts: dict[str, Any] = {"vcap_request_id": exchange.request_id.decode()}
    if exchange.service is None:
        facts["route-endpoint"] = about
    else:
        facts["route-service-endpoint"] = endpoint.address
    if trace is not None:
        facts |= {"trace-id": trace.trace_id.decode(), "span-id": trace.span_id.decode()}
    if (kind := _KINDS.get(failure)) is not None:
        log.error(kind, **facts, error=failure.reason)
    log.error(
        "backend-endpoint-failed" if exchange.service is None else "route-service-connection-failed",
        **facts,
        **{"num-endpoints": len(pool.endpoints) if pool is not None else 0, "conn-reused": stale},
        **_dial_times(exchange),
        attempt=exchange.attempt,
        error=failure.reason,
        retriable=retry,
    )
    if failure.marks and exchange.service is None:
        log.error("endpoint-marked-as-ineligible", **{"route-endpoint": about})


def _dial_times(exchange: RequestState) -> dict[str, Any]:
    """How an attempt had its connection, as events say it: seconds, -1 for a step that was not (contract §12.5)."""
    steps = exchange.steps if exchange.dialled else None
    lookup, connect, handshake = (steps.lookup, steps.connect, steps.handshake) if steps is not None else (-1, -1, -1)
    return {
        "got-connection": steps is None or handshake >= 0,
        "dns-lookup-time": _seconds(lookup),
        "dial-time": _seconds(connect),
        "tls-handshake-time": _seconds(handshake),
    }


def _seconds(ns: int) -> float:
    return ns / 1e9 if ns > 0 else -1.0


def _about(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint as events name it (contract §12.5)."""
    spec = endpoint.spec
    return {
        "ApplicationId": spec.app,
        "Addr": spec.address,
        "Tags": dict(spec.tags or ()),
        "RouteServiceUrl": spec.route_service_url,
        "AZ": spec.availability_zone,
    }
