"""CPU time of one request inside the data plane, without sockets: `python -m bench.inner`.

What the kernel and the event loop take is left out, so differences of a few percent in the router's own code show,
also on a machine where others work: the best of many rounds is printed. The access log is on and goes to a file.
"""

from __future__ import annotations

import asyncio
import tempfile
import time

from tests.support.memory import MemoryPlane, Transport

ROUNDS = 40
REQUESTS = 3000
REQUEST = (
    b"GET /a/b?c=d HTTP/1.1\r\nHost: app.test\r\nUser-Agent: wrk\r\nAccept: */*\r\nCookie: a=b\r\nReferer: x\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
)


def measure(log: str) -> float:
    """Microseconds of CPU per request, at best."""
    Transport.write = lambda self, data: None  # type: ignore[method-assign]
    memory = MemoryPlane(access_log_file=log)
    frontend, _, backend, _ = memory.connect()
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(REQUESTS):
            frontend.data_received(REQUEST)
            backend.data_received(ANSWER)
        best = min(best, time.process_time() - begun)
        memory.plane.flush_log()
    memory.close()
    return best / REQUESTS * 1e6


async def main() -> None:
    """Print the figure."""
    with tempfile.NamedTemporaryFile() as log:
        print(f"{measure(log.name):.1f} µs of CPU per request")


if __name__ == "__main__":
    asyncio.run(main())
