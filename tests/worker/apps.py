"""ASGI applications that several tests of the worker share."""

import asyncio
from typing import Any

from asgid.worker.asgi import Application
from tests.worker.harness import mirror, respond


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
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"b"})

    return app


async def never_returns(scope, receive, send):
    """Wait forever, and receive nothing."""
    await asyncio.Event().wait()


async def echo(scope, receive, send):
    """Accept a WebSocket and send each message back until the client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def never_receives(scope, receive, send):
    """Accept a WebSocket, and receive nothing."""
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()
