"""Places in the block of in-flight counts."""

from __future__ import annotations

from router.control.slots import Slots


def test_one_slot_an_address_whatever_stands_there() -> None:
    slots = Slots(64, lambda slot: True)
    assert [slots.take(address) for address in ("a", "b", "a")] == [1, 2, 1]
    assert len(slots) == 2
    slots.give_back("a")
    assert slots.take("a") == 1
    slots.give_back("a")
    slots.give_back("a")
    assert len(slots) == 1
    assert slots.take("c") == 1


def test_a_slot_with_requests_is_not_given_to_another_address() -> None:
    busy = {1}
    slots = Slots(64, lambda slot: slot not in busy)
    slots.take("a")
    slots.give_back("a")
    assert slots.take("b") == 2
    busy.clear()
    assert slots.take("c") == 1


def test_a_full_block_counts_no_more_and_recovers() -> None:
    slots = Slots(3, lambda slot: True)
    assert [slots.take(address) for address in "abcd"] == [1, 2, 0, 0]
    slots.give_back("c")
    slots.give_back("a")
    assert [slots.take(address) for address in "ef"] == [1, 0]


def test_a_reserved_slot_is_what_its_address_gets() -> None:
    slots = Slots(64, lambda slot: True)
    slots.reserve("a", 5)
    slots.reserve("b", 5)  # taken
    slots.reserve("c", 64)  # not in the block
    slots.reserve("d", 3)
    slots.reserve("a", 4)  # it has one
    assert {address: slots.take(address) for address in "ad"} == {"a": 5, "d": 3}
    assert sorted(slots.take(address) for address in "bcef") == [1, 2, 4, 6]
