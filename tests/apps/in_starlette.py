"""The routes of the framework tests, in Starlette."""

import asyncio
import os
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

BACKGROUND, FAREWELL, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "FAREWELL", "GATE"))
turn = asyncio.Event()
room = set()
gone = []  # how clients left that did not wait for an end


@asynccontextmanager
async def lifespan(app):
    yield {"greeting": "from startup"}
    FAREWELL.touch()


async def hello(request):
    return PlainTextResponse("hello")


async def double(request):
    return JSONResponse({"twice": 2 * (await request.json())["number"]})


async def upload(request):
    async with request.form() as form:
        return PlainTextResponse(str(len(await form["file"].read())))


async def raw(request):
    return PlainTextResponse(str(sum([len(piece) async for piece in request.stream()])))


async def stream(request):
    async def pieces():
        for number in range(3):
            yield f"piece {number}\n"
            await turn.wait()
            turn.clear()

    return StreamingResponse(pieces(), media_type="text/plain")


async def next_piece(request):
    turn.set()
    return PlainTextResponse("ok")


async def background(request):
    return PlainTextResponse("answered", background=BackgroundTask(after))


async def after():
    while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()


async def state(request):
    return PlainTextResponse(request.state.greeting)


async def events(request):
    async def ticks():
        try:
            for number in count():
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)
        finally:
            gone.append("events")

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def news(name):
    """One event, and then none: a stream that waits for a queue or a database."""
    try:
        yield "data: hello\n\n" if name != "sse" else "hello"
        await asyncio.Event().wait()
    finally:
        gone.append(f"{name}-ended")


def stream_of(kind, name):
    async def endpoint(request):
        return kind(news(name), background=BackgroundTask(gone.append, f"{name}-task"))

    return endpoint


async def pass_on(request, call_next):
    return await call_next(request)


async def who_left(request):
    return PlainTextResponse(" ".join(gone))


async def chat(socket):
    await socket.accept()
    room.add(socket)
    await socket.send_text("welcome")
    try:
        async for text in socket.iter_text():
            for member in list(room):
                await member.send_text(text)
    finally:
        room.remove(socket)
        gone.append("chat")


async def echo(socket):
    await socket.accept("chat.v2" if "chat.v2" in socket.scope["subprotocols"] else None)
    try:
        while (text := await socket.receive_text()) != "close":
            await socket.send_text(text)
    except WebSocketDisconnect as left:
        gone.append(str(left.code))
        return
    await socket.close(4001, "bye")


async def echo_bytes(socket):
    await socket.accept()
    async for data in socket.iter_bytes():
        await socket.send_bytes(data)


async def denied(socket):
    await socket.send_denial_response(PlainTextResponse("who are you?", 401))


application = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/hello", hello),
        Route("/double", double, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/raw", raw, methods=["POST"]),
        Route("/stream", stream),
        Route("/next", next_piece),
        Route("/background", background),
        Route("/state", state),
        Route("/events", events),
        Route("/quiet", stream_of(StreamingResponse, "quiet")),
        Route("/behind", stream_of(StreamingResponse, "behind"), middleware=[Middleware(BaseHTTPMiddleware, pass_on)]),
        Route("/sse", stream_of(EventSourceResponse, "sse")),
        Route("/gone", who_left),
        WebSocketRoute("/chat", chat),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/bytes", echo_bytes),
        WebSocketRoute("/denied", denied),
    ],
)
