"""Registry messages, row by row of contract §2.3."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.control.bus.registrations import Malformed, Registration, read
from router.messages import EndpointSpec, RouteOptions

URIS = ["a.com"]


def told(**message: Any) -> Registration | None:
    return read(json.dumps({"uris": URIS, **message}).encode())


def endpoint(**message: Any) -> EndpointSpec:
    registration = told(**message)
    assert registration is not None
    assert registration.uris == URIS
    return registration.spec


def bare(**fields: Any) -> EndpointSpec:
    return EndpointSpec(**{"host": "", "port": 0, "stale_after": 0, **fields})


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ({}, {}),
        ({"host": "10.0.0.1", "port": 8080}, {"host": "10.0.0.1", "port": 8080}),
        ({"port": 65535}, {"port": 65535}),
        ({"port": 1, "tls_port": 2}, {"port": 2, "tls": True}),
        ({"port": 1, "tls_port": 0}, {"port": 1}),
        ({"protocol": "http1"}, {}),
        ({"protocol": ""}, {}),
        ({"protocol": "spdy"}, {"protocol": "spdy"}),
        ({"app": "x"}, {"app": "x"}),
        ({"private_instance_id": "x"}, {"instance_id": "x"}),
        ({"private_instance_index": "1"}, {"instance_index": "1"}),
        ({"tags": {"component": "x", "a": ""}}, {"tags": (("component", "x"), ("a", ""))}),
        ({"tags": {}}, {"tags": ()}),
        ({"tags": None}, {"tags": None}),
        ({"tags": {"a": None}}, {"tags": (("a", ""),)}),
        ({"route_service_url": "https://x"}, {"route_service_url": "https://x"}),
        ({"route_service_url": "httpsx"}, {"route_service_url": "httpsx"}),
        ({"server_cert_domain_san": "x"}, {"server_cert_domain_san": "x"}),
        ({"stale_threshold_in_seconds": 30}, {"stale_after": 30}),
        ({"stale_threshold_in_seconds": -30}, {"stale_after": -30}),
        ({"isolation_segment": "x"}, {"isolation_segment": "x"}),
        ({"availability_zone": "z1"}, {"availability_zone": "z1"}),
        ({"endpoint_updated_at_ns": 2**63 - 1}, {}),
        ({"options": {}}, {}),
        (
            {"options": {"loadbalancing": "least-connection"}},
            {"options": RouteOptions("least-connection", asked="least-connection")},
        ),
        ({"options": {"LoadBalancing": "x"}}, {"options": RouteOptions("x", asked="x")}),
        ({"options": {"lb_algo": "x"}}, {"options": RouteOptions("x", asked="x")}),
        ({"options": {"loadbalancing": None, "other": [1]}}, {}),
        ({"whatever": [1], "uri": 7}, {}),
    ],
)
def test_what_a_message_says(message: dict[str, Any], fields: dict[str, Any]) -> None:
    assert endpoint(**message) == bare(**fields)


@pytest.mark.parametrize(
    "key",
    [
        "host",
        "port",
        "tls_port",
        "protocol",
        "app",
        "private_instance_id",
        "private_instance_index",
        "tags",
        "route_service_url",
        "server_cert_domain_san",
        "stale_threshold_in_seconds",
        "isolation_segment",
        "availability_zone",
        "endpoint_updated_at_ns",
        "options",
    ],
)
def test_null_is_the_empty_value_and_case_does_not_matter(key: str) -> None:
    assert endpoint(**{key: None}) == endpoint(**{key.upper(): None}) == bare()


@pytest.mark.parametrize(
    ("payload", "host", "uris"),
    [
        (b'{"host":"a","uris":["x"],"HOST":"b"}', "b", ["x"]),
        (b'{"HOST":"b","uris":["x"],"host":"a"}', "a", ["x"]),
        (b'{"host":"a","host":"b","uris":["x"]}', "b", ["x"]),
        (b'{"Host":"a","Uris":["x","y"]}', "a", ["x", "y"]),
        (b' \n{"host":"a","uris":[null,"y"]}\r\n', "a", ["", "y"]),
        (b'{"host":"\\u00e9","uris":["\\u00e9.com"]}', "é", ["é.com"]),
    ],
)
def test_tolerance(payload: bytes, host: str, uris: list[str]) -> None:
    registration = read(payload)
    assert registration is not None
    assert (registration.spec.host, registration.uris) == (host, uris)


@pytest.mark.parametrize("payload", [b"null", b"{}", b'{"host":"a"}', b'{"uris":null}', b'{"uris":[],"x":1}'])
def test_messages_without_effect(payload: bytes) -> None:
    assert read(payload) is None


@pytest.mark.parametrize(
    ("payload", "kind", "words"),
    [
        (b"", "json", "not JSON"),
        (b"{", "json", "not JSON"),
        (b"not json", "json", "not JSON"),
        (b"\x78\x9c\x8b\x8e\x05\x00", "json", "not JSON"),
        (b'{"uris":["a"]} x', "json", "not JSON"),
        (b'{"host":"\xff","uris":["a"]}', "json", "not JSON"),
        (b"[" * 100_000, "json", "not JSON"),
        (b"[]", "type", "a JSON object is expected, not list"),
        (b'"x"', "type", "a JSON object is expected, not str"),
        (b"7", "type", "a JSON object is expected, not int"),
        (b'{"host":1}', "type", "($.host)"),
        (b'{"port":"80"}', "type", "($.port)"),
        (b'{"port":80.0}', "type", "($.port)"),
        (b'{"port":true}', "type", "($.port)"),
        (b'{"port":-1}', "port", "port must be 0 to 65535, not -1"),
        (b'{"port":65536}', "port", "port must be 0 to 65535, not 65536"),
        (b'{"tls_port":65536,"X":1}', "port", "tls_port must be 0 to 65535, not 65536"),
        (b'{"uris":"a.com"}', "type", "($.uris)"),
        (b'{"uris":[1]}', "type", "($.uris[0])"),
        (b'{"app":7}', "type", "($.app)"),
        (b'{"private_instance_index":0}', "type", "($.private_instance_index)"),
        (b'{"tags":{"a":1}}', "type", "($.tags[...])"),
        (b'{"tags":[]}', "type", "($.tags)"),
        (b'{"stale_threshold_in_seconds":1.5}', "type", "($.stale_threshold_in_seconds)"),
        (b'{"stale_threshold_in_seconds":9223372036854775808}', "type", "stale_threshold_in_seconds must be"),
        (b'{"endpoint_updated_at_ns":-9223372036854775809}', "type", "endpoint_updated_at_ns must be"),
        (b'{"options":"round-robin"}', "type", "($.options)"),
        (b'{"options":{"loadbalancing":1}}', "type", "options.loadbalancing must be a string"),
        (
            b'{"route_service_url":"http://x"}',
            "route_service_url",
            "Unable to validate message. route_service_url must be https",
        ),
    ],
)
def test_messages_that_are_dropped_whole(payload: bytes, kind: str, words: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(payload)
    assert caught.value.kind == kind
    assert words in str(caught.value)


option = st.sampled_from(["loadbalancing", "hash_header", "hash_key", "hash_balance", "weight", "max_conns", "a"])
json_value = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just(1.5)
json_value |= st.lists(json_value, max_size=2) | st.dictionaries(option, json_value)
keys = st.sampled_from(
    ["host", "Port", "port", "tls_port", "uris", "tags", "options", "stale_threshold_in_seconds", "x"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault
@given(st.dictionaries(keys, json_value, max_size=5).map(lambda message: json.dumps(message).encode()) | st.binary())
def test_whatever_comes_is_read_or_refused_with_a_reason(payload: bytes) -> None:
    with contextlib.suppress(Malformed):
        registration = read(payload)
        assert registration is None or registration.uris
