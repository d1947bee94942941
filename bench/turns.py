"""Comparing servers in turns, where neither processes nor moments are like each other."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

Kind = TypeVar("Kind")
Started = TypeVar("Started")


def by_turns(
    kinds: Sequence[Kind],
    start: Callable[[ExitStack, Kind], Started],
    cost: Callable[[Kind, Started], float],
    rounds: int,
    turns: int,
) -> dict[Kind, list[float]]:
    """Costs of each kind, by turns: in a round all are started anew, and take turns, backwards every other time."""
    found: dict[Kind, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        with ExitStack() as stack:
            started = {kind: start(stack, kind) for kind in kinds}
            for turn in range(turns):
                for kind in kinds[:: (1, -1)[(number + turn) % 2]]:
                    found[kind].append(cost(kind, started[kind]))
    return found
