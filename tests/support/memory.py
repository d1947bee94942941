"""The data plane without a network: transports that only remember what was written to them.

Bytes go in at a frontend, and what the router makes of them comes out at a backend, or the other way round, in one
step. So a hundred thousand strange messages take seconds.
"""

from __future__ import annotations

import asyncio
from typing import Any

from router import in_flight
from router.in_flight import InFlight
from router.messages import EndpointSpec, PutEndpoint, PutPool, PutRoute, WorkerSettings
from router.proxy.backend_h1 import BackendH1
from router.proxy.backend_h2 import BackendH2
from router.proxy.connections import Connections
from router.proxy.exchange import Exchange
from router.proxy.frontend_h1 import FrontendH1
from router.proxy.frontend_h2 import FrontendH2
from router.proxy.plane import Plane
from tests.support.wire import STRATEGIES, RecordingLog


class Transport:
    """Takes what is written; knows whether it was closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: Any) -> None:
        pass

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return ("127.0.0.1", 1234) if name.endswith("name") else None


class MemoryPlane:
    """A plane with one route, `app.test`, whose endpoint's connections exist in memory only."""

    def __init__(self, **settings: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.plane = Plane(self.loop, InFlight(in_flight.create(64)), RecordingLog())
        self.plane.configure(WorkerSettings(**{"strategies": STRATEGIES, "endpoint_timeout": 0.0, **settings}))
        spec = EndpointSpec("127.0.0.1", 1)
        self.plane.table.apply(
            [PutEndpoint.of(1, 1, spec), PutPool("app.test", "/", "round-robin"), PutRoute("app.test", 1)]
        )

    def connect(self) -> tuple[FrontendH1, Transport, BackendH1, Transport]:
        """A client's connection and an idle connection to the backend, both new."""
        client = Transport()
        frontend = FrontendH1(self.plane)
        frontend.connection_made(client)  # type: ignore[arg-type]
        ((backend, server),) = self._idle(1)
        return frontend, client, backend, server

    def connect_h2(self, idle: int) -> tuple[FrontendH2, Transport, list[tuple[BackendH1, Transport]]]:
        """A client's HTTP/2 connection, and `idle` connections to the backend, all new."""
        client = Transport()
        frontend = FrontendH2(self.plane)
        frontend.connection_made(client)  # type: ignore[arg-type]
        return frontend, client, self._idle(idle)

    def _idle(self, count: int) -> list[tuple[BackendH1, Transport]]:
        """New idle connections to the backend, in the place of those before."""
        connections = self.plane.table.endpoints[1].connections = Connections()
        servers = []
        for _ in range(count):
            server = Transport()
            backend = BackendH1(self.plane)
            backend.connection_made(server)  # type: ignore[arg-type]
            backend.connections = connections
            connections.give(backend, count)
            servers.append((backend, server))
        return servers

    def connect_to_h2(self) -> tuple[FrontendH1, Transport, BackendH2, Transport]:
        """A client's connection and one to the backend that speaks HTTP/2, both new."""
        client, server = Transport(), Transport()
        frontend = FrontendH1(self.plane)
        frontend.connection_made(client)  # type: ignore[arg-type]
        backend = BackendH2(self.plane)
        backend.connection_made(server)  # type: ignore[arg-type]
        connections = self.plane.table.endpoints[1].connections = Connections()
        connections.add(backend)
        return frontend, client, backend, server

    def turn(self) -> None:
        """What waits for the end of this turn of the loop is done."""
        self.loop.run_until_complete(asyncio.sleep(0))

    def dialled(self, exchange: Exchange) -> tuple[BackendH1, Transport]:
        """The connection that an exchange waits for: made here, and not by the loop."""
        assert exchange._dialling is not None
        assert exchange.endpoint is not None
        exchange._dialling.cancel()
        exchange._dialling = None
        self.loop.run_until_complete(asyncio.sleep(0))  # the cancelled task ends
        backend, server = BackendH1(self.plane), Transport()
        backend.connection_made(server)  # type: ignore[arg-type]
        connections = exchange.endpoint.connections
        assert connections is not None
        exchange._send(connections.add(backend))
        return backend, server

    def close(self) -> None:
        self.loop.close()


def through(memory: MemoryPlane, message: bytes, pieces: int = 1, *, answer: bytes = b"") -> tuple[bytes, bytes]:
    """A client's bytes: what backends get of them, and what the client is told.

    The backend gives `answer` to every complete request, so that those behind it have their turn, and takes further
    connections; empty = it answers none.
    """
    frontend, client, backend, server = memory.connect()
    servers = [server]
    size = max(1, -(-len(message) // pieces))
    for at in range(0, len(message), size):
        if client.closed:
            break
        frontend.data_received(message[at : at + size])
        while answer and (exchange := frontend.exchange) is not None:
            if exchange._dialling is not None:
                backend, server = memory.dialled(exchange)
                servers.append(server)
            if backend.exchange is None or not exchange.request_done or server.closed:
                break
            backend.data_received(answer)
    frontend.connection_lost(None)
    if not server.closed:
        backend.connection_lost(None)
    return b"".join(server.written for server in servers), client.written


def back(memory: MemoryPlane, request: bytes, message: bytes, pieces: int = 1) -> bytes:
    """A backend's bytes in answer to `request`: what the client gets of them."""
    frontend, client, backend, server = memory.connect()
    frontend.data_received(request)
    size = max(1, -(-len(message) // pieces))
    for at in range(0, len(message), size):
        if server.closed:
            break
        backend.data_received(message[at : at + size])
    if not server.closed:
        backend.connection_lost(None)
    if not client.closed:
        frontend.connection_lost(None)
    return client.written
