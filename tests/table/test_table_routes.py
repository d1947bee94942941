"""The route table of a worker: look-ups (contract §3.3), changes, and one table in the place of another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.messages import (
    DropEndpoint,
    DropPool,
    DropRoute,
    EndpointSpec,
    NewRoute,
    PutEndpoint,
    PutPool,
    PutRoute,
    RouteOptions,
    TableOp,
    pack,
)
from router.table.routes import RouteTable
from tests.support.table import contents, found, routes, table

PATHS = ("host.com/foo", "host.com", "host.com/foo/bar")
WILD = ("*.wild.com", "*.wild.com/p", "x.wild.com/only")
NESTED = ("*.com", "*.c.com", "*.b.c.com", "c.com/deep", "a.b.c.com/x", "*.c.com/x/y")


@pytest.mark.parametrize(
    ("registered", "host", "path", "pool"),
    [
        (PATHS, "host.com", "/FOO", "host.com/foo"),
        (PATHS, "host.com", "/foo/", "host.com/foo"),
        (PATHS, "host.com", "/foo/x", "host.com/foo"),
        (PATHS, "host.com", "/foobar", "host.com"),
        (PATHS, "host.com", "/foo/bar/baz?q", "host.com/foo/bar"),
        (PATHS, "host.com", "/foo?/bar", "host.com/foo"),
        (PATHS, "host.com", "/foo%3F/bar", "host.com"),
        (PATHS, "host.com", "/f%6fo", "host.com"),
        (PATHS, "host.com", "//foo", "host.com"),
        (PATHS, "host.com", "/foo//bar", "host.com/foo"),
        (PATHS, "host.com", "/foo/../x", "host.com/foo"),
        (PATHS, "host.com", "", "host.com"),
        (PATHS, "host.com", "*", "host.com"),
        (PATHS, "other.com", "/foo", None),
        (PATHS, "sub.host.com", "/", None),
        (WILD, "a.b.wild.com", "/", "*.wild.com"),
        (WILD, "q.wild.com", "/p/1", "*.wild.com/p"),
        (WILD, "x.wild.com", "/", "*.wild.com"),
        (WILD, "x.wild.com", "/only/this", "x.wild.com/only"),
        (WILD, "wild.com", "/", None),
        (NESTED, "a.b.c.com", "/", "*.b.c.com"),
        (NESTED, "a.b.c.com", "/x", "a.b.c.com/x"),
        (NESTED, "z.b.c.com", "/x/y", "*.b.c.com"),
        (NESTED, "b.c.com", "/x/y", "*.c.com/x/y"),
        (NESTED, "c.com", "/deep/er", "c.com/deep"),
        (NESTED, "c.com", "/", "*.com"),
        (("*",), "a.com", "/", None),
        (("*",), "com", "/", None),
        (("a.com:8080",), "a.com", "/", None),
        (("",), "", "/", ""),
        (("a.com",), "a.com.", "/", "a.com"),
        (("*.com",), "a.com.", "/", "*.com"),
        (("a.com.", "a.com"), "a.com.", "/", "a.com."),
        (("a.com.", "a.com"), "a.com", "/", "a.com"),
        (("a.com",), "a.com..", "/", "a.com"),
        (("ä.com/é",), "ä.com", "/é/x", "ä.com/é"),
    ],
)
def test_lookup(registered: tuple[str, ...], host: str, path: str, pool: str | None) -> None:
    assert found(table(routes(*registered)), host, path) == pool


@pytest.mark.parametrize(
    ("empty", "host", "path", "pool"),
    [
        (("a.com",), "a.com", "/", "a.com"),  # it hides the wildcard
        (("a.com",), "a.com", "/p/x", "a.com/p"),
        (("a.com/p",), "a.com", "/p/x", "a.com"),  # a pool with endpoints wins over a longer empty one
        (("a.com", "a.com/p"), "a.com", "/p/x", "a.com/p"),
        (("a.com", "a.com/p"), "a.com", "/q", "a.com"),
        (("a.com", "a.com/p", "*.com"), "b.com", "/", "*.com"),
    ],
)
def test_empty_pools(empty: tuple[str, ...], host: str, path: str, pool: str) -> None:
    keys = ("a.com", "a.com/p", "*.com")
    ops = [*routes(*keys), *(DropRoute(key, keys.index(key) + 1) for key in empty)]
    assert found(table(ops), host, path) == pool


def test_an_endpoint_is_appended_or_takes_the_place_of_another() -> None:
    spec = EndpointSpec("10.0.0.1", 1)
    made = table([*(PutEndpoint.of(n, n, spec) for n in (1, 2, 3, 4)), PutPool("a.com", "/", "rr")])
    made.apply([PutRoute("a.com", 1), PutRoute("a.com", 2), PutRoute("a.com", 3, replaces=1), PutRoute("a.com", 4, 9)])
    assert [e.id for e in made.pools["a.com"].endpoints] == [3, 2, 4]
    made.apply([DropRoute("a.com", 2), DropRoute("a.com", 2)])
    assert [e.id for e in made.pools["a.com"].endpoints] == [3, 4]


def test_an_endpoint_that_takes_a_place_keeps_the_mark_and_the_connections_of_its_peer() -> None:
    ops: list[TableOp] = [*routes("a.com"), PutEndpoint.of(2, 1, EndpointSpec("10.0.0.1", 1, app="new"))]
    made = table([*ops, PutEndpoint.of(3, 1, EndpointSpec("10.0.0.1", 1, tls=True))])
    first, same, other = (made.endpoints[id] for id in (1, 2, 3))
    first.failed_at, first.connections = 5.0, "idle ones"
    made.apply([PutRoute("a.com", 2, replaces=1)])
    assert (same.failed_at, same.connections, first.connections) == (5.0, "idle ones", None)
    made.apply([PutRoute("a.com", 3, replaces=2)])
    assert (other.failed_at, other.connections, same.connections) == (5.0, None, "idle ones")


def test_a_new_algorithm_brings_a_new_strategy_and_the_same_one_keeps_it() -> None:
    made = table(routes("a.com"))
    before = made.pools["a.com"].strategy
    made.apply([PutPool("a.com", "/other", "rr")])
    assert made.pools["a.com"].strategy is before
    assert made.pools["a.com"].context_path == "/"
    made.apply([PutPool("a.com", "/", "least")])
    assert made.pools["a.com"].strategy.name == "least"


def test_what_is_not_there_can_be_dropped() -> None:
    made = table([DropPool("a.com"), DropRoute("a.com", 1), DropEndpoint(1), PutRoute("a.com", 1)])
    assert contents(made) == contents(table())


def test_a_dropped_pool_takes_every_node_with_it_that_led_only_there() -> None:
    made = table(routes("a.com/x/y/z", "a.com/x", "b.com"))
    before = contents(table(routes("a.com/x/y/z", "a.com/x", "b.com")))
    made.apply([PutPool("a.com/x/y/z/deeper", "/", "rr"), DropPool("a.com/x/y/z/deeper")])
    assert contents(made)["tree"] == before["tree"]
    made.apply([DropPool("a.com/x/y/z"), DropPool("b.com")])
    assert contents(made)["tree"] == {b"a.com": (None, {b"x": ("a.com/x", {})})}
    made.apply([DropPool("a.com/x")])
    assert made.hosts == {}


class Idle:
    """Idle connections that can be closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def test_a_dropped_endpoint_closes_its_connections() -> None:
    made = table(routes("a.com"))
    idle = made.endpoints[1].connections = Idle()
    made.apply([DropEndpoint(1)])
    assert idle.closed


