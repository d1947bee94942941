"""An HTTP/2 backend whose every stream is answered by a script."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes, Settings

from tests.support import certs

Fields = list[tuple[bytes, bytes]]


class Call:
    """One request, and the means to answer it."""

    def __init__(self, connection: Connection, id: int, fields: Fields) -> None:
        self.connection = connection
        self.id = id
        self.fields = dict(fields)
        self.body = b""
        self.trailers: Fields = []
        self.code: int | None = None
        """Why the router reset the stream."""
        self.ended = asyncio.Event()
        self.moved = asyncio.Condition()
        self.acknowledge = True

    def head(self, status: int = 200, *fields: tuple[str, str], end: bool = False) -> None:
        self.connection.conn.send_headers(self.id, [(":status", str(status)), *fields], end_stream=end)
        self.connection.flush()

    async def data(self, data: bytes, end: bool = False) -> None:
        """Send as the window allows."""
        conn = self.connection.conn
        while data:
            room = min(conn.local_flow_control_window(self.id), conn.max_outbound_frame_size, len(data))
            if room:
                conn.send_data(self.id, data[:room])
                data = data[room:]
                self.connection.flush()
            else:
                await self.connection.window.wait()
                self.connection.window.clear()
        if end:
            conn.end_stream(self.id)
            self.connection.flush()

    def end(self, *trailers: tuple[str, str]) -> None:
        if trailers:
            self.connection.conn.send_headers(self.id, list(trailers), end_stream=True)
        else:
            self.connection.conn.end_stream(self.id)
        self.connection.flush()

    def reset(self, code: ErrorCodes) -> None:
        self.connection.conn.reset_stream(self.id, code)
        self.connection.flush()


Script = Callable[[Call], Awaitable[None]]


class Connection(asyncio.Protocol):
    def __init__(self, server: H2Backend) -> None:
        self.server = server
        self.conn = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.calls: dict[int, Call] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.window = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections.append(self)
        if self.server.streams is not None:
            most = {SettingCodes.MAX_CONCURRENT_STREAMS: self.server.streams}
            self.conn.local_settings = Settings(client=False, initial_values=most)
        self.conn.initiate_connection()
        self.flush()

    def flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.conn.data_to_send())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        for event in self.conn.receive_data(data):
            if isinstance(event, RequestReceived):
                call = self.calls[event.stream_id] = Call(self, event.stream_id, list(event.headers or ()))
                self.server.calls.append(call)
                task = asyncio.ensure_future(self.server.script(call))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            elif isinstance(event, DataReceived):
                call = self.calls[event.stream_id]
                call.body += event.data or b""
                if call.acknowledge and event.flow_controlled_length:
                    self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, TrailersReceived):
                self.calls[event.stream_id].trailers = list(event.headers or ())
            elif isinstance(event, StreamEnded):
                self.calls[event.stream_id].ended.set()
            elif isinstance(event, StreamReset):
                self.calls[event.stream_id].code = int(event.error_code or 0)
                self.calls[event.stream_id].ended.set()
            elif isinstance(event, WindowUpdated):
                self.window.set()
            elif isinstance(event, ConnectionTerminated):
                self.transport.close()
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        for task in self.tasks:
            task.cancel()


class H2Backend:
    """A server for one registered endpoint; `alpn` is what it agrees to, `streams` how many requests it takes at once.

    With `late` it accepts nobody before `open`: connections are made, and nothing is said.
    """

    def __init__(
        self, script: Script, alpn: tuple[str, ...] = ("h2",), *, streams: int | None = None, late: bool = False
    ) -> None:
        self.script = script
        self.streams = streams
        self.calls: list[Call] = []
        self.connections: list[Connection] = []
        self._alpn = list(alpn)
        self._late = late
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._server: asyncio.AbstractServer | None = None
        self.port: int = self._socket.getsockname()[1]

    async def __aenter__(self) -> H2Backend:
        if not self._late:
            await self.open()
        return self

    async def open(self) -> None:
        """Accept who waits, and who comes."""
        context: ssl.SSLContext = certs.server(certs.issued("instance-1"))
        context.set_alpn_protocols(self._alpn)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=self._socket, ssl=context)

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for connection in self.connections:
            connection.transport.abort()  # type: ignore[attr-defined]
