"""WebSocket applications: obliging ones, one of which records all that it receives, and others.

The first one to receive a message writes to the outcome; obliging ones send the messages that they receive.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from asgid.worker.asgi import Application, Message, Receive, Send
from tests.fuzz.delivery import ON_PURPOSE, Outcome
from tests.worker.apps import Scope


def _content(message: Message) -> str | bytes:
    content: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
    return content


async def _listens(scope: Scope, receive: Receive, send: Send, *, is_echoing: bool, turns: int) -> None:
    """Record each message until the client has gone, and send it back; `turns` of the loop pass before each step."""
    outcome: Outcome = scope["state"]["outcome"]
    await receive()
    for _ in range(turns):
        await asyncio.sleep(0)
    await send({"type": "websocket.accept"})
    is_gone = False
    while (message := await receive())["type"] == "websocket.receive":
        outcome.told.append(_content(message))
        for _ in range(turns):
            await asyncio.sleep(0)
        if is_echoing and not is_gone:
            try:
                await send({**message, "type": "websocket.send"})
            except OSError:  # messages before the end still count
                is_gone = True
    outcome.end = message["code"], message["reason"]


#: Applications that record their messages for the rules.
LISTENS: Application = partial(_listens, is_echoing=False, turns=0)
ECHOES: Application = partial(_listens, is_echoing=True, turns=0)
WAITS: Application = partial(_listens, is_echoing=True, turns=2)


async def _accept(scope: Scope, receive: Receive, send: Send) -> Outcome:
    await receive()
    await send({"type": "websocket.accept"})
    outcome: Outcome = scope["state"]["outcome"]
    return outcome


async def closes_in_the_middle(scope: Scope, receive: Receive, send: Send) -> None:
    """Close after the second message, and go on receiving."""
    await _accept(scope, receive, send)
    for _ in range(2):
        if (await receive())["type"] == "websocket.disconnect":
            return
    await send({"type": "websocket.send", "text": "enough"})
    await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
    while (await receive())["type"] == "websocket.receive":
        pass


async def fails_in_the_middle(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise after the second message."""
    await _accept(scope, receive, send)
    for _ in range(2):
        if (await receive())["type"] == "websocket.disconnect":
            return
    raise ValueError(ON_PURPOSE)


async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept and return."""
    await _accept(scope, receive, send)


async def denies(scope: Scope, receive: Receive, send: Send) -> None:
    """Deny the handshake."""
    await receive()
    await send({"type": "websocket.close"})


async def sends_to_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    """Send messages of all sizes, and never receive."""
    await _accept(scope, receive, send)
    for size in (0, 1, 125, 126, 255, 256, 300, 65_535, 65_536):
        await send({"type": "websocket.send", "bytes": b"x" * size})


async def never_receives(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept and receive nothing."""
    await _accept(scope, receive, send)
    await asyncio.Event().wait()


async def never_accepts(scope: Scope, receive: Receive, send: Send) -> None:
    """Never respond to the handshake."""
    await receive()
    await asyncio.Event().wait()


async def sends_without_end(scope: Scope, receive: Receive, send: Send) -> None:
    """Send as long as there is a client."""
    await _accept(scope, receive, send)
    while True:
        await send({"type": "websocket.send", "text": "x" * 300})
        await asyncio.sleep(0)


#: Other applications, and whether each is obliging.
OTHERS: Mapping[Application, bool] = {
    closes_in_the_middle: True,
    fails_in_the_middle: True,
    returns_at_once: True,
    denies: True,
    sends_to_the_end: False,
    never_receives: False,
    never_accepts: False,
    sends_without_end: False,
}
