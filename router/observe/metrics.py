"""`/metrics`: the router's figures for Prometheus (contract §11.5), names, types, labels and buckets as they are there.

What the router has beyond the contract is called `router_…`. Per-app and per-endpoint series are limited in number:
the first apps with traffic have their own, later ones share the app `other`, so that every series only rises and a sum
over apps is true. A scrape is two steps: `snapshot` takes, on control's loop, what must be of one moment; `Renderer`
makes the text and may do so in another thread. Series by app and by endpoint are in `series.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from router.observe.apps import CLASSES, AppFigures
from router.observe.counters import Counter
from router.observe.histograms import OTHER, Histograms
from router.observe.series import HistogramFamily, Series
from router.observe.varz import Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS: tuple[tuple[str, Counter, str], ...] = (
    ("rejected_requests", Counter.BAD_REQUESTS, "Requests that the router refused."),
    ("bad_gateways", Counter.BAD_GATEWAYS, "Requests that no backend answered (502)."),
    ("backend_exhausted_conns", Counter.EXHAUSTED, "Requests refused because all backends were at their limit."),
    ("backend_invalid_id", Counter.BACKEND_INVALID_ID, "Backend certificates with another name."),
    ("backend_invalid_tls_cert", Counter.BACKEND_INVALID_CERT, "Backend certificates that are not trusted."),
    ("backend_tls_handshake_failed", Counter.BACKEND_HANDSHAKE_FAILED, "TLS handshakes with backends that failed."),
    ("websocket_upgrades", Counter.UPGRADES, "Connections that became tunnels."),
    ("websocket_failures", Counter.UPGRADE_FAILURES, "Requests for an upgrade that came to nothing."),
    ("router_unreadable_requests", Counter.UNREADABLE, "Requests that could not be parsed."),
    ("router_clients_gone", Counter.CLIENT_GONE, "Requests whose client left before the end."),
    ("router_access_log_lines", Counter.LOG_LINES, "Access log lines handed to a writer."),
    ("router_access_log_lines_dropped", Counter.LOG_LOST, "Access log lines that no writer took."),
)


class Gauges(NamedTuple):
    """What the rest of control knows."""

    routes: int
    endpoints: int
    ms_since_update: int
    workers: int
    bus_connected: bool
    healthy: bool
    buffered_messages: int
    dropped_messages: int
    registrations: dict[tuple[str, str], int]
    """(component, action) → URIs registered."""
    unregistrations: dict[str, int]
    pruned: int
    spans_exported: int = 0
    spans_lost: int = 0
    """By control; what workers lost is among the counters."""


class Snapshot(NamedTuple):
    """What one scrape shows.

    Figures by app and by source are not copied: a scrape is made of reports, not of one instant, and each of them only
    rises. But which apps there are is of this moment, as is what departed ones left behind.
    """

    counters: dict[Counter, int]
    responses: list[int]
    histograms: list[HistogramFamily]
    requests: dict[str, int]
    reasons: dict[str, int]
    in_flight: int
    connections: int
    backends: int
    apps: list[AppFigures]
    departed: AppFigures
    second: int
    max_endpoints: int
    gauges: Gauges


def snapshot(figures: Figures, gauges: Gauges, *, max_endpoints: int, per_request: bool) -> Snapshot:
    """The figures of now."""
    departed = AppFigures(OTHER)
    departed.take_over(figures.apps.departed)
    return Snapshot(
        {counter: figures.total(counter) for counter in (*(row[1] for row in COUNTERS), Counter.SPANS_LOST)},
        [figures.total(Counter(Counter.RESPONSES_2XX + i)) for i in range(len(CLASSES))],
        list(_histograms(figures.histograms, per_request)),
        dict(figures.histograms.requests),
        dict(figures.reasons),
        sum(figures.in_flight.values()),
        sum(figures.connections.values()),
        sum(figures.backends.values()),
        figures.apps.all(),
        departed,
        figures.apps.second,
        max_endpoints,
        gauges,
    )


def _histograms(made: Histograms, per_request: bool) -> Iterator[HistogramFamily]:
    yield HistogramFamily(
        "route_registration_latency",
        "Milliseconds from an endpoint's change to its registration here.",
        "",
        made.registration,
    )
    yield HistogramFamily(
        "http_latency_seconds",
        "Seconds from receipt to the end of the response.",
        "source_id",
        made.http_latency,
    )
    if per_request:
        yield HistogramFamily("route_lookup_time", "Nanoseconds of a route look-up.", "", made.lookup)
        yield HistogramFamily("gorouter_time", "Seconds that the router itself took.", "", made.gorouter_time)
        yield HistogramFamily(
            "latency",
            "Milliseconds from receipt to the end of the response.",
            "component",
            made.latency,
        )


class Renderer:
    """Makes the text of scrapes (exposition format 0.0.4), one at a time; it knows the one before."""

    def __init__(self) -> None:
        self._series = Series()

    def render(self, taken: Snapshot) -> bytes:
        """The text of a scrape."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Once(taken))
        few = _contract_names(generate_latest(registry))
        many = map(self._series.histogram, taken.histograms)
        named = [app for app in taken.apps if app.named]
        other = AppFigures(OTHER)
        for app in (taken.departed, *taken.apps):
            if not app.named:
                other.take_over(app)
        return b"".join((few, *many, *self._series.apps(named, other, taken.second, taken.max_endpoints)))