def test_a_new_table_inherits_what_its_predecessor_learned() -> None:
    old = table(routes("a.com", "b.com", "gone.com"))
    kept, lost = Idle(), Idle()
    old.endpoints[1].connections, old.endpoints[3].connections = kept, lost
    old.endpoints[2].failed_at = 7.0
    new = table([*routes("b.com", start=2), PutEndpoint.of(9, 1, EndpointSpec("10.0.0.1", 1, app="renamed"))])
    new.inherit(old)
    assert new.endpoints[9].connections is kept
    assert new.endpoints[2].failed_at == 7.0
    assert (kept.closed, lost.closed) == (False, True)


def test_no_connection_of_an_old_table_stays_open_unused() -> None:
    plain, tls = EndpointSpec("10.0.0.1", 1), EndpointSpec("10.0.0.1", 1, tls=True)
    old = table([PutEndpoint.of(1, 1, plain), PutEndpoint.of(2, 1, tls)])
    first = old.endpoints[1].connections = Idle()
    second = old.endpoints[2].connections = Idle()
    table().inherit(old)
    assert (first.closed, second.closed) == (True, True)


def test_connections_go_to_the_endpoint_that_speaks_the_same() -> None:
    plain, tls = EndpointSpec("10.0.0.1", 1), EndpointSpec("10.0.0.1", 1, tls=True)
    old = table([PutEndpoint.of(1, 1, plain), PutEndpoint.of(2, 1, tls)])
    first = old.endpoints[1].connections = Idle()
    second = old.endpoints[2].connections = Idle()
    new = table([PutEndpoint.of(1, 1, tls), PutEndpoint.of(2, 1, plain)])
    new.inherit(old)
    assert (new.endpoints[1].connections, new.endpoints[2].connections) == (second, first)


