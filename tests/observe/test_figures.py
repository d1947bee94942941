"""Figures per app and endpoint: windows, percentiles, states, and what the metrics say of them."""

from __future__ import annotations

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from router.messages import (
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    EndpointStats,
    PutEndpoint,
    PutPool,
    PutRoute,
    SetHealth,
    Stats,
)
from router.observe import histogram
from router.observe.accounts import kind_of
from router.observe.apps import Apps, latency, pack_cells, packed_quantiles, unpack_cells
from router.observe.counters import COUNT, Counter
from router.observe.directory import NOBODY, Directory
from router.observe.events import Events
from router.observe.metrics import Gauges, Renderer, Snapshot, snapshot
from router.observe.varz import Figures

GAUGES = Gauges(2, 4, 100, 1, True, True, 0, 0, {("", "added"): 3}, {"": 1}, 2)


def stats(endpoints: list[EndpointStats], **counters: int) -> Stats:
    totals = [0] * COUNT
    for name, value in counters.items():
        totals[Counter[name]] = value
    return Stats(totals, endpoints, {}, [], [0] * 11, 0, 0, 0, 0)


def did(app: str, port: int = 1, count: int = 1, micros: int = 1000, **more: Any) -> EndpointStats:
    spec = EndpointSpec("10.0.0.1", port, app=app, tags=(("component", "c"),))
    cells = {histogram.bucket(micros): count} if count else {}
    values = {
        "bytes_in": 1,
        "bytes_out": 2,
        "failures": 0,
        "reason": "",
        "state": "in",
        "why": "",
        "failed_for": 0.0,
        **more,
    }
    return EndpointStats(spec, [count, 0, 0, 0, 0], cells, **values)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_percentiles_are_within_two_percent(scale: float) -> None:
    draw = random.Random(7)
    values = sorted(int(draw.lognormvariate(8, 1) * scale) + 1 for _ in range(5000))
    counts: dict[int, int] = {}
    for value in values:
        histogram.merge(counts, {histogram.bucket(value): 1})
    for q in (0.5, 0.9, 0.99):
        true = values[int(q * len(values)) - 1] / 1e6
        assert histogram.percentile(counts, q) == pytest.approx(true, rel=0.02, abs=1e-6)


def test_cells_survive_packing_and_kinds_stay_apart() -> None:
    cells = {histogram.TOTAL + 5: 1, histogram.BACKEND + 1727: 70_000, histogram.DIAL: 2}
    assert unpack_cells([pack_cells(cells), pack_cells(cells)]) == {cell: 2 * count for cell, count in cells.items()}
    assert histogram.of_kind(cells, histogram.BACKEND) == {1727: 70_000}


@given(
    st.lists(st.dictionaries(st.integers(0, 3 << histogram.KIND_SHIFT), st.integers(1, 3), max_size=5), max_size=6),
    st.lists(st.floats(0.01, 1.0), max_size=4),
)
def test_quantiles_of_packed_cells_are_percentiles(parts: list[dict[int, int]], shares: list[float]) -> None:
    whole: dict[int, int] = {}
    for part in parts:
        histogram.merge(whole, part)
    totals = histogram.of_kind(whole, histogram.TOTAL)
    found = packed_quantiles(map(pack_cells, parts), shares)
    assert [histogram.value(bucket) for bucket in found] == [
        histogram.percentile(totals, share) for share in shares if totals
    ]


def test_windows_of_an_app() -> None:
    clock = Clock()
    apps = Apps(Directory(), clock)
    for _ in range(20):
        apps.received([did("a", count=10), did("a", port=2, count=5, micros=50_000)])
        clock.now += 1
    app = apps.get("a")
    assert app is not None
    second = apps.second
    assert (app.rate(second, 1), app.rate(second, 10), app.rate(second, 60)) == (15.0, 15.0, 5.0)
    assert latency(app.cells(second, 10))["samples"] == 150
    assert latency(app.cells(second, 10))["p50"] == pytest.approx(1, rel=0.02)
    assert latency(app.cells(second, 10))["p99"] == pytest.approx(50, rel=0.02)
    assert app.per_second(second, 3) == [15, 15, 15]
    clock.now += 30
    assert app.rate(apps.second, 10) == 0.0
    assert app.rate(apps.second, 60) == 5.0
    clock.now += 60
    assert app.per_second(apps.second) == [0] * 60


