"""The ports of the status server, before there is one: a mistake with them is told at once, and who comes early waits.

The server itself takes a third of a second to import, more than control has while a whole table comes in.
"""

from __future__ import annotations

import errno
import socket

_BACKLOG = 128


class StatusError(Exception):
    """A listener that can't be had; the message names the key, the port and what to do."""


class Ports:
    """Sockets that listen: `status` and `tls` for the status port in plain HTTP and over TLS, `routes` for `/routes`.

    For each there is one an address of its host, and none where it is not wanted.
    """

    def __init__(self, host: str, status: int | None, routes: int, tls: int | None = None) -> None:
        """Port 0 = any free one, None = not at all. Raises StatusError."""
        self.status: list[socket.socket] = []
        self.tls: list[socket.socket] = []
        self.routes: list[socket.socket] = []
        try:
            if status is not None:
                self.status = listen(host, status, "status.port")
            if tls is not None:
                self.tls = listen(host, tls, "status.tls.port")
            self.routes = listen("127.0.0.1", routes, "status.routes.port")
        except StatusError:
            self.close()
            raise

    def close(self) -> None:
        """Listen no more; whoever serves a socket by then has it closed already."""
        for sock in (*self.status, *self.tls, *self.routes):
            sock.close()


def port_of(sockets: list[socket.socket]) -> int:
    """The port on which these listen, 0 for none."""
    return int(sockets[0].getsockname()[1]) if sockets else 0


def listen(host: str, port: int, key: str) -> list[socket.socket]:
    """Listen there, on every address of the host; `key` is the setting that says so. Raises StatusError."""
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, where in dict.fromkeys(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in made:
            sock.close()
        raise StatusError(_why(error, host, port, key)) from error
    return made


def _why(error: OSError, host: str, port: int, key: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{key}: port {port} on {host} is in use by another program: stop it, or set `{key}` to another port"
    if error.errno == errno.EACCES:
        return f"{key}: port {port} needs more rights than this process has: set `{key}` to one above 1023"
    return f"{key}: cannot listen on {host} port {port}: {error.strerror or error}"
