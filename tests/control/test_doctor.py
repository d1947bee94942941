"""What `router doctor` finds: a row a mistake."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.model import RouterConfig
from router.control.doctor import SHOWN, Patient, examine, is_loopback
from router.control.history import Event
from router.messages import EndpointSpec


def found(
    *table: tuple[str, EndpointSpec, float], events: tuple[Event, ...] = (), here: bool = False, **config: Any
) -> list[tuple[str, str]]:
    """Check and text of every finding."""
    patient = Patient(RouterConfig(**config), list(table), list(events), here)
    return [(finding.check, finding.what) for finding in examine(patient)]


def entry(
    host: str, port: int = 80, key: str = "a.com", age: float = 1, **about: Any
) -> tuple[str, EndpointSpec, float]:
    return key, EndpointSpec(host, port, **about), age


def test_a_sound_set_up() -> None:
    assert found(entry("10.0.0.1"), entry("app.internal"), entry("fd00::1"), entry("127.0.0.1", source="file")) == []


@pytest.mark.parametrize(
    ("host", "port", "wrong"),
    [
        ("127.0.0.1", 80, "127.0.0.1:80 of a.com leads every router to its own machine"),
        ("localhost", 80, "localhost:80 of a.com leads every router to its own machine"),
        ("::1", 80, "::1:80 of a.com leads every router to its own machine"),
        ("0.0.0.0", 80, "0.0.0.0:80 of a.com is no address that one can connect to"),
        ("224.0.0.1", 80, "224.0.0.1:80 of a.com is a multicast address"),
        ("169.254.1.1", 80, "169.254.1.1:80 of a.com is good on one network segment only"),
        ("", 80, ":80 of a.com has no host"),
        ("10.0.0.1", 0, "10.0.0.1:0 of a.com has no port"),
    ],
)
def test_addresses_nobody_reaches(host: str, port: int, wrong: str) -> None:
    assert found(entry(host, port)) == [("address", wrong)]


def test_loopback_is_fine_beside_the_bus() -> None:
    assert found(entry("127.0.0.1"), here=True) == []
    assert is_loopback("a.localhost")
    assert not is_loopback("10.0.0.1")


def test_two_apps_on_one_address() -> None:
    same = entry("10.0.0.1", instance_id="i1"), entry("10.0.0.1", key="b.com", instance_id="i1")
    assert found(*same) == []
    ((check, what),) = found(*same, entry("10.0.0.1", key="c.com", instance_id="i2"))
    assert check == "shared-address"
    assert what.startswith("10.0.0.1:80 is registered by i1 (a.com) and i2 (c.com)")


def test_heartbeats_that_are_too_slow() -> None:
    pruned = Event(1.0, "pruned", "a.com", "10.0.0.1:80", "")
    assert found(entry("10.0.0.1"), events=(pruned,)) == []
    assert [check for check, _ in found(entry("10.0.0.1"), events=(pruned, pruned))] == ["heartbeat"]
    assert [check for check, _ in found(entry("10.0.0.1", age=100))] == ["heartbeat"]
    assert found(entry("10.0.0.1", age=1000, tls=True)) == []


@pytest.mark.parametrize(
    ("config", "check"),
    [
        ({"frontend_idle_timeout": 60.0}, "keep-alive"),
        ({"start_response_delay_interval": 20.0, "droplet_stale_threshold": 30.0}, "heartbeat"),
        ({"prune_stale_droplets_interval": 0.0}, "pruning"),
        ({"drain_timeout": 5.0}, "drain"),
        ({"load_balancer_healthy_threshold": 10.0}, "drain"),
    ],
)
def test_settings_that_do_not_go_together(config: dict[str, Any], check: str) -> None:
    assert [each for each, _ in found(entry("10.0.0.1"), **config)] == [check]


@pytest.mark.parametrize(
    ("clocks", "texts"),
    [
        ({}, []),
        ({"a (h:1)": 1.9, "b (h:2)": -1.9}, []),
        ({"a (h:1)": 3.2}, ["the clock of router a (h:1) is 3 s ahead of this one's"]),
        ({"a (h:1)": 0.1, "b (h:2)": -61.0}, ["the clock of router b (h:2) is 61 s behind this one's"]),
        ({"a (h:1)": 60.0, "b (h:2)": 61.0}, ["this machine's clock is 60 s behind those of all 2 other routers"]),
        ({"a (h:1)": -5.0, "b (h:2)": -5.5}, ["this machine's clock is 5 s ahead of those of all 2 other routers"]),
        (
            {"a (h:1)": 60.0, "b (h:2)": -60.0},
            [
                "the clock of router a (h:1) is 60 s ahead of this one's",
                "the clock of router b (h:2) is 60 s behind this one's",
            ],
        ),
    ],
)
def test_clocks_of_other_routers(clocks: dict[str, float], texts: list[str]) -> None:
    findings = examine(Patient(RouterConfig(), [entry("10.0.0.1")], [], False, clocks))
    assert [finding.what for finding in findings if finding.check == "clock"] == texts
    assert all("NTP" in finding.remedy for finding in findings)


def test_nothing_to_serve() -> None:
    assert [check for check, _ in found(nats=None)] == ["routes"]


def test_many_of_one_kind_are_cut_short() -> None:
    texts = found(*(entry("", port) for port in range(1, 100)))
    assert len(texts) == SHOWN + 1
    assert texts[-1][1].startswith("and more of this kind: ")
