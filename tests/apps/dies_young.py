"""Exits 0.6 s after each startup without a message; until then it responds with its pid."""

import asyncio
import os

LIVES_S = 0.6


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        asyncio.get_running_loop().call_later(LIVES_S, os._exit, 1)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
