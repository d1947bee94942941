"""Who is at the other end of a client's connection: the same for all versions of HTTP."""

from __future__ import annotations

import asyncio
import sys
from fcntl import ioctl
from termios import FIONREAD
from typing import TYPE_CHECKING

from router.proxy.tls import client_certificate

if TYPE_CHECKING:
    from router.proxy.frontend_h1 import FrontendH1
    from router.proxy.frontend_h2 import FrontendH2

QUIET = 0.5
"""Seconds of idleness after which a client is not about to send: closing such a connection seldom costs a request."""


def introduce(frontend: FrontendH1 | FrontendH2, transport: asyncio.BaseTransport) -> bool:
    """Note address and certificate of the client; a PROXY header has told the address before.

    False: the rules on subjects refuse its certificate (contract §9.2), which is logged here.
    """
    if not frontend.peer:
        peer = transport.get_extra_info("peername")
        host, port = peer[:2] if peer else ("", 0)
        frontend.peer_ip = host.encode()
        frontend.peer = b"%b:%d" % (frontend.peer_ip, port)
    plane = frontend.plane
    if plane.front_door is None or (tls := transport.get_extra_info("ssl_object")) is None:
        return True
    frontend.secure = True
    frontend.client_certificate = client_certificate(tls)
    refused = plane.front_door.unwelcome(tls)
    if refused is not None:
        plane.log.warn("invalid-subject", **refused)
    return refused is None


def unread(transport: asyncio.BaseTransport) -> int:
    """Bytes that a client has sent and nobody has read yet: to close would be to reset it (RFC 1122 §4.2.2.13)."""
    sock = transport.get_extra_info("socket")
    return int.from_bytes(ioctl(sock.fileno(), FIONREAD, bytes(4)), sys.byteorder) if sock is not None else 0
