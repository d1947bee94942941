"""Two connections joined after a backend's 101: bytes both ways, read by nobody (contract §8.6, RFC 9110 §7.8).

The tunnel takes the two transports over from their HTTP protocols. Either side's end ends the other once what is under
way has been delivered. A side that reads slowly stops the other from being read. A tunnel without traffic in either
direction for the client idle time-out is closed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange
    from router.proxy.plane import Plane


class _Side(asyncio.Protocol):
    """One end: what comes in here goes out at `other`."""

    __slots__ = ("_tunnel", "other", "transport")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, other: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.other = other

    def data_received(self, data: bytes) -> None:
        self._tunnel.last_used = self._tunnel.plane.clock.now
        self.other.write(data)

    def pause_writing(self) -> None:
        # This side takes no more: stop reading what would be sent to it.
        if not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.is_closing():
            self.other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.other.close()
        self._tunnel.side_lost()


class Tunnel:
    """A joined pair. Ends its exchange when both sides have ended."""

    __slots__ = ("_exchange", "_open", "client", "last_used", "plane", "server")

    def __init__(self, plane: Plane, exchange: Exchange, client: asyncio.Transport, server: asyncio.Transport) -> None:
        self.plane = plane
        self.client = client
        self.server = server
        self.last_used = plane.clock.now
        self._exchange = exchange
        self._open = 2
        plane.tunnels.add(self)
        client.set_protocol(_Side(self, client, server))
        server.set_protocol(_Side(self, server, client))

    def check(self, now: float) -> None:
        """Called at every tick of the clock."""
        limit = self.plane.settings.frontend_idle_timeout
        if limit and now - self.last_used >= limit:
            self.close()

    def close(self) -> None:
        """End both sides after what is under way."""
        self.client.close()
        self.server.close()

    def side_lost(self) -> None:
        """One side has ended for good."""
        self._open -= 1
        if not self._open:
            self.plane.tunnels.discard(self)
            self._exchange.tunnel_ended()