def test_an_endpoint_is_ejected_and_comes_back() -> None:
    clock = Clock()
    apps = Apps(Directory(), clock)
    told: list[tuple[str, str]] = []
    apps.on_state = lambda app, spec, reason: told.append((app, reason))
    apps.received([did("a", failures=1, reason="EOF", state="failed", failed_for=30.0)])
    app = apps.get("a")
    assert app is not None
    figures = app.endpoints["10.0.0.1:1"]
    assert apps.state(figures.spec, figures) == ("failed", "EOF; tried again in 30 s")
    apps.received([did("a")])
    assert apps.state(figures.spec, figures) == ("in", "")
    assert told == [("a", "EOF"), ("a", "")]


def test_each_worker_speaks_for_itself() -> None:
    clock = Clock()
    apps = Apps(Directory(), clock)
    apps.workers = 2
    out = {"count": 0, "state": "ejected", "why": "no answer for 2 s"}
    apps.received([did("a")], 1)
    apps.received([did("a", **out, failed_for=5.0)], 2)
    apps.received([did("a")], 1)
    app = apps.get("a")
    assert app is not None
    figures = app.endpoints["10.0.0.1:1"]
    spec = figures.spec
    assert apps.state(spec, figures) == ("ejected", "no answer for 2 s; tried again in 5 s; so for 1 of 2 workers")
    apps.received([did("a", count=0, failures=1, reason="EOF", state="failed", why="EOF", failed_for=1.0)], 1)
    assert apps.state(spec, figures) == ("ejected", "no answer for 2 s; last failure: EOF; tried again in 5 s")
    apps.received([did("a")], 2)
    assert apps.state(spec, figures)[0] == "failed"
    clock.now += 1
    assert apps.state(spec, figures) == ("failed", "EOF; the next request tries it; so for 1 of 2 workers")
    clock.now += 2
    assert apps.state(spec, figures) == ("in", "")  # its worker is silent, or gone


def test_states_that_no_request_tells_of() -> None:
    flying = {7: 2}
    directory = Directory()
    directory.in_flight = lambda slot: flying.get(slot, 0)
    apps = Apps(directory, Clock())
    one, two = (EndpointSpec("10.0.0.1", port, app="a") for port in (1, 2))
    directory.apply([PutPool("a.test", "/", ""), PutEndpoint.of(1, 7, one), PutEndpoint.of(2, 8, two)])
    directory.apply([PutRoute("a.test", 1), PutRoute("a.test", 2), SetHealth("a.test", 2, "status 503")])
    assert (apps.state(one, None), apps.state(two, None)) == (("in", ""), ("unhealthy", "active check: status 503"))
    directory.apply([SetHealth("a.test", 2, "")])
    assert apps.state(two, None) == ("in", "")
    directory.apply([SetHealth("a.test", 2, "status 503"), DropRoute("a.test", 2), DropRoute("a.test", 1)])
    assert apps.state(two, None) == ("in", "")
    directory.apply([DropEndpoint(2), DropEndpoint(1), SetHealth("a.test", 2, "too late")])
    assert directory.leaving("a") == {one: 7}
    assert directory.leaving("b") == {}
    directory.apply([PutEndpoint.of(3, 7, one)])  # it is back, in its slot
    assert directory.leaving("a") == {}
    directory.apply([DropEndpoint(3)])
    flying[7] = 0
    assert directory.leaving("a") == {}


def test_silent_apps_are_forgotten_when_they_are_gone() -> None:
    clock = Clock()
    apps = Apps(Directory(), clock)
    apps.directory.apply(
        [PutEndpoint.of(1, 1, EndpointSpec("h", 1, app="kept")), PutPool("k", "/", "rr"), PutRoute("k", 1)]
    )
    apps.received([did("kept"), did("gone")])
    clock.now += 800
    apps.sweep()
    assert apps.get("kept") is not None
    assert apps.get("gone") is None


