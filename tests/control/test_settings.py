"""What the parts of the router get to know of the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from router.config.model import RouterConfig
from router.control.errors import StartError
from router.control.settings import (
    bus_settings,
    installed_strategies,
    number_of_workers,
    registry_settings,
    status_credentials,
    worker_settings,
)
from router.http.signature import signature_key
from router.messages import BackendTls, RouteServices


def config(**keys: Any) -> RouterConfig:
    return RouterConfig.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "setting", "value"),
    [
        ({"index": 3}, "index", 3),
        ({"balancing_algorithm": "least-connection"}, "balancing_algorithm", "least-connection"),
        ({"backends": {"max_conns": 7}}, "max_conns", 7),
        ({"droplet_stale_threshold": "2m"}, "failed_mark_seconds", 30.0),
        ({"endpoint_timeout": "-1s"}, "endpoint_timeout", 0.0),
        ({"endpoint_timeout": "90s"}, "endpoint_timeout", 90.0),
        ({"empty_pool_response_code_503": True}, "empty_pool_503", True),
        ({"max_connections": 10, "workers": 3}, "max_connections", 4),
        ({"max_connections": 0, "workers": 3}, "max_connections", 0),
        ({"max_connections": 10, "workers": 0}, "max_connections", 10),
        ({"access_log": {"file": "/x"}}, "access_log_file", "/x"),
        ({"extra_headers_to_log": ["A", "B"]}, "extra_headers_to_log", ("A", "B")),
        ({"logging": {"level": "debug"}}, "log_level", "debug"),
        ({"debug_404": True}, "debug_404", True),
        ({"route_services": {"max_attempts": 3}}, "route_services", None),
        ({}, "router_ip", "192.0.2.2"),
        ({}, "listeners", ("http",)),
    ],
)
def test_worker_settings(keys: dict[str, Any], setting: str, value: Any) -> None:
    assert getattr(worker_settings(config(**keys), "192.0.2.2"), setting) == value


def test_route_services() -> None:
    keys = {
        "route_services_secret": "secret",
        "route_services_secret_decrypt_only": "older",
        "route_services_timeout": "5s",
        "route_services_recommend_https": True,
        "route_services_hairpinning": True,
        "route_services_hairpinning_allowlist": ["*.Apps.test"],
        "route_services": {"max_attempts": 0, "strict_signature_validation": True, "websockets": True},
        "skip_ssl_validation": True,
        "max_tls_version": "TLSv1.2",
    }
    assert worker_settings(config(**keys), "").route_services == RouteServices(
        signature_key("secret"),
        signature_key("older"),
        timeout=5.0,
        recommend_https=True,
        max_attempts=1,
        strict=True,
        websockets=True,
        internal=True,
        internal_hosts=("*.apps.test",),
        tls=BackendTls(max_version="TLSv1.2", verify=False),
    )


@pytest.mark.parametrize(
    ("keys", "setting", "value"),
    [
        ({"droplet_stale_threshold": "60s"}, "stale_threshold", 60.0),
        ({"balancing_algorithm": "least-connection"}, "balancing_algorithm", "least-connection"),
        ({}, "sharding_mode", "all"),
        (
            {"routing_table_sharding_mode": "segments", "isolation_segments": ["x", "y"]},
            "isolation_segments",
            frozenset(["x", "y"]),
        ),
        ({"empty_pool_response_code_503": True}, "keep_empty_pools", True),
        ({"empty_pool_timeout": "5s"}, "empty_pool_timeout", 5.0),
        ({"suspend_pruning_if_nats_unavailable": True}, "suspend_pruning", True),
    ],
)
def test_registry_settings(keys: dict[str, Any], setting: str, value: Any) -> None:
    assert getattr(registry_settings(config(**keys)), setting) == value


def test_registrations_may_ask_for_every_installed_strategy() -> None:
    assert {"round-robin", "least-connection"} <= installed_strategies().keys()
    assert registry_settings(config()).algorithms >= installed_strategies().keys()


def test_where_the_bus_is() -> None:
    hosts = [{"hostname": "n1", "port": 4222}, {"hostname": "n2", "port": 4333}]
    settings = bus_settings(config(nats={"hosts": hosts, "user": "u", "pass": "p"}, nats_client_ping_interval="7s"))
    assert settings is not None
    assert settings.servers == (("n1", 4222), ("n2", 4333))
    assert (settings.user, settings.password, settings.ping_interval) == ("u", "p", 7.0)
    assert bus_settings(config(nats=None)) is None


@pytest.mark.parametrize(("workers", "number"), [(0, 0), (1, 1), (32, 32)])
def test_number_of_workers(workers: int, number: int) -> None:
    assert number_of_workers(config(workers=workers)) == number


def test_workers_are_at_most_as_many_as_there_are_lanes() -> None:
    assert 1 <= number_of_workers(config(workers="auto")) <= 32
    with pytest.raises(StartError, match="workers: 33 given, at most 32 are possible"):
        number_of_workers(config(workers=33))


def test_credentials_that_are_not_configured_are_drawn() -> None:
    assert status_credentials(config(status={"user": "u", "pass": "p"})) == ("u", "p")
    (user, one), (_, other) = status_credentials(config()), status_credentials(config())
    assert user == "router"
    assert one != other
    assert len(one) > 20
