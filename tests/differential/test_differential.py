"""docs/differences.md says what happens; and of the odd requests, none leaves the router with two readings."""

from __future__ import annotations

import re

import pytest

from tests.differential.compare import corpus, escaped, find, through_router, version
from tests.differential.page import PAGE, observe, versions_of


async def test_the_page_is_what_the_three_do() -> None:
    programs = find("nginx"), find("haproxy")
    if not all(programs):
        pytest.skip("needs nginx and haproxy")
    here = (await version(programs[0]), await version(programs[1]))
    if here != versions_of(PAGE.read_text()):
        pytest.skip(f"the page was made with other versions than nginx {here[0]} and HAProxy {here[1]}")
    assert await observe() == PAGE.read_text(), "write it anew: python -m tests.differential.page"


async def test_the_routers_column_holds_without_the_others() -> None:
    messages = [message for section in corpus() for message in section.requests]
    ours = dict(zip(map(escaped, messages), await through_router(messages), strict=True))
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `", PAGE.read_text().replace(r"\|", "\0"), re.MULTILINE)
    assert len(rows) > 100
    for request, outcome in rows:
        found = {text.replace("`", "'"): told.replace("`", "'") for text, told in ours.items()}
        assert found[request.replace("\0", "|")] == outcome.replace("\0", "|")


def test_the_corpus_is_large_and_has_no_request_twice() -> None:
    messages = [message for section in corpus() for message in section.requests]
    assert len(messages) >= 200
    assert len(set(messages)) == len(messages)
