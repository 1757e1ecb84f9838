"""Reads no body until the file GATE (environment) exists; /alive responds at once."""

import asyncio
import os
from pathlib import Path

GATE = Path(os.environ["GATE"])


async def application(scope, receive, send):
    assert scope["type"] == "http"
    size, more = 0, scope["path"] != "/alive"
    while more and not GATE.exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})
