"""A WebSocket that echoes; over HTTP it responds with the close codes that it received."""

import asyncio
import json
import os

codes = []  # the close codes


async def application(scope, receive, send):
    if scope["type"] == "http":
        body = json.dumps({"pid": os.getpid(), "codes": codes}).encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
        return
    if scope["type"] != "websocket":
        raise ValueError(f"this application does not speak {scope['type']}")
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"x-pid", b"%d" % os.getpid())]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
    codes.append(message["code"])
    print(f"told {message['code']}", flush=True)
    if scope["path"] == "/deaf":
        await asyncio.sleep(3600)