def _contract_names(text: bytes) -> bytes:
    """The client library ends every counter's name with `_total`; the contract's do not all end so."""
    for name in _PLAIN_COUNTERS:
        text = text.replace(b"# HELP %b_total " % name, b"# HELP %b " % name, 1)
        text = text.replace(b"# TYPE %b_total " % name, b"# TYPE %b " % name, 1)
        text = text.replace(b"\n%b_total " % name, b"\n%b " % name).replace(b"\n%b_total{" % name, b"\n%b{" % name)
    return text


class _Once(Collector):
    """Gives one snapshot."""

    def __init__(self, taken: Snapshot) -> None:
        self._taken = taken

    def collect(self) -> Iterator[Metric]:
        taken = self._taken
        for name, counter, text in COUNTERS:
            yield CounterMetricFamily(name, text, value=taken.counters[counter])
        responses = CounterMetricFamily("responses", "Responses of backends by class.", labels=["status_group"])
        for group, count in zip(CLASSES, taken.responses, strict=True):
            responses.add_metric([group], count)
        yield responses
        yield _counter("total_requests", "Attempts to backends.", ["component"], _rows(taken.requests))
        yield _counter(
            "router_errors",
            "Requests that ended in an error of the router's, by kind.",
            ["reason"],
            _rows(taken.reasons),
        )
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        taken, gauges = self._taken, self._taken.gauges
        yield _counter("registry_message", "URIs registered.", ["component", "action"], gauges.registrations.items())
        yield _counter("unregistry_message", "URIs unregistered.", ["component"], _rows(gauges.unregistrations))
        yield CounterMetricFamily(
            "router_spans_exported", "Sampled requests whose spans a collector took.", value=gauges.spans_exported
        )
        yield CounterMetricFamily(
            "router_spans_dropped",
            "Sampled requests whose spans no collector took.",
            value=gauges.spans_lost + taken.counters[Counter.SPANS_LOST],
        )
        yield CounterMetricFamily("routes_pruned", "Endpoints removed for age.", value=gauges.pruned)
        for name, text, value in (
            ("total_routes", "Routes in the table.", gauges.routes),
            ("ms_since_last_registry_update", "Milliseconds since the last registration.", gauges.ms_since_update),
            ("file_descriptors", "Open file descriptors of the control process.", _descriptors()),
            ("buffered_messages", "Bus messages that wait.", gauges.buffered_messages),
            ("total_dropped_messages", "Bus messages dropped.", gauges.dropped_messages),
            ("router_endpoints", "Endpoints in the table.", gauges.endpoints),
            ("router_workers", "Workers that accept connections.", gauges.workers),
            ("router_bus_connected", "1 while the router is connected to NATS.", int(gauges.bus_connected)),
            ("router_healthy", "1 while the router is healthy.", int(gauges.healthy)),
            ("router_requests_in_flight", "Requests in flight.", taken.in_flight),
            ("router_client_connections", "Open client connections.", taken.connections),
            ("router_backend_connections", "Open connections to backends.", taken.backends),
        ):
            yield GaugeMetricFamily(name, text, value=value)


_PLAIN_COUNTERS = tuple(
    name.encode()
    for name in (
        *(name for name, _, _ in COUNTERS if not name.startswith("router_")),
        "responses",
        "total_requests",
        "registry_message",
        "unregistry_message",
        "routes_pruned",
    )
)
"""Counters whose names in the contract have no `_total` at the end."""


def _rows(counts: dict[str, int]) -> Iterable[tuple[tuple[str], int]]:
    return [((name,), count) for name, count in counts.items()]


def _counter(name: str, text: str, labels: list[str], rows: Iterable[tuple[Any, int]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in rows:
        family.add_metric(list(values), count)
    return family


def _descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
