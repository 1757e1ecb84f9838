"""The ASGI application that every Python server loads: a few paths, each with as little work as ASGI allows.

It favours no server: its cost is the same for all of them. The applications of frameworks are files beside it.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.scenarios import BLOB, FILE_VARIABLE, HELLO, LARGE, WAY

Scope = dict[str, Any]  # ASGI's values have no narrower type
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PART = 16 * 1024  #: bytes of a streamed body in each message
FILE_PART = 64 * 1024  #: the same for a file
PATHSEND = "http.response.pathsend"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one of the paths below, or take part in lifespan."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        await _PATHS[scope["path"]](scope, receive, send)


async def _hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _answer(send, HELLO)


async def _large(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _answer(send, LARGE)


async def _echo(_scope: Scope, receive: Receive, send: Send) -> None:
    """Send the request's body back."""
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, b"".join(chunks))


async def _upload(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body in parts, keep none of it, and answer its length in bytes."""
    length = 0
    more = True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, b"%d" % length)


async def _download(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Stream BLOB in parts, without a content-length, as most streams."""
    await send(_start((b"content-type", b"text/plain")))
    for part in _PARTS:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _file(scope: Scope, _receive: Receive, send: Send) -> None:
    """Send a file: by its path if the server supports that, otherwise by reading it; a header has the way."""
    path = os.environ[FILE_VARIABLE]
    length = (b"content-length", b"%d" % os.stat(path).st_size)
    if PATHSEND in (scope.get("extensions") or {}):
        await send(_start(length, (WAY, b"pathsend")))
        await send({"type": PATHSEND, "path": path})
        return
    await send(_start(length, (WAY, b"read")))
    with open(path, "rb") as file:  # noqa: ASYNC230 - it is in the page cache: no read waits
        while part := file.read(FILE_PART):
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _websocket(_scope: Scope, receive: Receive, send: Send) -> None:
    """Send each message back over its WebSocket."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _broadcast(_scope: Scope, receive: Receive, send: Send) -> None:
    """Send each message to all open WebSockets of this worker; one that is closing may miss it."""
    await receive()
    _AUDIENCE.add(send)  # before the accept, so a client misses no message after its handshake
    try:
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            answer = {"type": "websocket.send", "text": message["text"]}
            for send_to in tuple(_AUDIENCE):
                try:
                    await send_to(answer)
                except OSError:
                    _AUDIENCE.discard(send_to)
    finally:
        _AUDIENCE.discard(send)


_AUDIENCE: set[Send] = set()
_PATHS = {
    "/": _hello,
    "/large": _large,
    "/echo": _echo,
    "/upload": _upload,
    "/download": _download,
    "/file": _file,
    "/websocket": _websocket,
    "/broadcast": _broadcast,
}
_PARTS = [BLOB[start : start + PART] for start in range(0, len(BLOB), PART)]


async def _answer(send: Send, body: bytes) -> None:
    await send(_start((b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))))
    await send({"type": "http.response.body", "body": body})


def _start(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
