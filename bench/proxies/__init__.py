"""The proxies under test: one row each, one file each.

`start` runs the proxy for the length of a with block and gives a `Running`; it raises `Missing` when it is
not installed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from . import aiohttp_naive, caddy, envoy, haproxy, nginx, router
from .base import Place, Running

Start = Callable[[Place], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy under test."""

    name: str
    about: str
    start: Start
    like_router: bool
    """It adds the router's request headers and writes the router's access log."""


BASIS = "nginx+log"
"""CPU per request is compared with this one: the same work, done by nginx."""

PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("router", "this project: control and one worker", router.start, True),
        Proxy(BASIS, "nginx, the router's headers, access log buffered", nginx.start_like_router, True),
        Proxy("nginx", "nginx, plain proxy_pass, no log", nginx.start_plain, False),
        Proxy("haproxy+log", "HAProxy, the router's headers, access log unbuffered", haproxy.start, True),
        Proxy("envoy+log", "Envoy, the router's headers, access log buffered", envoy.start, True),
        Proxy("caddy+log", "Caddy, the router's headers, access log as JSON", caddy.start, True),
        Proxy("aiohttp", "aiohttp server and client, no log", aiohttp_naive.start, False),
    )
}
