"""The registry by contract §2.3 to §2.7: what it holds, what it tells workers, what it writes in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.entries import Entry
from router.control.history import History
from router.control.registry import Registry
from router.control.table import RegistrySettings
from router.control.unknown import explain_missing
from router.messages import (
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    PutEndpoint,
    PutPool,
    PutRoute,
    RouteOptions,
    TableOp,
    pack,
)
from tests.support.table import contents, table
from tests.support.wire import RecordingLog


class House:
    """A registry with a clock to set; `ops` are those that workers got, in order."""

    def __init__(self, slot_idle: Any = lambda slot: True, **options: Any) -> None:
        self.now = 1000.0
        self.ops: list[TableOp] = []
        self.log = RecordingLog()
        self.registry = Registry(
            RegistrySettings(**options),
            self.ops.extend,
            self.log,
            capacity=64,
            slot_idle=slot_idle,
            clock=lambda: self.now,
            history=History(lambda: self.now),
        )

    def register(self, port: int, *uris: str, **about: Any) -> None:
        self.registry.register(spec(port, **about), uris or ("a.com",))

    def unregister(self, port: int, *uris: str, segment: str = "") -> None:
        self.registry.unregister("10.0.0.1", port, uris or ("a.com",), segment)

    def pass_time(self, seconds: float, connected: bool = True) -> None:
        """So much later a pass of pruning."""
        self.now += seconds
        self.registry.prune(connected)

    def routes(self) -> dict[str, list[int]]:
        """Route key → ports, in pool order."""
        return {key: [spec.port for spec in specs] for key, specs in self.registry.routes()}

    def told(self) -> list[TableOp]:
        """What workers were told since the last question."""
        told = self.ops[:]
        self.ops.clear()
        return told


def spec(port: int, **about: Any) -> EndpointSpec:
    return EndpointSpec("10.0.0.1", port, **{"stale_after": 0, **about})


def asking(algorithm: str) -> RouteOptions:
    return RouteOptions(algorithm, asked=algorithm)


# ---------------------------------------------------------------- coming (§2.4)


def test_a_new_endpoint_makes_the_pool_and_is_told_once_for_all_uris() -> None:
    house = House()
    house.register(1, "A.com/Foo/", "b.com", app="x")
    made = spec(1, app="x", stale_after=120)
    assert house.told() == [
        PutPool("a.com/foo", "/Foo", "round-robin"),
        PutEndpoint.of(1, 1, made),
        PutRoute("a.com/foo", 1),
        PutPool("b.com", "/", "round-robin"),
        PutRoute("b.com", 1),
    ]
    assert house.log.names() == ["route-registered", "endpoint-registered"] * 2
    assert (len(house.registry), house.registry.addresses) == (2, 1)


def test_a_heartbeat_tells_nobody_anything() -> None:
    house = House()
    house.register(1)
    house.told(), house.log.events.clear()
    house.now += 5
    house.register(1)
    assert (house.told(), house.log.events) == ([], [])
    assert house.registry.ms_since_update == 0


def test_every_uri_registered_is_added_or_updated_and_a_heartbeat_is_an_update() -> None:
    house = House()
    house.register(1, "a.com", "b.com", tags=(("component", "x"),))
    assert house.registry.messages == {("x", "added"): 2}
    house.register(1, "a.com", "b.com", tags=(("component", "x"),))
    house.register(1, "a.com", app="other")
    repeat = house.registry.register(spec(1, app="other"), ["a.com"])
    assert repeat is not None
    assert house.registry.refresh(repeat, house.now)
    assert house.registry.messages == {("x", "added"): 2, ("x", "updated"): 2, ("", "updated"): 3}


def test_ms_since_update_counts_from_the_last_registration() -> None:
    house = House()
    assert house.registry.ms_since_update == -1
    house.register(1)
    house.now += 1.5
    assert house.registry.ms_since_update == 1500


@pytest.mark.parametrize(
    "change",
    [
        {"app": "other"},
        {"instance_id": "other"},
        {"instance_index": "1"},
        {"tags": (("component", "x"),)},
        {"tls": True},
        {"protocol": "http2"},
        {"server_cert_domain_san": "x"},
        {"isolation_segment": "x"},
        {"availability_zone": "x"},
        {"route_service_url": "https://x"},
        {"stale_after": 60},
        {"options": asking("least-connection")},
    ],
)
def test_any_difference_replaces_the_endpoint_where_it_stands(change: dict[str, Any]) -> None:
    house = House()
    for port in (1, 2):
        house.register(port)
    house.told()
    house.register(1, **change)
    told = house.told()
    assert told[:3] == [
        PutEndpoint.of(3, 1, spec(1, **{"stale_after": 120, **change})),
        PutRoute("a.com", 3, replaces=1),
        DropEndpoint(1),
    ]
    assert house.routes() == {"a.com": [1, 2]}


def test_one_message_with_fewer_uris_splits_the_endpoint() -> None:
    house = House()
    house.register(1, "a.com", "b.com")
    house.told()
    house.register(1, "a.com", app="new")
    assert house.told() == [PutEndpoint.of(2, 1, spec(1, app="new", stale_after=120)), PutRoute("a.com", 2, replaces=1)]
    house.register(1, "b.com", app="new")
    assert house.told() == [PutRoute("b.com", 2, replaces=1), DropEndpoint(1)]


def test_plain_and_tls_at_one_address_are_one_endpoint() -> None:
    house = House()
    house.register(1)
    house.register(1, tls=True)
    assert [specs for _, specs in house.registry.routes()] == [[spec(1, tls=True, stale_after=120)]]


def test_the_context_path_keeps_its_first_spelling() -> None:
    house = House()
    house.register(1, "a.com/Foo")
    house.register(2, "a.com/FOO")
    assert [op.pool for op in house.registry.snapshot()] == [PutPool("a.com/foo", "/Foo", "round-robin")]


@pytest.mark.parametrize("uri", ["", "/", "*", "a.com:80", "a.com.", "x?y", "é/ö", "a b"])
def test_any_string_is_a_route(uri: str) -> None:
    house = House()
    house.register(1, uri)
    assert len(house.registry) == 1
    house.unregister(1, uri)
    assert len(house.registry) == 0


@pytest.mark.parametrize(
    ("sent", "threshold", "kept"), [(0, 120, 120), (121, 120, 120), (120, 120, 120), (1, 120, 1), (-1, 120, -1)]
)
def test_time_to_live(sent: int, threshold: float, kept: int) -> None:
    house = House(stale_threshold=threshold)
    house.register(1, stale_after=sent)
    assert [specs[0].stale_after for _, specs in house.registry.routes()] == [kept]


# ---------------------------------------------------------------- the algorithm of a pool (§4.5)


def test_the_last_valid_algorithm_becomes_the_pools_and_stays() -> None:
    house = House()
    house.register(1)
    house.told()
    house.register(1, options=asking("least-connection"))
    assert PutPool("a.com", "/", "least-connection", RouteOptions("least-connection")) in house.told()
    house.register(2, options=None)
    assert not [op for op in house.told() if isinstance(op, PutPool)]
    house.register(2, options=asking("round-robin"))
    assert PutPool("a.com", "/", "round-robin", RouteOptions("round-robin")) in house.told()
    house.register(1, options=asking("least-connection"))  # unchanged, but the last word on the pool
    assert house.told() == [PutPool("a.com", "/", "least-connection", RouteOptions("least-connection"))]


def test_an_unknown_algorithm_is_logged_and_the_endpoint_added() -> None:
    house = House()
    house.register(1, options=asking("dice"))
    assert house.routes() == {"a.com": [1]}
    assert (
        "invalid-endpoint-load-balancing-algorithm-provided-keeping-pool-lb-algo",
        {"uri": "a.com", "endpointLBAlgorithm": "dice", "poolLBAlgorithm": "round-robin"},
    ) in house.log.events


# ---------------------------------------------------------------- going (§2.5)


def test_only_the_address_is_compared() -> None:
    house = House()
    house.register(1, "a.com", "b.com", app="x", tls=True)
    house.told(), house.log.events.clear()
    house.unregister(1, "A.com/")
    assert house.told() == [DropRoute("a.com", 1), DropPool("a.com")]
    assert house.log.names() == ["endpoint-unregistered", "route-unregistered"]
    house.unregister(1, "b.com")
    assert house.told() == [DropRoute("b.com", 1), DropEndpoint(1), DropPool("b.com")]
    assert house.registry.addresses == 0


def test_an_unknown_address_is_logged_and_an_unknown_route_passed_over() -> None:
    house = House()
    house.register(1)
    house.told(), house.log.events.clear()
    house.unregister(2, "a.com", "nobody.com")
    assert house.told() == []
    assert house.log.names() == ["endpoint-not-unregistered"]


def test_an_emptied_pool_waits_for_its_time_out() -> None:
    house = House(keep_empty_pools=True, empty_pool_timeout=10.0)
    house.register(1)
    house.told()
    house.unregister(1)
    assert house.told() == [DropRoute("a.com", 1), DropEndpoint(1)]
    house.pass_time(10)
    assert house.routes() == {"a.com": []}
    house.pass_time(0.1)
    assert house.told() == [DropPool("a.com")]


def test_an_emptied_pool_that_fills_again_stays() -> None:
    house = House(keep_empty_pools=True, empty_pool_timeout=10.0)
    house.register(1)
    house.unregister(1)
    house.register(2)
    house.pass_time(100)
    assert house.routes() == {"a.com": [2]}


@pytest.mark.parametrize("options", [{}, {"keep_empty_pools": True}, {"empty_pool_timeout": 10.0}])
def test_an_emptied_pool_goes_at_once_unless_both_keys_say_otherwise(options: dict[str, Any]) -> None:
    house = House(**options)
    house.register(1)
    house.unregister(1)
    assert house.routes() == {}


# ---------------------------------------------------------------- sharding (§3.6)


@pytest.mark.parametrize(
    ("mode", "accepted"), [("all", ["", "x", "y"]), ("segments", ["x"]), ("shared-and-segments", ["", "x"])]
)
def test_isolation_segments(mode: str, accepted: list[str]) -> None:
    for segment in ("", "x", "y"):
        house = House(sharding_mode=mode, isolation_segments=frozenset(["x"]))
        house.register(1, isolation_segment=segment)
        assert house.routes() == ({"a.com": [1]} if segment in accepted else {})
        assert bool(house.log.events) == (segment in accepted)  # refusals are silent


def test_unregister_needs_an_accepted_segment_too() -> None:
    house = House(sharding_mode="segments", isolation_segments=frozenset(["x"]))
    house.register(1, isolation_segment="x")
    house.unregister(1)
    assert house.routes() == {"a.com": [1]}
    house.unregister(1, segment="x")
    assert house.routes() == {}


# ---------------------------------------------------------------- staleness (§2.7)


def test_what_is_not_registered_again_for_longer_than_its_time_to_live_goes() -> None:
    house = House()
    house.register(1, "a.com", "b.com", isolation_segment="x")
    house.register(2)
    house.told(), house.log.events.clear()
    house.now += 120
    house.register(2)  # a heartbeat
    house.pass_time(0)
    assert house.routes() == {"a.com": [1, 2], "b.com": [1]}
    house.pass_time(0.1)
    assert house.routes() == {"a.com": [2]}
    assert house.told() == [DropRoute("a.com", 1), DropRoute("b.com", 1), DropEndpoint(1), DropPool("b.com")]
    assert house.log.events == [
        ("pruned-route", {"uri": key, "endpoints": ["10.0.0.1:1"], "isolation_segment": "x"})
        for key in ("a.com", "b.com")
    ]
    assert house.registry.pruned == 2


def test_every_pool_has_a_time_of_its_own() -> None:
    house = House()
    house.register(1, "a.com", "b.com")
    house.now += 100
    house.register(1, "a.com")
    house.pass_time(50)
    assert house.routes() == {"a.com": [1]}


def test_a_shorter_time_to_live_counts_from_when_it_was_told() -> None:
    house = House()
    house.register(1)
    house.register(1, stale_after=10)
    house.pass_time(11)
    assert house.routes() == {}


def test_a_longer_time_to_live_too() -> None:
    house = House()
    house.register(1, stale_after=10)
    house.register(1, stale_after=60)
    house.pass_time(59)
    assert house.routes() == {"a.com": [1]}
    house.pass_time(2)
    assert house.routes() == {}


def test_a_negative_time_to_live_is_over_at_once() -> None:
    house = House()
    house.register(1, stale_after=-1)
    house.pass_time(0)
    assert house.routes() == {}


def test_tls_endpoints_do_not_age() -> None:
    house = House()
    house.register(1, tls=True)
    house.pass_time(10**6)
    assert house.routes() == {"a.com": [1]}
    house.register(1, tls=False)  # now it does
    house.pass_time(121)
    assert house.routes() == {}


def test_a_plain_endpoint_that_turned_tls_does_not_age() -> None:
    house = House()
    house.register(1)
    house.register(1, tls=True)
    house.pass_time(10**6)
    assert house.routes() == {"a.com": [1]}


@pytest.mark.parametrize("suspend", [True, False])
def test_without_the_bus_pruning_goes_on_or_is_suspended(suspend: bool) -> None:
    house = House(suspend_pruning=suspend)
    house.register(1)
    house.pass_time(1000, connected=False)
    assert house.routes() == ({"a.com": [1]} if suspend else {})
    assert ("prune-suspended" in house.log.names()) == suspend
    house.pass_time(1000)  # the first pass after: all are fresh
    assert house.routes() == ({"a.com": [1]} if suspend else {})
    house.pass_time(121)
    assert house.routes() == {}


# ---------------------------------------------------------------- unfit endpoints (§7.4)


def test_an_unfit_tls_endpoint_leaves_its_pool_and_the_empty_pool_waits_for_a_pass() -> None:
    house = House()
    house.register(1, "a.com", "b.com", tls=True)
    house.told()
    house.registry.remove_unfit("a.com", 1, "bad certificate")
    assert house.told() == [DropRoute("a.com", 1)]
    assert house.routes() == {"a.com": [], "b.com": [1]}
    assert house.log.names()[-1] == "prune-failed-endpoint"
    house.pass_time(1)
    assert house.routes() == {"b.com": [1]}


@pytest.mark.parametrize(("key", "id", "tls"), [("a.com", 1, False), ("a.com", 2, True), ("b.com", 1, True)])
def test_a_late_or_plain_report_is_without_effect(key: str, id: int, tls: bool) -> None:
    house = House()
    house.register(1, tls=tls)
    house.told()
    house.registry.remove_unfit(key, id, "late")
    assert house.told() == []
    assert house.routes() == {"a.com": [1]}


# ---------------------------------------------------------------- taken over from workers


def test_a_table_from_a_worker_is_fresh_and_keeps_slots_and_what_is_known_already() -> None:
    house = House()
    house.register(1, app="told by the bus")
    house.now += 100
    old = [(7, pack(spec(2, stale_after=60))), (9, pack(spec(1, app="of old", stale_after=120)))]
    least = asking("least-connection").over(RouteOptions())
    put = [PutPool(key, path, "least-connection", least) for key, path in (("a.com", "/"), ("b.com/x", "/X"))]
    house.registry.load([(pool, old) for pool in put])
    assert house.routes() == {"a.com": [1, 2], "b.com/x": [2, 1]}
    copy = table(house.registry.snapshot())
    assert (copy.pools["b.com/x"].algorithm, copy.pools["b.com/x"].options) == ("least-connection", least)
    assert {endpoint.spec.port: endpoint.slot for endpoint in copy.endpoints.values()} == {1: 1, 2: 7}
    house.pass_time(61)
    assert house.routes() == {"a.com": [1], "b.com/x": [1]}
    house.pass_time(60)
    assert house.routes() == {}


# ---------------------------------------------------------------- what it says of hosts without a route


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("paths.com", "paths.com has routes for these paths only: /a, /b"),
        ("x.wild.com", "*.wild.com has routes for these paths only: /p"),
        ("w.com", "*.w.com has routes, but a wildcard does not cover w.com itself."),
        ("gone.com", "It was served until 1970-01-01 00:16:40 UTC, 5 s ago: its last instance unregistered."),
        ("heloo.com", "Registered hosts that come near: hello.com"),
        ("hello.org", "Registered hosts that come near: hello.com"),
        ("zzz.example", "No registered host comes near."),
        ("x" * 254, "No host name is longer than 253 letters."),
    ],
)
def test_explanations(host: str, words: str) -> None:
    house = House()
    house.register(1, "paths.com/b", "paths.com/a", "*.wild.com/p", "*.w.com", "hello.com", "gone.com")
    house.unregister(1, "gone.com")
    house.now += 5
    assert words in explain_missing(house.registry, host)


# ---------------------------------------------------------------- any sequence of events

PORTS, URIS = [1, 2, 3], ["a.com", "A.com/", "a.com/x", "*.com", "b.com"]
port = st.sampled_from(PORTS)
uris = st.lists(st.sampled_from(URIS), min_size=1, max_size=3)
about = st.fixed_dictionaries(
    {},
    optional={
        "app": st.sampled_from(["", "x"]),
        "tls": st.booleans(),
        "stale_after": st.sampled_from([0, 20, 60, -1]),
        "options": st.sampled_from([None, *map(asking, ("least-connection", "round-robin", "dice"))]),
    },
)
event = st.one_of(
    st.tuples(st.just("register"), port, uris, about),
    st.tuples(st.just("unregister"), port, uris),
    st.tuples(st.just("pass_time"), st.sampled_from([0.5, 10.0, 50.0]), st.booleans()),
    st.tuples(st.just("unfit"), st.integers(1, 9), st.sampled_from(["a.com", "b.com"])),
)


class Model:
    """Contract §2.4 to §2.7 in the plainest words: key → address → endpoint and when it was last registered."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pools: dict[str, dict[int, list[Any]]] = {}

    def register(self, port: int, uris: Sequence[str], about: dict[str, Any]) -> None:
        told = spec(port, **about)
        told = EndpointSpec(*[v if n != "stale_after" or v else 120 for n, v in zip_fields(told)])
        for uri in uris:
            self.pools.setdefault(uri.lower().removesuffix("/"), {})[port] = [told, self.now]

    def unregister(self, port: int, uris: Sequence[str]) -> None:
        for uri in uris:
            key = uri.lower().removesuffix("/")
            if key in self.pools:
                self.pools[key].pop(port, None)
                if not self.pools[key]:
                    del self.pools[key]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for key, pool in list(self.pools.items()):
            self.pools[key] = {p: e for p, e in pool.items() if e[0].tls or self.now - e[1] <= e[0].stale_after}
            if not self.pools[key]:
                del self.pools[key]


