"""A task that counts from startup to shutdown, with clients that listen by server-sent events or by WebSocket.

In the folder MARKS (environment) each worker leaves a file with the way in which its task has ended.
"""

import asyncio
import os
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

MARK = Path(os.environ["MARKS"]) / str(os.getpid())
listeners = set()


async def tell_all():
    for number in count():
        for listener in listeners:
            listener.put_nowait(number)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def lifespan(app):
    task = asyncio.create_task(tell_all())
    yield
    task.cancel()
    await asyncio.wait([task])
    MARK.write_text(f"cancelled, with {len(listeners)} listening" if task.cancelled() else "failed")


@contextmanager
def listening():
    listener = asyncio.Queue()
    listeners.add(listener)
    try:
        yield listener
    finally:
        listeners.remove(listener)


async def events(request):
    async def heard():
        with listening() as listener:
            while True:
                yield f"data: {await listener.get()}\n\n"

    return StreamingResponse(heard(), media_type="text/event-stream")


async def socket(socket):
    await socket.accept()
    with listening() as listener:
        while True:
            await socket.send_text(str(await listener.get()))


async def listening_now(request):
    return PlainTextResponse(str(len(listeners)))


application = Starlette(
    lifespan=lifespan,
    routes=[Route("/events", events), Route("/listening", listening_now), WebSocketRoute("/socket", socket)],
)
