"""`router doctor`: mistakes of set-ups that work half the time, each with what to do about it.

Rows are checks; a check sees the configuration, the table and what happened, and yields findings. Nothing is asked of
anybody, so it may run at any time; it looks at the table bit by bit.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from router.config.duration import format_duration
from router.config.model import RouterConfig
from router.control.history import Event
from router.messages import EndpointSpec

SHOWN = 20
"""Findings of one kind that are told one by one."""
COMES_BACK = 2
"""Times that an endpoint is pruned and comes back before that is a finding."""
LB_IDLE = 60.0
"""Seconds for which load balancers commonly keep an idle connection."""
SKEW = 2.0
"""Seconds by which the clocks of two routers may differ."""
LATE = 0.75
"""Part of its time to live after which an endpoint that was not registered again is late."""

Entry = tuple[str, EndpointSpec, float]


class Finding(NamedTuple):
    """One thing that is wrong: `severity` is `error` or `warning`."""

    severity: str
    check: str
    what: str
    remedy: str


class Patient(NamedTuple):
    """What is looked at. `bus_is_here`: every server of the bus is on this machine.

    `clocks`: another router → seconds by which its time of day is ahead of this one's.
    """

    config: RouterConfig
    table: list[Entry]
    events: list[Event]
    bus_is_here: bool
    clocks: dict[str, float] = {}


def examine(patient: Patient) -> list[Finding]:
    """All findings, errors first."""
    found = [finding for check in CHECKS for finding in _some(check(patient))]
    return sorted(found, key=lambda finding: finding.severity)


def _some(findings: Iterable[Finding]) -> Iterator[Finding]:
    for number, finding in enumerate(findings):
        if number == SHOWN:
            yield finding._replace(what=f"and more of this kind: {finding.what}")
            return
        yield finding


def _unroutable(patient: Patient) -> Iterator[Finding]:
    seen = set()
    for key, spec, _ in patient.table:
        if spec.address in seen or spec.source:
            continue
        seen.add(spec.address)
        wrong = _address_fault(spec, patient.bus_is_here)
        if wrong:
            yield Finding(
                "error",
                "address",
                f"{spec.address} of {key} {wrong}",
                "have it register the address that other machines reach it by, and its port",
            )


def _address_fault(spec: EndpointSpec, bus_is_here: bool) -> str:
    if not spec.host:
        return "has no host"
    if not spec.port:
        return "has no port"
    try:
        address = ipaddress.ip_address(spec.host)
    except ValueError:
        return "leads every router to its own machine" if is_loopback(spec.host) and not bus_is_here else ""
    if address.is_unspecified:
        return "is no address that one can connect to"
    if address.is_multicast:
        return "is a multicast address"
    if address.is_link_local:
        return "is good on one network segment only"
    if address.is_loopback and not bus_is_here:
        return "leads every router to its own machine"
    return ""


def is_loopback(host: str) -> bool:
    """A host of this very machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _shared_addresses(patient: Patient) -> Iterator[Finding]:
    apps: dict[str, dict[str, str]] = {}
    for key, spec, _ in patient.table:
        owner = spec.instance_id or spec.app
        if owner:
            apps.setdefault(spec.address, {}).setdefault(owner, key)
    for address, owners in apps.items():
        if len(owners) > 1:
            said = " and ".join(f"{owner} ({key})" for owner, key in list(owners.items())[:3])
            yield Finding(
                "error",
                "shared-address",
                f"{address} is registered by {said}: requests for one may reach the other",
                "one of them has moved or died without unregistering: unregister it there, or serve it by TLS with "
                "server_cert_domain_san, so that a wrong backend is noticed",
            )


def _slow_heartbeats(patient: Patient) -> Iterator[Finding]:
    pruned = Counter((event.route, event.address) for event in patient.events if event.what == "pruned")
    for (key, address), times in pruned.items():
        if times >= COMES_BACK:
            yield Finding(
                "error",
                "heartbeat",
                f"{address} of {key} was pruned {times} times and came back: its heartbeats are slower than its "
                "time to live",
                "have it register at least three times in its time to live (every 20 s for 120 s)",
            )
    for key, spec, age in patient.table:
        if not spec.tls and not spec.source and spec.stale_after > 0 and age > spec.stale_after * LATE:
            yield Finding(
                "warning",
                "heartbeat",
                f"{spec.address} of {key} was last registered {age:.0f} s ago and goes at {spec.stale_after} s",
                "see whether it still runs, and whether its registrations reach NATS",
            )


def _settings(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    idle = config.frontend_idle_timeout
    if 0 < idle <= LB_IDLE:
        yield Finding(
            "warning",
            "keep-alive",
            f"frontend_idle_timeout is {format_duration(idle)}: a load balancer that keeps connections for 60 s sends "
            "requests into ones that the router is just closing",
            "make it longer than the idle time-out of what stands in front (90s and more)",
        )
    delay, threshold = config.start_response_delay_interval, config.droplet_stale_threshold
    if delay and threshold < 2 * delay:
        yield Finding(
            "warning",
            "heartbeat",
            f"droplet_stale_threshold is {format_duration(threshold)}, but clients are told to register every "
            f"{format_duration(delay)} (start_response_delay_interval): one lost message removes a route",
            "make the threshold at least three times the interval",
        )
    if config.nats is not None and config.prune_stale_droplets_interval <= 0:
        yield Finding(
            "warning",
            "pruning",
            "prune_stale_droplets_interval is 0: backends that died without a word are never forgotten",
            "set it to 30s",
        )
    if config.nats is None and not patient.table:
        yield Finding(
            "warning",
            "routes",
            "there is no bus (`nats: null`) and no static route",
            "write `routes:`, or PUT them to /api/routes",
        )


def _drain(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    drain, longest = config.effective_drain_timeout, config.endpoint_timeout
    if longest > drain:
        yield Finding(
            "warning",
            "drain",
            f"drain_timeout is {format_duration(drain)}, but requests may take {format_duration(longest)} "
            "(endpoint_timeout): long ones are cut at every restart",
            "make drain_timeout as long as endpoint_timeout",
        )
    if config.drain_wait < config.load_balancer_healthy_threshold:
        yield Finding(
            "warning",
            "drain",
            f"drain_wait is {format_duration(config.drain_wait)}, but the load balancer in front takes "
            f"{format_duration(config.load_balancer_healthy_threshold)} to see how a router is "
            "(load_balancer_healthy_threshold): it still sends requests when the router stops listening",
            "make drain_wait longer than that",
        )


def _clocks(patient: Patient) -> Iterator[Finding]:
    remedy = "run a time service (NTP) on all machines: logs, traces and X-Request-Start are told by these clocks"
    skews = patient.clocks.values()
    if len(skews) > 1 and min(map(abs, skews)) > SKEW and max(skews) - min(skews) <= SKEW:
        off = -min(skews, key=abs)
        what = f"this machine's clock is {_apart(off)} those of all {len(skews)} other routers"
        yield Finding("warning", "clock", what, remedy)
        return
    for router, ahead in sorted(patient.clocks.items()):
        if abs(ahead) > SKEW:
            yield Finding("warning", "clock", f"the clock of router {router} is {_apart(ahead)} this one's", remedy)


def _apart(ahead: float) -> str:
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'}"


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    _unroutable,
    _shared_addresses,
    _slow_heartbeats,
    _settings,
    _drain,
    _clocks,
)
