"""Delays each request until the file GATE (environment) exists; responds with the max number of requests at once."""

import asyncio
import os
from pathlib import Path

GATE = Path(os.environ["GATE"])
held = most = 0


async def application(scope, receive, send):
    global held, most  # noqa: PLW0603 - a count for the whole worker is what this application is for
    assert scope["type"] == "http"
    held += 1
    most = max(most, held)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"held", "more_body": True})
    while not GATE.exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    held -= 1
    await send({"type": "http.response.body", "body": b" most=%d" % most})
