"""Responds at once, except to /sleep, which it logs and which never ends; its shutdown takes half a second."""

import asyncio


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(0.5)
        print("farewell", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/sleep":
        print("asleep", flush=True)
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"awake"})
