"""Which address to announce: one that routers can reach, or a clear word why not.

Routers dial what is announced. A loopback address leads every router to itself, so it is refused unless the bus is on
this machine too, where routers may well be.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

_SOME_PORT = 9


class AddressError(Exception):
    """No address can be announced; the message says why, and the remedy."""


def own_address(target: str) -> str:
    """The address of this machine from which `target`, a host, is reached. Nothing is sent. Raises AddressError."""
    try:
        family, kind, protocol, _, peer = socket.getaddrinfo(target, _SOME_PORT, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(peer)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise AddressError(
            f"can't tell from which address this machine reaches {target}: {error.strerror or error}; "
            "name the address to announce with `host:`"
        ) from error


def is_here(host: str) -> bool:
    """A loopback or unspecified address, or a name for one."""
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def check_address(name: str, host: str, servers: Sequence[str], allow_loopback: bool) -> None:
    """Refuse what would lead routers to themselves; `servers` are the hosts of the bus. Raises AddressError."""
    remote = [server for server in servers if not is_here(server)]
    if remote and is_here(host) and not allow_loopback:
        raise AddressError(
            f"route {name}: {host} is this machine's loopback address, but NATS is at {remote[0]}: every router would "
            "look for the backend on its own machine. Name a reachable address with `host:`, leave `host` out to "
            "announce the address that leads to NATS, or set `allow_loopback: true` if that is meant"
        )
