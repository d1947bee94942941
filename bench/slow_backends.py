"""Backends that answer after a while, several in one process: `python slow_backends.py SECONDS…`, one for each.

Prints their ports on one line. Any request gets the same small answer.
"""

import asyncio
import sys

import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Backend(asyncio.Protocol):
    """One connection; no pipelining."""

    transport: asyncio.Transport

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"\r\n\r\n"):
            self.received = b""
            self.loop.call_later(self.seconds, self.answer)

    def answer(self) -> None:
        """Time is up; the client may be gone."""
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main(delays: list[float]) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda s=seconds: Backend(s), "127.0.0.1", 0) for seconds in delays]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(main([float(text) for text in sys.argv[1:]]))
