"""Hosts that went, and hosts that come near."""

from __future__ import annotations

import functools
import operator

import pytest

from router.control import history as history_module
from router.control.history import History, batches, nearest

KNOWN = {"hello.example.com", "help.example.com", "shop.example.com", "*.wild.com", "console.sys.net"}


@pytest.mark.parametrize(
    ("host", "first"),
    [
        ("helo.example.com", "hello.example.com"),  # a letter left out
        ("helllo.example.com", "hello.example.com"),  # put in
        ("hallo.example.com", "hello.example.com"),  # changed
        ("ehllo.example.com", "hello.example.com"),  # swapped
        ("shop.example.org", "shop.example.com"),  # another domain
        ("consoel.syss.net", "console.sys.net"),  # alike as a whole
        ("nothing.like.it", None),
        ("", None),
    ],
)
def test_nearest(host: str, first: str | None) -> None:
    assert (nearest(host, KNOWN) or [None])[0] == first


def test_at_most_three_and_never_the_host_itself() -> None:
    known = {f"a{n}.com" for n in range(9)}
    assert nearest("a1.com", known) == ["a0.com", "a2.com", "a3.com"]


def test_a_host_that_went_and_came_again() -> None:
    now = 100.0
    history = History(lambda: now)
    history.went("a.com", "it failed")
    now = 107.0
    assert history.explain("a.com") == ["It was served until 1970-01-01 00:01:40 UTC, 7 s ago: it failed."]
    history.came("a.com")
    assert history.explain("a.com") == []


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "REMEMBERED", 2)
    history = History(lambda: 0.0)
    for host in ("a", "b", "a", "c"):
        history.went(host, "x")
    assert [bool(history.explain(host)) for host in "abc"] == [True, False, True]


def test_a_look_through_the_table_is_bounded_in_time() -> None:
    assert list(batches(range(1000), seconds=0.0)) == []
    assert functools.reduce(operator.iadd, batches(range(1000), seconds=60.0), []) == list(range(1000))


def test_events_of_a_host() -> None:
    history = History(lambda: 5.0)
    history.happened("registered", "a.com", ("h:1",), "x")
    history.happened("registered", "a.com/p", ("h:1",), "y")
    history.happened("pruned", "a.company", ("h:1",), "z")
    assert [(event.when, event.what, event.why) for event in history.of("a.com")] == [
        (5.0, "registered", "x"),
        (5.0, "registered", "y"),
    ]
    assert len(history.of("")) == 3


def test_what_is_written_down_later_stands_in_its_place() -> None:
    now = 100.0
    history = History(lambda: now)
    named = [("a.com", "h:1"), ("b.com", "h:2")]
    history.happened_later("registered", (pair for pair in named), len(named), "another router knew it")
    now = 101.0
    history.happened("unregistered", "a.com", ["h:1"], "it said so")
    history.happened_later("registered", iter([("a.com", "h:3")]), 1, "another router knew it")
    assert [(event.when, event.what, event.address) for event in history.of("")] == [
        (100.0, "registered", "h:1"),
        (100.0, "registered", "h:2"),
        (101.0, "unregistered", "h:1"),
        (101.0, "registered", "h:3"),
    ]
    assert not history.settle()


def test_of_what_would_not_be_kept_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "EVENTS", 3)
    history = History(lambda: 0.0)
    for host in "abc":
        history.happened_later("registered", [(host, "h:1"), (host, "h:2")], 2, "another router knew it")
    assert history.settle()
    assert history.settle()
    assert not history.settle()
    assert [event.route for event in history.of("")] == ["b", "c", "c"]