def test_directory_follows_the_table() -> None:
    directory = Directory()
    one, two = EndpointSpec("h", 1, app="a"), EndpointSpec("h", 2)
    directory.apply(
        [
            *(PutEndpoint.of(1, 11, one), PutEndpoint.of(2, 12, two), PutPool("k", "/", "rr"), PutPool("l", "/", "rr")),
            *(PutRoute("k", 1), PutRoute("l", 1), PutRoute("k", 2)),
        ]
    )
    assert sorted(directory.apps()) == ["a", "k"]
    assert directory.routes("a") == ["k", "l"]
    assert directory.endpoints("a") == {one: 11}
    assert directory.app_of(two) == "k"
    assert directory.has_route("a", "l")
    new = EndpointSpec("h", 1, app="b")
    directory.apply([PutEndpoint.of(3, 11, new), PutRoute("k", 3, replaces=1), DropRoute("l", 1), DropEndpoint(1)])
    assert sorted(directory.apps()) == ["b", "k"]
    directory.apply([DropPool("k"), DropEndpoint(2), DropEndpoint(3)])
    assert len(directory) == 0
    assert directory.app_of(two) == NOBODY


def values(text: bytes) -> dict[str, float]:
    """Series → value; a real parser has looked at the text before."""
    assert list(text_string_to_metric_families(text.decode()))
    lines = (line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def taken(figures: Figures, max_endpoints: int = 100) -> Snapshot:
    """What a scrape shows."""
    return snapshot(figures, GAUGES, max_endpoints=max_endpoints, per_request=True)


def scrape(figures: Figures) -> bytes:
    return Renderer().render(taken(figures))


def test_metrics_have_the_contracts_names_and_types() -> None:
    figures = Figures()
    figures.received(0, stats([did("a", micros=900)], REQUESTS=3, BAD_GATEWAYS=2, RESPONSES_2XX=1))
    text = scrape(figures).decode()
    kinds = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
    counters = (  # noqa: SIM905
        "registry_message unregistry_message routes_pruned total_requests rejected_requests bad_gateways "
        "backend_invalid_id backend_invalid_tls_cert backend_tls_handshake_failed backend_exhausted_conns "
        "websocket_upgrades websocket_failures responses"
    ).split()
    gauges = "total_routes ms_since_last_registry_update file_descriptors buffered_messages total_dropped_messages"
    histograms = "route_lookup_time gorouter_time route_registration_latency latency http_latency_seconds"
    assert {name: kinds.get(name) for name in counters} == dict.fromkeys(counters, "counter")
    assert {name: kinds.get(name) for name in gauges.split()} == dict.fromkeys(gauges.split(), "gauge")
    assert {name: kinds.get(name) for name in histograms.split()} == dict.fromkeys(histograms.split(), "histogram")
    for line in (
        "bad_gateways 2.0",
        'responses{status_group="2xx"} 1.0',
        'registry_message{action="added",component=""} 3.0',
        'total_requests{component="c"} 1.0',
        'latency_bucket{component="c",le="1"} 1',
        "routes_pruned 2.0",
        'router_app_responses_total{app="a",class="2xx"} 1',
    ):
        assert line in text.splitlines(), line


def test_counters_only_rise_when_a_worker_is_replaced() -> None:
    figures = Figures()
    figures.received(0, stats([], REQUESTS=10, RESPONSES_2XX=10))
    before = values(scrape(figures))
    figures.gone(0)
    figures.received(0, stats([], REQUESTS=1, RESPONSES_2XX=1))
    figures.received(0, stats([], REQUESTS=2, RESPONSES_2XX=2))
    figures.received(0, stats([], REQUESTS=1, RESPONSES_2XX=1))  # replaced, and nobody said so
    after = values(scrape(figures))
    assert after['responses{status_group="2xx"}'] == 13.0
    assert all(after[key] >= value for key, value in before.items() if key != "file_descriptors")


def test_what_is_kept_between_scrapes_is_never_old() -> None:
    figures, clock, renderer, chance = Figures(), Clock(), Renderer(), random.Random(6)
    figures.apps._clock = clock
    figures.histograms.configure({}, per_app=True)
    names = ["a", 'b"\\\n', "\udc80", "{},%d\0", "d" * 300]
    renderer.render(taken(figures))  # nobody was here yet
    for _ in range(40):
        apps = [name for name in names if chance.random() < 0.4]
        port = chance.randint(1, 3)
        reports = [did(app, port, failures=chance.randint(0, 1), micros=chance.choice((0, 900))) for app in apps]
        for report in reports:
            report.spec = structs.replace(report.spec, tags=(("source_id", report.spec.app),))
            report.state = chance.choice(("in", "failed"))
        figures.received(0, stats(reports))
        clock.now += chance.choice((1, 1, 4))
        seen = taken(figures)
        text = renderer.render(seen)
        assert "file_descriptors" in values(text)
        assert mass(text) == mass(Renderer().render(seen))


def mass(text: bytes) -> list[bytes]:
    """The lines that are not made by the client library."""
    lines = text.split(b"\n")
    return lines[lines.index(b"# TYPE route_registration_latency histogram") :]


def test_scrapes_are_true_while_reports_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    figures, clock, renderer = Figures(), Clock(), Renderer()
    figures.apps._clock = clock
    figures.apps.max_named = 30
    figures.histograms.configure({}, per_app=True)
    monkeypatch.setattr("router.observe.histograms.MAX_SOURCES", 20)
    chance = random.Random(3)

    def report() -> None:
        names = [f"app-{chance.randint(0, 40)}" for _ in range(chance.randint(1, 9))]
        done = [did(name, chance.randint(1, 9), failures=1, state=chance.choice(("in", "failed"))) for name in names]
        for each in done:
            each.spec = structs.replace(each.spec, tags=(("component", "c"), ("source_id", each.spec.app)))
        figures.received(0, stats(done))
        clock.now += 0.3

    before: dict[str, float] = {}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as thread:
            for _ in range(60):
                scraped = thread.submit(renderer.render, taken(figures, 1000))
                while not scraped.done():
                    report()
                found = values(scraped.result())
                falling = {name for name in before if before[name] > found.get(name, 0) and "_total{" in name}
                assert not falling
                before = found
    finally:
        sys.setswitchinterval(interval)
    found = values(scrape(figures))
    requests = sum(app.classes[0] for app in figures.apps.all())
    by_app = [n for name, n in found.items() if name.startswith("router_app_responses_total")]
    sources = [n for name, n in found.items() if name.startswith("http_latency_seconds_count")]
    assert len(sources) == 21
    assert sum(by_app) == sum(sources) == found['latency_count{component="c"}'] == requests


def test_apps_beyond_the_cap_are_together_and_the_sum_is_true() -> None:
    figures = Figures()
    figures.apps.max_named = 2
    for app in "abcd":
        figures.received(0, stats([did(app, count=10)]))
    found = values(scrape(figures))
    series = 'router_app_responses_total{{app="{}",class="2xx"}}'
    shown = {app: found.get(series.format(app)) for app in ("a", "b", "c", "other")}
    assert shown == {"a": 10.0, "b": 10.0, "c": None, "other": 20.0}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("unknown_route", "unknown_route"),
        ("endpoint_failure (dial tcp 10.0.0.1:80: connect: connection refused)", "connection refused"),
        ("endpoint_failure (EOF)", "EOF"),
        ("endpoint_failure (tls: failed to verify certificate: x509: certificate has expired)", "certificate expired"),
        ("endpoint_failure (something new)", "other endpoint failure"),
    ],
)
def test_kinds_of_errors(error: str, kind: str) -> None:
    assert kind_of(error) == kind


def test_events_are_bounded_and_numbered() -> None:
    events = Events(size=3)
    for number in range(5):
        events.add(1, "router", f"event-{number}", {})
    assert [event["event"] for event in events.after()] == ["event-4", "event-3", "event-2"]
    assert [event["event"] for event in events.after(4)] == ["event-4"]
    assert [event["event"] for event in events.after(text="ENT-3")] == ["event-3"]
