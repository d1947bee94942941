"""From a registered URI to its route key and context path (contract §1, §2.4, §3.1). Text in, text out."""

from __future__ import annotations


def route_key(uri: str) -> str:
    """The key of a route: lower case, without query, less one trailing and one leading slash."""
    key = uri.lower()
    query = key.find("?")
    if query >= 0:
        key = key[:query]
    if key.endswith("/"):
        key = key[:-1]
    return key.removeprefix("/")


def context_path(uri: str) -> str:
    """The path part of a URI in its own spelling, `/` when it has none."""
    path = uri.partition("?")[0].removeprefix("/").removesuffix("/")
    slash = path.find("/")
    return path[slash:] if slash >= 0 else "/"


def host_of(key: str) -> str:
    """The host of a route key."""
    return key.partition("/")[0]
