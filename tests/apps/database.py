"""Its startup fails while the file DOWN (environment) exists; it responds with its pid."""

import os
from pathlib import Path

DOWN = Path(os.environ["DOWN"])


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if DOWN.exists():  # noqa: ASYNC240 - as short as it can be
            await send({"type": "lifespan.startup.failed", "message": "the database of this application is down"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
