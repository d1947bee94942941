"""The sample apps of `router demo`: `hello` says which instance answers, `echo` shows the request as it arrived.

An app instance is an ordinary web server plus the `Registration` around its life. The order at the end matters:
unregister first, and stop serving only then, so that no request is sent to a closed port.

    python -m router.demo.app hello --index 0        # on a free port, as http://hello.localhost
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Awaitable, Callable
from uuid import uuid4

from aiohttp import web

from router.demo.register import DEFAULT_NATS, Registration, until_stopped

Handler = Callable[[web.Request], Awaitable[web.Response]]


def hello(index: int) -> Handler:
    """Names the instance that answers."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(text=f"hello from instance {index} (process {os.getpid()})\n")

    return handle


def echo(_: int) -> Handler:
    """Shows the head of the request: what the client sent, and what the router added."""

    async def handle(request: web.Request) -> web.Response:
        lines = [f"{request.method} {request.raw_path}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return web.Response(text="\n".join([*lines, ""]))

    return handle


APPS = {"hello": hello, "echo": echo}


async def serve(name: str, index: int, server: str) -> None:
    """Run one instance of the app `name` until SIGTERM or Ctrl-C."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", APPS[name](index))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    registration = {
        "host": "127.0.0.1",
        "port": runner.addresses[0][1],
        "uris": [f"{name}.localhost"],
        "app": f"demo-{name}",
        "private_instance_id": str(uuid4()),
        "private_instance_index": str(index),
        "tags": {"component": name},
    }
    async with Registration(server, registration):
        await until_stopped()
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m router.demo.app", description="Runs one instance of a sample app.")
    parser.add_argument("name", choices=sorted(APPS))
    parser.add_argument("--index", type=int, default=0, help="number of the instance (%(default)s)")
    parser.add_argument("--nats", default=DEFAULT_NATS, help="NATS server (%(default)s)")
    given = parser.parse_args()
    asyncio.run(serve(given.name, given.index, given.nats))
