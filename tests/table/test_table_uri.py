"""Route keys and context paths (contract §1, §3.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.table.uri import context_path, host_of, route_key


@pytest.mark.parametrize(
    ("uri", "key", "path"),
    [
        ("a.com", "a.com", "/"),
        ("A.Com", "a.com", "/"),
        ("a.com/", "a.com", "/"),
        ("/a.com", "a.com", "/"),
        ("Host.com/Foo/", "host.com/foo", "/Foo"),
        ("host.com/foo/bar?x=1", "host.com/foo/bar", "/foo/bar"),
        ("host.com?x=/1", "host.com", "/"),
        ("host.com/a%3Fb", "host.com/a%3fb", "/a%3Fb"),
        ("host.com//foo", "host.com//foo", "//foo"),
        ("host.com/foo//", "host.com/foo/", "/foo/"),
        ("*.Wild.com/P", "*.wild.com/p", "/P"),
        ("a.com:8080", "a.com:8080", "/"),
        ("a.com.", "a.com.", "/"),
        ("", "", "/"),
        ("/", "", "/"),
    ],
)
def test_key_and_context_path(uri: str, key: str, path: str) -> None:
    assert (route_key(uri), context_path(uri)) == (key, path)


@pytest.mark.parametrize(
    ("key", "host"), [("a.com", "a.com"), ("a.com/b/c", "a.com"), ("*.a.com", "*.a.com"), ("", "")]
)
def test_host(key: str, host: str) -> None:
    assert host_of(key) == host


@given(st.text(alphabet="aZ./?*é", max_size=20))
def test_the_context_path_is_that_of_the_key_but_for_case(uri: str) -> None:
    host, _, path = route_key(uri).partition("/")
    assert context_path(uri).lower() == f"/{path}"
    assert host_of(route_key(uri)) == host
