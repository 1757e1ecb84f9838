"""Writes to the terminal TERMINAL (environment) at each request, and then responds."""

import os
from typing import Any


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError  # the way in which an application declines a scope (ASGI specification)
    fd = os.open(os.environ["TERMINAL"], os.O_WRONLY | os.O_NOCTTY)
    os.write(fd, b"a request\r\n")
    os.close(fd)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"written"})
