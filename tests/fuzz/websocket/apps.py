"""Applications for WebSockets: obliging ones, of which one knows what they are told, and others.

The first to be told something writes it into the outcome; what the obliging ones say is what they hear.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from asgid.worker.http.context import Application, Event, Receive, Send
from tests.fuzz.delivery import ON_PURPOSE, Outcome
from tests.worker.harness import Scope


def _content(message: Event) -> str | bytes:
    content: str | bytes = message["text"] if message.get("text") is not None else message["bytes"]
    return content


async def _listens(scope: Scope, receive: Receive, send: Send, *, is_echoing: bool, turns: int) -> None:
    """Note what comes until the client has gone, and send it back; `turns` of the loop pass before each step."""
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
            except OSError:  # what came before the end is heard all the same
                is_gone = True
    outcome.end = message["code"], message["reason"]


#: Which the rules about what was told hold for.
LISTENS: Application = partial(_listens, is_echoing=False, turns=0)
ECHOES: Application = partial(_listens, is_echoing=True, turns=0)
WAITS: Application = partial(_listens, is_echoing=True, turns=2)


async def _accept(scope: Scope, receive: Receive, send: Send) -> Outcome:
    await receive()
    await send({"type": "websocket.accept"})
    outcome: Outcome = scope["state"]["outcome"]
    return outcome


async def closes_in_the_middle(scope: Scope, receive: Receive, send: Send) -> None:
    """Close after the second message, and go on listening."""
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
    """Accept, and have nothing to say."""
    await _accept(scope, receive, send)


async def denies(scope: Scope, receive: Receive, send: Send) -> None:
    """Take no WebSocket."""
    await receive()
    await send({"type": "websocket.close"})


async def sends_to_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    """Send messages of all sizes, and never receive."""
    await _accept(scope, receive, send)
    for size in (0, 1, 125, 126, 255, 256, 300, 65_535, 65_536):
        await send({"type": "websocket.send", "bytes": b"x" * size})


async def never_receives(scope: Scope, receive: Receive, send: Send) -> None:
    """Take nothing of what comes."""
    await _accept(scope, receive, send)
    await asyncio.Event().wait()


async def never_accepts(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave the handshake without an answer."""
    await receive()
    await asyncio.Event().wait()


async def sends_without_end(scope: Scope, receive: Receive, send: Send) -> None:
    """Send for as long as there is a client."""
    await _accept(scope, receive, send)
    while True:
        await send({"type": "websocket.send", "text": "x" * 300})
        await asyncio.sleep(0)


#: What else an application may do, by whether it is obliging.
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
