"""Registers the backend with the router under test, every few seconds, as an app's platform does.

Run: `heartbeat.py NATS_PORT MESSAGE`, MESSAGE being the JSON of `router.register`. Ends when it is stopped.
"""

import asyncio
import sys

import nats

INTERVAL_SECONDS = 5.0


async def beat(port: int, message: bytes) -> None:
    bus = await nats.connect(f"nats://127.0.0.1:{port}")
    while True:
        await bus.publish("router.register", message)
        await bus.flush()
        await asyncio.sleep(INTERVAL_SECONDS)


if __name__ == "__main__":
    asyncio.run(beat(int(sys.argv[1]), sys.argv[2].encode()))
