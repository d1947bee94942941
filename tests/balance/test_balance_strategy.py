"""How strategies are found."""

from __future__ import annotations

import pytest

from router.balance.round_robin import RoundRobin
from router.balance.strategy import Strategy, StrategyError, load_strategy
from router.control.settings import installed_strategies
from router.messages import NO_OPTIONS


@pytest.mark.parametrize("name", sorted(installed_strategies()))
def test_installed_strategies_load(name: str) -> None:
    assert isinstance(load_strategy(name, installed_strategies()[name])(NO_OPTIONS, RoundRobin), Strategy)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("router.balance.nowhere:It", "No module named"),
        ("router.balance.round_robin:Nobody", "has no attribute 'Nobody'"),
        ("router.balance.round_robin", "can't be loaded"),
        ("router.table.pool:Pool", "has no method pick(pool, request)"),
        ("router.balance.strategy:ENTRY_POINT_GROUP", "has no method pick(pool, request)"),
    ],
)
def test_what_is_no_strategy_is_named(reference: str, words: str) -> None:
    with pytest.raises(StrategyError, match=r"'mine' \(") as caught:
        load_strategy("mine", reference)
    assert reference in str(caught.value)
    assert words in str(caught.value)