def zip_fields(of: EndpointSpec) -> list[tuple[str, Any]]:
    return [(name, getattr(of, name)) for name in of.__struct_fields__]


@settings(max_examples=200, deadline=None)
@given(st.lists(event, max_size=30), st.sampled_from([0.0, 30.0]), st.booleans())
def test_workers_always_have_the_registrys_table(
    events: list[tuple[Any, ...]], kept: float, slots_are_idle: bool
) -> None:
    house = House(lambda slot: slots_are_idle, keep_empty_pools=True, empty_pool_timeout=kept, suspend_pruning=True)
    worker, model = table(), Model()
    exact = kept == 0.0
    for kind, *args in events:
        match kind, args:
            case "register", [port, uris, about]:
                house.register(port, *uris, **about)
                model.register(port, uris, about)
            case "unregister", [port, uris]:
                house.unregister(port, *uris)
                model.unregister(port, uris)
            case "pass_time", [seconds, connected]:
                exact = exact and connected
                house.pass_time(seconds, connected)
                model.pass_time(seconds)
            case "unfit", [id, key]:
                exact = False
                house.registry.remove_unfit(key, id, "failed")
        worker.apply(house.told())
        assert contents(worker) == contents(table(house.registry.snapshot()))
        slots = {e.address: e.slot for e in worker.endpoints.values()}
        assert len(set(slots.values())) == len(slots) == house.registry.addresses
        assert all(e.slot == slots[e.address] for e in worker.endpoints.values())
        if exact:
            held = {key: [spec for spec, _ in pool.values()] for key, pool in model.pools.items()}
            assert dict(house.registry.routes()) == held


def test_what_is_gone_is_not_held_by_what_went_before_it() -> None:
    house = House()
    hosts = [f"{number}.com" for number in range(20)]
    held = [house.registry.register(spec(1, app=host), [host]) for host in hosts][-1]  # all at one address
    for host in reversed(hosts):
        house.unregister(1, host)
    assert isinstance(held, Entry)  # as one is held that was repeated a moment ago
    assert held.endpoint.other is None


def test_what_is_remembered_of_many_that_went_the_same_way_is_one_sentence() -> None:
    house = House()
    for number in range(20):
        house.register(number + 1, f"{number}.com")
        house.register(number + 1, "a.com")
    house.pass_time(200.0)
    pruned = [event.why for event in house.registry.history.of("") if event.what == "pruned"]
    assert len(pruned) == 40
    assert len({id(why) for why in pruned}) == 1
