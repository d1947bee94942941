"""Figures of all workers together (contract §11.4)."""

from __future__ import annotations

from typing import Any

import pytest

from router.messages import EndpointSpec, EndpointStats, Stats
from router.observe import varz as varz_module
from router.observe.counters import COUNT, RESPONSE_CLASSES, Counter
from router.observe.histogram import bucket
from router.observe.varz import Figures, Process, Rate


def report(*endpoints: EndpointStats, **counters: int) -> Stats:
    totals = [0] * COUNT
    for name, count in counters.items():
        totals[Counter[name]] = count
    return Stats(totals, list(endpoints), {}, [], [0] * 11, 0, 1, 2, 3)


def did(
    app: str, *classes: int, cells: dict[int, int] | None = None, tags: tuple[tuple[str, str], ...] = (), **more: Any
) -> EndpointStats:
    """An endpoint's report, its responses by class."""
    counts = [*classes, 0, 0, 0, 0, 0][:5]
    spec = EndpointSpec("10.0.0.1", 80, app=app, tags=tags)
    return EndpointStats(
        spec, counts, cells or {}, 0, 0, more.get("failures", 0), "", "in", "", 0.0, more.get("clients", {})
    )


def test_nothing_yet() -> None:
    latency = {"50": 0.0, "75": 0.0, "90": 0.0, "95": 0.0, "99": 0.0, "samples": 1, "value": 5e-07}
    shown = Figures().as_varz()
    expected: dict[str, Any] = {
        "requests": 0,
        "requests_per_sec": 0.0,
        "rate": [0.0, 0.0, 0.0],
        **{f"responses_{name}": 0 for name in ("2xx", "3xx", "4xx", "5xx", "xxx")},
        "latency": latency,
        "bad_requests": 0,
        "bad_gateways": 0,
        "top10_app_requests": [],
        "tags": {"component": {}},
    }
    assert {key: shown[key] for key in expected} == expected


def test_workers_are_added_up_and_the_dead_stay_counted() -> None:
    figures = Figures()
    figures.received(0, report(REQUESTS=5, RESPONSES_2XX=3, RESPONSES_5XX=1, BAD_GATEWAYS=1))
    figures.received(1, report(REQUESTS=7, RESPONSES_XXX=2, BAD_REQUESTS=4))
    figures.received(1, report(REQUESTS=8, RESPONSES_XXX=2, BAD_REQUESTS=4))
    shown = figures.as_varz()
    assert (shown["requests"], shown["responses_2xx"], shown["responses_5xx"], shown["responses_xxx"]) == (13, 3, 1, 2)
    assert (shown["bad_requests"], shown["bad_gateways"]) == (4, 1)
    figures.gone(1)
    figures.gone(1)
    figures.received(1, report(REQUESTS=1))
    assert figures.total(Counter.REQUESTS) == 14
    figures.received(1, report(REQUESTS=0))  # totals that shrink: another worker sits there
    figures.received(1, report(REQUESTS=2))
    assert figures.total(Counter.REQUESTS) == 16


def test_rates_fade() -> None:
    rate = Rate()
    rate.add(50)
    rate.tick()
    assert rate.values == [10.0, 10.0, 10.0]
    for _ in range(12):  # a minute of silence
        rate.tick()
    assert rate.values == [
        pytest.approx(10 * 0.3679, rel=1e-3),
        pytest.approx(8.187, rel=1e-3),
        pytest.approx(9.355, rel=1e-3),
    ]


def test_latency_and_apps_are_those_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    figures = Figures()
    monkeypatch.setattr(figures.apps, "_clock", lambda: now)
    apps = [did(f"app-{n}", 60 * (n + 1), clients={b"192.0.2.1": 3, b"192.0.2.2": 9}) for n in range(12)]
    figures.received(0, report(*apps, did("slow", cells={bucket(1000): 99, bucket(500_000): 1})))
    now += 1
    shown = figures.as_varz(all_apps=True)
    assert (len(shown["top10_app_requests"]), len(shown["top_app_requests"])) == (10, 12)
    top = shown["top10_app_requests"][0]
    assert (top["application_id"], top["rpm"], top["rps"], top["url"]) == ("app-11", 720, 12, "")
    assert [client["ip"] for client in top["clients"]] == ["192.0.2.2", "192.0.2.1"]
    assert shown["latency"]["50"] == pytest.approx(0.001, rel=0.01)
    assert shown["latency"]["99"] == pytest.approx(0.001, rel=0.01)
    for _ in range(12):
        figures.tick()
    now += 62
    shown = figures.as_varz()
    assert (shown["top10_app_requests"], shown["latency"]["50"]) == ([], 0.0)
    assert "top_app_requests" not in shown


def test_tags_have_figures_of_their_own() -> None:
    figures = Figures()
    for slot in range(2):
        tags = (("component", "api"), ("framework", "rails"), ("other", "x"))
        figures.received(slot, report(did("a", 3, 0, 0, 1, cells={bucket(2000): 4}, tags=tags, failures=1)))
    shown = figures.as_varz()["tags"]
    assert list(shown) == ["component", "framework"]
    api = shown["component"]["api"]
    assert (api["requests"], api["responses_2xx"], api["responses_5xx"]) == (10, 6, 2)
    assert api["latency"]["99"] == pytest.approx(0.002, rel=0.01)


@pytest.mark.parametrize(
    ("status", "counter"),
    [
        (200, Counter.RESPONSES_2XX),
        (302, Counter.RESPONSES_3XX),
        (404, Counter.RESPONSES_4XX),
        (599, Counter.RESPONSES_5XX),
        (101, Counter.RESPONSES_XXX),
        (999, Counter.RESPONSES_XXX),
    ],
)
def test_classes_of_responses(status: int, counter: Counter) -> None:
    assert Counter.RESPONSES_2XX + RESPONSE_CLASSES[status] == counter


def test_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varz_module.time, "time", lambda: 1452193480.0)
    process = Process(3, "10.0.0.1:8080", ("u", "p"))
    monkeypatch.setattr(varz_module.time, "time", lambda: 1452193480.0 + 2 * 86400 + 3 * 3600 + 22 * 60 + 31.9)
    shown = process.as_varz()
    assert (shown["type"], shown["index"], shown["host"], shown["credentials"]) == (
        "Router",
        3,
        "10.0.0.1:8080",
        ["u", "p"],
    )
    assert (shown["start"], shown["uptime"]) == ("2016-01-07 19:04:40 +0000", "2d:3h:22m:31s")
    assert shown["uuid"].startswith("3-")
    assert shown["mem"] > 1000
    assert shown["log_counts"] == {}
