"""Static routes in the registry: never stale, and out of reach of the bus."""

from __future__ import annotations

from router.control.merging import Route, merge
from router.messages import EndpointSpec, PutPool, PutRoute, TableOp, pack
from tests.control.test_registry import House, spec


def static(port: int, source: str = "file", **about: object) -> EndpointSpec:
    return EndpointSpec("10.0.0.1", port, stale_after=0, source=source, **about)  # type: ignore[arg-type]


def test_they_never_go_stale() -> None:
    house = House(stale_threshold=120.0)
    house.register(2)
    house.registry.set_static([("a.com", static(1))])
    house.pass_time(1000)
    assert house.routes() == {"a.com": [1]}


def test_the_bus_neither_changes_nor_removes_them() -> None:
    house = House()
    house.registry.set_static([("a.com", static(1, app="mine"))])
    house.told()
    house.register(1, app="theirs")
    house.unregister(1)
    house.pass_time(1000)
    assert house.told() == []
    assert house.routes() == {"a.com": [1]}


def test_another_router_tells_of_none() -> None:
    house = House()
    ops: list[TableOp] = []
    told = [Route("a.com", "/", None, [(static(1), house.registry.now), (spec(2), house.registry.now)])]
    assert merge(house.registry, told, 0.0, ops) == 1
    assert house.routes() == {"a.com": [2]}


def test_they_take_the_place_of_what_the_bus_said() -> None:
    house = House()
    house.register(1)
    house.told()
    house.registry.set_static([("a.com", static(1))])
    assert [op.replaces for op in house.told() if isinstance(op, PutRoute)] == [1]
    house.pass_time(1000)
    assert house.routes() == {"a.com": [1]}
    house.registry.set_static([])
    assert house.routes() == {}


def test_a_new_set_replaces_the_old_one() -> None:
    house = House()
    house.registry.set_static([("a.com", static(1)), ("b.com", static(1)), ("b.com/p", static(2))])
    house.registry.set_static([("b.com", static(1, "api")), ("b.com", static(1)), ("c.com", static(3))])
    assert house.routes() == {"b.com": [1], "c.com": [3]}
    assert [s.source for _, specs in house.registry.routes() for s in specs] == ["api", "file"]


def test_one_of_them_that_fails_stays() -> None:
    house = House()
    house.registry.set_static([("a.com", static(1, tls=True))])
    house.registry.remove_unfit("a.com", 1, "no certificate")
    assert house.routes() == {"a.com": [1]}


def test_a_table_of_workers_brings_them_and_the_next_set_decides() -> None:
    house = House()
    house.registry.load(
        [(PutPool("a.com", "/", "round-robin"), [(0, pack(static(1))), (1, pack(spec(2, stale_after=120)))])]
    )
    house.registry.set_static([])
    assert house.routes() == {"a.com": [2]}
