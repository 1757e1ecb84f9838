"""The one ASGI application that every Python server loads: three paths, and as little work in each as ASGI allows.

It is written for no server: whatever it costs, it costs all of them.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.scenarios import HELLO, LARGE

Receive = Callable[[], Awaitable[dict[str, Any]]]  # ASGI messages have no narrower type
Send = Callable[[dict[str, Any]], Awaitable[None]]


def _start(length: int) -> dict[str, Any]:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer `/` with a few bytes, `/large` with 100 KiB, `/echo` with what was posted; take part in lifespan."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    path = scope["path"]
    if path == "/":
        body = HELLO
    elif path == "/large":
        body = LARGE
    else:
        body = await _read(receive)
    await send(_start(len(body)))
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
