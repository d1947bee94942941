"""Places in the block of in-flight counts."""

from __future__ import annotations

from router.control.slots import Slots


def test_a_slot_that_was_given_back_is_given_again() -> None:
    slots = Slots(64, lambda slot: True)
    assert [slots.take(), slots.take()] == [1, 2]
    slots.give_back(1)
    assert [slots.take(), slots.take()] == [1, 3]


def test_a_slot_with_requests_is_not_given_to_another_address() -> None:
    busy = {1}
    slots = Slots(64, lambda slot: slot not in busy)
    slots.give_back(slots.take())
    assert slots.take() == 2
    busy.clear()
    assert slots.take() == 1


def test_a_full_block_counts_no_more_and_recovers() -> None:
    slots = Slots(3, lambda slot: True)
    assert [slots.take() for _ in range(4)] == [1, 2, 0, 0]
    slots.give_back(0)
    slots.give_back(1)
    assert [slots.take(), slots.take()] == [1, 0]


def test_a_reserved_slot_is_taken() -> None:
    slots = Slots(64, lambda slot: True)
    assert slots.reserve(5)
    assert not slots.reserve(5)
    assert not slots.reserve(64)  # not in the block
    assert slots.reserve(3)
    assert sorted(slots.take() for _ in range(4)) == [1, 2, 4, 6]
