"""Other people's servers in tests: started, waited for, stopped by their own handle."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

START_SECONDS = 10.0


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(argv: list[str], port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program, from when it accepts connections on `port` to the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _accepts(port):
                if process.returncode is not None:
                    raise AssertionError(f"{argv[0]} ended: {(await process.stdout.read()).decode()}")
                await asyncio.sleep(0.01)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()  # and not kill: a master process ends its workers
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.communicate()
        except TimeoutError:
            process.kill()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