def test_a_table_can_be_built_again_from_its_dump() -> None:
    made = table([*routes("a.com", "b.com/P"), PutPool("empty.com", "/", "least"), PutRoute("a.com", 2)])
    assert list(made.dump()) == [
        (PutPool("a.com", "/", "rr"), [(1, pack(EndpointSpec("10.0.0.1", 1))), (2, pack(EndpointSpec("10.0.0.1", 2)))]),
        (PutPool("b.com/P", "/", "rr"), [(2, pack(EndpointSpec("10.0.0.1", 2)))]),
        (PutPool("empty.com", "/", "least"), []),
    ]


# ---------------------------------------------------------------- any sequence of operations

KEYS = ["a.com", "a.com/x", "a.com/x/y", "*.com", "b.a.com", "*.a.com/x", "c.org/é", ""]
IDS = [1, 2, 3]
key, id = st.sampled_from(KEYS), st.sampled_from(IDS)
operation: st.SearchStrategy[Any] = st.one_of(
    st.builds(PutEndpoint.of, id, id, st.builds(EndpointSpec, st.just("10.0.0.1"), st.sampled_from([1, 2]))),
    st.builds(PutPool, key, st.just("/"), st.sampled_from(["rr", "least"])),
    st.builds(PutRoute, key, id, st.sampled_from([0, *IDS])),
    st.builds(DropRoute, key, id),
    st.builds(DropPool, key),
)


def snapshot(of: RouteTable) -> list[TableOp]:
    """The operations that make a table like this one at once."""
    ops: list[TableOp] = [PutEndpoint.of(e.id, e.slot, e.spec) for e in of.endpoints.values()]
    for pool in of.pools.values():
        ops.append(PutPool(pool.key, pool.context_path, pool.algorithm))
        ops += [PutRoute(pool.key, e.id) for e in pool.endpoints]
    return ops


def by_reading_all(of: RouteTable, host: str, path: str) -> str | None:
    """The rules of contract §3.3, read off without a tree."""
    segments = path.partition("?")[0].removesuffix("/").lower().split("/")[1:]
    names = [host, *(f"*.{host.split('.', n)[n]}" for n in range(1, host.count(".") + 1))]
    for name in names:
        keys = ["/".join([name, *segments[:n]]) for n in range(len(segments), -1, -1)]
        if full := next((key for key in keys if key in of.pools and of.pools[key].endpoints), None):
            return full
        reached = next((key for key in keys if any(f"{k}/".startswith(f"{key}/") for k in of.pools)), None)
        if reached in of.pools:
            return reached
    return None


@given(st.lists(operation, max_size=30))
def test_deltas_lead_to_what_a_snapshot_leads_to(ops: list[TableOp]) -> None:
    made = table()
    for op in ops:
        made.apply([op])
    again = table(snapshot(made))
    assert {k: v for k, v in contents(made).items() if k != "endpoints"} == {
        k: v for k, v in contents(again).items() if k != "endpoints"
    }


def test_a_new_route_is_its_operations_at_once() -> None:
    endpoints = [PutEndpoint.of(n, n, EndpointSpec("10.0.0.1", n, weight=n)) for n in (1, 2)]
    pool = PutPool("a.com/x", "/X", "least")
    one_by_one: list[TableOp] = [pool]
    for put in endpoints:
        one_by_one += put, PutRoute("a.com/x", put.id)
    assert contents(table([NewRoute(pool, endpoints)])) == contents(table(one_by_one))


@given(
    st.lists(operation, max_size=30),
    st.sampled_from(["a.com", "b.a.com", "c.b.a.com", "c.org", "com", ""]),
    st.lists(st.sampled_from(["x", "Y", "é", ""]), max_size=3).map(lambda parts: "/" + "/".join(parts)),
)
def test_any_table_finds_what_reading_all_of_it_finds(ops: list[TableOp], host: str, path: str) -> None:
    made = table(ops)
    assert found(made, host, path) == by_reading_all(made, host, path)


def test_every_name_used_as_a_strategy_maker_is_called_once_a_pool() -> None:
    made: list[str] = []

    def maker(name: str, options: RouteOptions) -> None:
        made.append(name)

    RouteTable(table().loads, maker).apply(routes("a.com", "b.com"))
    assert made == ["rr", "rr"]
