"""Listening sockets: bound by control, one per worker slot, listened on by workers only.

- The sockets of all slots share the address by SO_REUSEPORT; the kernel spreads connections over those that listen.
- Control keeps every socket open while its slot exists: a worker's death closes nothing, and connections in its accept
  queue wait for the next worker.
- SO_REUSEPORT would let a second router of the same user bind the same port and take half of the connections in
  silence. So control holds a guard: a socket on the same address without SO_REUSEADDR, which never listens. It makes
  every plain `bind` of that address fail, and a plain `bind` is how a router asks whether the port is free.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, replace

from router.control.errors import StartError


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, resolved: no names."""

    family: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_that_of(self, sock: socket.socket) -> bool:
        """The socket is bound here; port 0 stands for any."""
        host, port = sock.getsockname()[:2]
        return sock.family == self.family and host == self.host and self.port in (0, port)

    def settled(self, sock: socket.socket) -> Address:
        """This address with the port that a socket bound here has."""
        return replace(self, port=sock.getsockname()[1])


def resolve(host: str, port: int, key: str = "inet") -> Address:
    """The address to listen on. `key` is the setting that gave the host."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(
            f"{key}: {host} is no address of this machine ({error.strerror or error}); use 0.0.0.0 for all addresses"
        ) from error
    family, _, _, _, where = found[0]
    return Address(family, str(where[0]), port)


class Listeners:
    """The sockets of all slots on one address. `address` has the true port once the first is bound."""

    def __init__(self, address: Address, key: str = "port") -> None:
        """`key` is the setting that gave the port."""
        self.address = address
        self._key = key
        self._sockets: dict[int, socket.socket] = {}
        self._guard: socket.socket | None = None

    def adopt(self, slot: int, sock: socket.socket) -> None:
        """Take over the socket that a living worker listens on."""
        self.address = self.address.settled(sock)
        self._sockets[slot] = sock

    def bind(self, slots: int, *, shared: bool = False) -> None:
        """Bind what slots 0 to `slots` - 1 still lack. Raises StartError when the address can't be had.

        `shared`: workers of ours hold the address already, so it is not asked whether somebody does.
        """
        try:
            if self.address.port and not self._sockets and not shared:
                _bound(self.address, reuse_port=False).close()
            for slot in range(slots):
                if slot not in self._sockets:
                    self._sockets[slot] = sock = _bound(self.address)
                    self.address = self.address.settled(sock)
            if self._guard is None:
                self._guard = _bound(self.address, reuse_address=False)
        except OSError as error:
            self.close()
            raise StartError(_explained(self.address, self._key, error)) from error

    def share(self, slots: int, sock: socket.socket) -> None:
        """Have all slots listen on one socket that somebody else bound for us (socket activation)."""
        self.address = Address(sock.family, *sock.getsockname()[:2])
        for slot in range(slots):
            self._sockets.setdefault(slot, sock.dup())

    def of(self, slot: int) -> socket.socket:
        """The socket of a slot; it stays ours, so pass on its descriptor or a copy."""
        return self._sockets[slot]

    def close(self) -> None:
        """Close everything. Where no worker listens any more, connections are refused from now on."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        if self._guard is not None:
            self._guard.close()
            self._guard = None


def _bound(address: Address, *, reuse_port: bool = True, reuse_address: bool = True) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((address.host, address.port))
    except BaseException:
        sock.close()
        raise
    return sock


def _explained(address: Address, key: str, error: OSError) -> str:
    flag = "-p PORT or " if key == "port" else ""
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{key}: {address.port} is in use on {address.host}; "
                f"stop what listens there, or choose another port with {flag}`{key}:` in the configuration"
            )
        case errno.EACCES:
            return (
                f"{key}: {address.port} needs rights this user lacks; choose one above 1023 with {flag}`{key}:` "
                "in the configuration, or give the router CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL:
            return f"inet: {address.host} is no address of this machine; use 0.0.0.0 for all addresses"
        case _:
            return f"{key}: can't listen on {address}: {error.strerror or error}"
