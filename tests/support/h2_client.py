"""An HTTP/2 client that does what a test says, decent or not: frames in, events out."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from hyperframe.frame import Frame, GoAwayFrame

from tests.support import certs

TIMEOUT = 10.0


class H2Client:
    """One connection. `events` are all that came, `bodies` what came of each stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int | None) -> None:
        self.reader = reader
        self.writer = writer
        self.conn = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.events: list[Event] = []
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.automatic = window is None
        """What comes is acknowledged at once."""
        self.closed = False
        self.goaway = -1
        """Error code of the server's GOAWAY. h2 itself would read no further after one."""
        self.last_streams: list[int] = []
        """What the GOAWAYs said of streams: the highest that may be answered."""
        self.conn._frame_dispatch_table[GoAwayFrame] = self._goaway
        self.conn.initiate_connection()

    def _goaway(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        self.goaway = frame.error_code
        self.last_streams.append(frame.last_stream_id)
        return [], []

    @classmethod
    async def to(cls, port: int, window: int | None = None) -> H2Client:
        """Connect; with `window`, received data is never acknowledged by itself."""
        context = certs.client()
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="app.test")
        client = cls(reader, writer, window)
        await client.flush()
        return client

    def fields(
        self, method: str = "GET", path: str = "/", host: str = "app.test", **extra: str
    ) -> list[tuple[str, str]]:
        pseudo = [(":method", method), (":scheme", "https"), (":authority", host), (":path", path)]
        return [*pseudo, *((name.replace("_", "-"), value) for name, value in extra.items())]

    async def flush(self) -> None:
        self.writer.write(self.conn.data_to_send())
        await self.writer.drain()

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str = "GET", path: str = "/", body: bytes | None = None, **extra: str) -> int:
        """Send a request whose body fits the window; the stream's number."""
        id = self.conn.get_next_available_stream_id()
        self.conn.send_headers(id, self.fields(method, path, **extra), end_stream=body is None)
        if body is not None:
            largest = self.conn.max_outbound_frame_size
            for start in range(0, len(body), largest):
                self.conn.send_data(id, body[start : start + largest])
            self.conn.end_stream(id)
        await self.flush()
        return id

    async def more(self) -> bool:
        """Take in what comes next; False at the end."""
        async with asyncio.timeout(TIMEOUT):
            try:
                data = await self.reader.read(1 << 16)
            except (ConnectionError, ssl.SSLError):
                data = b""
        if not data:
            self.closed = True
            return False
        for event in self.conn.receive_data(data):
            self.events.append(event)
            if isinstance(event, DataReceived):
                self.bodies[event.stream_id] += event.data or b""
                if self.automatic and event.flow_controlled_length:
                    self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        await self.flush()
        return True

    def of(self, kind: type[Event], id: int | None = None) -> list[Event]:
        return [
            event
            for event in self.events
            if isinstance(event, kind) and id in (None, getattr(event, "stream_id", None))
        ]

    async def until(self, kind: type[Event], id: int | None = None) -> Event:
        """The first such event; fails at the end of the connection."""
        while not (found := self.of(kind, id)):
            if not await self.more():
                raise AssertionError(f"no {kind.__name__} in {self.events}")
        return found[0]

    async def response(self, id: int) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, fields and body of a response that is complete."""
        await self.until(StreamEnded, id)
        (head,) = self.of(ResponseReceived, id)
        fields = dict(head.headers)  # type: ignore[attr-defined]
        return int(fields[b":status"]), fields, self.bodies[id]

    async def end(self) -> int:
        """Read to the end of the connection; the error code of its GOAWAY, -1 without one."""
        while await self.more():
            pass
        return self.goaway

    async def reset_code(self, id: int) -> int:
        return int((await self.until(StreamReset, id)).error_code)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.writer.close()
