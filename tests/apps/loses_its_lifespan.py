"""Raises in its lifespan at the first request for /lose, as a task group does if its pool loses the database."""

import asyncio
import os

LOST = asyncio.Event()


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await LOST.wait()
        raise ConnectionError("the pool has lost its database")
    if scope["path"] == "/lose":
        LOST.set()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
