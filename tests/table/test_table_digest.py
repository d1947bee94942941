"""Digests of a table: what comes in bulk is worked out later, and counts like what came one by one."""

from __future__ import annotations

import pytest

from router.table import digest
from router.table.digest import TableDigest

ENTRIES = [("a.test", b"one"), ("a.test/path", b"two"), ("b.test", b"three")]


def at_once() -> TableDigest:
    made = TableDigest()
    for key, packed in ENTRIES:
        made.toggle(key, packed)
    return made


@pytest.mark.parametrize(("most", "behind"), [(150_000, 3), (2, 1)])
def test_what_waits_counts_as_soon_as_it_is_asked_for(most: int, behind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest, "MOST_WAITING", most)
    made = TableDigest()
    made.toggle_later(iter(ENTRIES[:2]), 2)
    made.toggle_later(iter(ENTRIES[2:]), 1)
    assert made.behind == behind
    assert made.differing(at_once().pack()) == frozenset()
    assert made.behind == 0


def test_what_goes_while_it_waits_leaves_nothing() -> None:
    made = TableDigest()
    made.toggle_later(ENTRIES, 3)
    made.toggle(*ENTRIES[1])
    made.toggle_later([ENTRIES[0], *ENTRIES[2:]], 2)
    assert made.pack() == TableDigest().pack()
