"""Per-route options: from a registration's JSON to what the pool of a worker has (contract §4.5, §4.8)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from router.control.bus import registrations
from router.control.bus.route_options import read_options
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.messages import NO_OPTIONS, EndpointSpec, PutPool, RouteOptions, TableOp
from router.table.endpoint import Endpoint, Loads
from router.table.pool import Pool
from router.table.routes import RouteTable
from tests.support.wire import RecordingLog

HASH = RouteOptions("hash", "header:tenant-id", 1.25, asked="hash")

READ: tuple[tuple[dict[str, Any] | None, dict[str, str] | None, RouteOptions | None, int], ...] = (
    (None, None, None, 1),
    ({}, {}, None, 1),
    ({"unknown": 1}, None, None, 1),
    ({"loadbalancing": "least-connection"}, None, RouteOptions("least-connection", asked="least-connection"), 1),
    ({"LoadBalancing": "x"}, None, RouteOptions("x", asked="x"), 1),
    ({"lb_algo": "x"}, None, RouteOptions("x", asked="x"), 1),
    ({"loadbalancing": "hash", "hash_header": "Tenant-Id", "hash_balance": 1.25}, None, HASH, 1),
    ({"loadbalancing": "hash", "hash_header": "Tenant-Id", "hash_balance": "1.25"}, None, HASH, 1),
    (
        {"loadbalancing": "consistent-hash", "hash_key": "Cookie:Session", "hash_balance": 0},
        None,
        RouteOptions("consistent-hash", "cookie:Session", asked="consistent-hash"),
        1,
    ),
    ({"weight": 5}, None, None, 5),
    ({"weight": 0}, None, None, 0),
    (None, {"weight": "95"}, None, 95),
    ({"weight": 5}, {"weight": "95"}, None, 5),
    ({"endpoint_timeout": 2.5, "max_conns": 7}, None, RouteOptions(endpoint_timeout=2.5, max_conns=7), 1),
)

PROBLEMS: tuple[tuple[dict[str, Any] | None, dict[str, str] | None, str, str], ...] = (
    ({"loadbalancing": "hash"}, None, "", "options.hash_header is missing, hash needs it"),
    ({"loadbalancing": "hash", "hash_header": 3}, None, "", "options.hash_header must be a header's name, not 3"),
    (
        {"loadbalancing": "hash", "hash_header": "a b"},
        None,
        "",
        "options.hash_header must be a header's name, not 'a b'",
    ),
    (
        {"loadbalancing": "hash", "hash_header": "a", "hash_balance": 0.5},
        None,
        "",
        "options.hash_balance must be 0, or a number of 1 or more, not 0.5",
    ),
    (
        {"loadbalancing": "round-robin", "hash_balance": []},
        None,
        "round-robin",
        "options.hash_balance must be 0, or a number of 1 or more, not []",
    ),
    (
        {"loadbalancing": "consistent-hash", "hash_key": "moon"},
        None,
        "",
        "options.hash_key must be `client_address`, `path`, `header:NAME`, `cookie:NAME` or `query:NAME`, not 'moon'",
    ),
    ({"weight": 1.5}, None, "", "options.weight must be a whole number, 0 to 65535, not 1.5"),
    (None, {"weight": "heavy"}, "", "tag weight must be a whole number, 0 to 65535, not 'heavy'"),
    ({"endpoint_timeout": -1}, None, "", "options.endpoint_timeout must be a number of seconds, 0 or more, not -1"),
    ({"max_conns": True}, None, "", "options.max_conns must be a whole number, 0 or more, not True"),
)


@pytest.mark.parametrize(("options", "tags", "read", "weight"), READ)
def test_options_are_read(options: Any, tags: Any, read: RouteOptions | None, weight: int) -> None:
    assert read_options(options, tags) == (read, weight)


@pytest.mark.parametrize(("options", "tags", "algorithm", "problem"), PROBLEMS)
def test_a_wrong_option_is_told_and_not_heeded(options: Any, tags: Any, algorithm: str, problem: str) -> None:
    read, weight = read_options(options, tags)
    assert read is not None
    assert (read.load_balancing, read.problem, weight) == (algorithm, problem, 1)


def test_only_a_loadbalancing_that_is_no_string_drops_the_message() -> None:
    with pytest.raises(registrations.Malformed, match=r"options\.loadbalancing must be a string"):
        registrations.read(json.dumps({"uris": ["a.com"], "options": {"loadbalancing": 1}}).encode())
    read = registrations.read(json.dumps({"uris": ["a.com"], "options": {"loadbalancing": "hash"}}).encode())
    assert read is not None


class Router:
    """A registry, and the table of a worker that hears of its changes."""

    def __init__(self) -> None:
        self.log = RecordingLog()
        self.loads = Loads(None)  # type: ignore[arg-type]
        self.table = RouteTable(self.loads, lambda name, options: object())
        self.sent: list[TableOp] = []
        names = frozenset(("round-robin", "least-connection", "hash"))
        self.registry = Registry(RegistrySettings(algorithms=names), self.take, self.log)

    def take(self, ops: list[TableOp]) -> None:
        self.sent += ops
        self.table.apply(ops)

    def register(self, port: int, **options: Any) -> Pool:
        read, weight = read_options(options, None)
        self.registry.register(EndpointSpec("10.0.0.1", port, options=read, weight=weight), ["a.com"])
        return self.table.pools["a.com"]


def test_the_last_options_win_and_no_options_change_nothing() -> None:
    router = Router()
    pool = router.register(1)
    assert (pool.algorithm, pool.options) == ("round-robin", NO_OPTIONS)
    before = pool.strategy
    router.register(1, loadbalancing="hash", hash_header="Tenant-Id", hash_balance=1.25)
    assert (pool.algorithm, pool.options) == ("hash", RouteOptions("hash", "header:tenant-id", 1.25))
    assert pool.strategy is not before
    router.register(2)
    router.register(2, max_conns=3)
    assert pool.options == RouteOptions("hash", "header:tenant-id", 1.25, max_conns=3)
    router.register(3, loadbalancing="least-connection")
    assert pool.options == RouteOptions("least-connection", max_conns=3)
    router.register(1, loadbalancing="hash", hash_header="Tenant-Id", hash_balance=1.25)  # a heartbeat
    assert pool.algorithm == "hash"
    assert not [name for name in router.log.names() if name.startswith("invalid")]
    assert [op.pool for op in router.registry.snapshot()] == [PutPool("a.com", "/", "hash", pool.options)]


def test_options_that_are_not_heeded_are_logged_once_and_the_route_works() -> None:
    router = Router()
    for _ in range(2):
        pool = router.register(1, loadbalancing="hash")
        router.register(2, loadbalancing="fastest")
        router.register(3, weight="heavy")
    assert pool.algorithm == "round-robin"
    assert len(pool.endpoints) == 3
    said = [
        (event, data.get("endpointLBAlgorithm"), data.get("error"))
        for event, data in router.log.events
        if event.startswith("invalid")
    ]
    keeping = "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo"
    assert said == [
        (keeping, "hash", "options.hash_header is missing, hash needs it"),
        (keeping, "fastest", None),
        ("invalid-route-options", None, "options.weight must be a whole number, 0 to 65535, not 'heavy'"),
    ]


def test_a_pool_knows_whether_weights_matter_and_that_it_changed() -> None:
    router = Router()
    pool = router.register(1)
    assert not pool.weighted
    version = pool.version
    router.register(2, weight=19)
    assert pool.weighted
    assert pool.version > version
    assert [endpoint.weight for endpoint in pool.endpoints] == [1, 19]
    router.registry.unregister("10.0.0.1", 2, ["a.com"])
    assert not pool.weighted


def test_a_table_taken_back_from_a_worker_keeps_its_options() -> None:
    router, successor = Router(), Router()
    router.register(1, loadbalancing="hash", hash_header="a", hash_balance=2)
    successor.registry.load(router.table.dump())
    pool = successor.table.pools["a.com"]
    assert (pool.algorithm, pool.options) == ("hash", RouteOptions("hash", "header:a", 2.0))
    assert [endpoint.spec for endpoint in pool.endpoints] == [e.spec for e in router.table.pools["a.com"].endpoints]
    assert isinstance(pool.endpoints[0], Endpoint)
