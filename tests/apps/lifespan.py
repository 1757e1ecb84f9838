"""Keeps a state from startup for every request, and writes the file FAREWELL (environment) at shutdown."""

import os
from pathlib import Path


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["greeting"] = "from startup"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        Path(os.environ["FAREWELL"]).touch()  # noqa: ASYNC240 - as short as it can be
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["greeting"].encode()})
