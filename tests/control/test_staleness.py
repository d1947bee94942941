"""The wheel: what is fresh is not looked at, what is stale is found."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from router.control.staleness import Wheel


@dataclass(eq=False)
class Item:
    refreshed: float
    time_to_live: float
    dead: bool = False


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(-5, 60)), max_size=20),
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 19), st.booleans()), max_size=15),
)
def test_exactly_what_is_stale_is_found_and_once(
    made: list[tuple[float, int]], passes: list[tuple[float, int, bool]]
) -> None:
    now = 50.0
    items = [Item(at, ttl) for at, ttl in made]
    wheel: Wheel[Item] = Wheel()
    for item in items[::2]:
        wheel.add(item)
    wheel.add_later(item for item in items[1::2])
    watched = set(items)
    for seconds, which, dies in passes:
        now += seconds
        if which < len(items):
            items[which].refreshed = now
            items[which].dead |= dies
        stale = {item for item in watched if now - item.refreshed > item.time_to_live}
        found = wheel.expired(now)
        assert len(set(found)) == len(found)
        assert set(found) == {item for item in stale if not item.dead}
        watched -= stale
