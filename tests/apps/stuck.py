"""Responds with its pid and has a lifespan; /stuck blocks the event loop forever."""

import os
import time


def never_gives_the_loop_back():
    time.sleep(3600)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/stuck":
        never_gives_the_loop_back()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
