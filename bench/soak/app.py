"""`python -m bench.soak.app PORT`: an app that echoes bodies and WebSocket messages, and takes its time."""

import asyncio
import sys

from aiohttp import WSMsgType, web

SLOW_SECONDS = 0.5


async def echo(request: web.Request) -> web.StreamResponse:
    """The body comes back as it comes."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(SLOW_SECONDS)
    return web.Response(text="at last\n")


async def websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post("/echo", echo), web.get("/slow", slow), web.get("/websocket", websocket)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
