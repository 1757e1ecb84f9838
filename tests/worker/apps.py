"""ASGI applications that several tests of the worker share, and the parts that tests make theirs of."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

from asgid.worker.asgi import Application, Message, Receive, Send

Scope: TypeAlias = Message  # an application receives any mapping


async def body_of(receive: Receive) -> bytes:
    """Return a whole request body. AssertionError at a disconnect."""
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def respond(
    send: Send, body: bytes = b"", status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send a whole response in two messages."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def responds(body: bytes = b"", status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Application:
    """Return an application that responds to each request alike."""
    return lambda scope, receive, send: respond(send, body, status, headers)


async def begin(send: Send, part: bytes) -> None:
    """Send the start of a response and a first part of its body."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": part, "more_body": True})


async def accept(receive: Receive, send: Send) -> None:
    """Accept a WebSocket."""
    await receive()
    await send({"type": "websocket.accept"})


def mirrored(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the body that `mirror` responds with."""
    return f"{method} {path} ".encode() + body


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the method, path and body of the request."""
    await respond(send, mirrored(scope["method"], scope["path"], await body_of(receive)))


async def mirror_later(scope: Scope, receive: Receive, send: Send) -> None:
    """As `mirror`, with two turns of the loop in between."""
    await asyncio.sleep(0)
    body = await body_of(receive)
    await asyncio.sleep(0)
    await respond(send, mirrored(scope["method"], scope["path"], body))


def after(go: asyncio.Event, app: Application = mirror) -> Application:
    """Return an application that waits for `go` and then does the same as `app`."""

    async def waiting(scope, receive, send):
        await go.wait()
        await app(scope, receive, send)

    return waiting


def keeps_scopes(scopes: list[Any]) -> Application:
    """Return an application that appends its scope to `scopes` and responds."""

    async def app(scope, receive, send):
        scopes.append(scope)
        await respond(send)

    return app


def pauses_in_response(go: asyncio.Event) -> Application:
    """Return an application that sends the part "a", waits for `go`, and sends the last part "b"."""

    async def app(scope, receive, send):
        await begin(send, b"a")
        await go.wait()
        await send({"type": "http.response.body", "body": b"b"})

    return app


async def never_returns(scope, receive, send):
    """Wait forever, and receive nothing."""
    await asyncio.Event().wait()


async def echo(scope, receive, send):
    """Accept a WebSocket and send each message back until the client leaves."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def never_receives(scope, receive, send):
    """Accept a WebSocket, and receive nothing."""
    await accept(receive, send)
    await asyncio.Event().wait()
