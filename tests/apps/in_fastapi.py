"""The routes of the framework tests, in FastAPI."""

import asyncio
import os
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel

BACKGROUND, FAREWELL, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "FAREWELL", "GATE"))
turn = asyncio.Event()
room = set()
gone = []  # how clients left that did not wait for an end


@asynccontextmanager
async def lifespan(app):
    yield {"greeting": "from startup"}
    FAREWELL.touch()


application = FastAPI(lifespan=lifespan)


class Number(BaseModel):
    number: int


@application.get("/hello", response_class=PlainTextResponse)
async def hello():
    return "hello"


@application.post("/double")
async def double(body: Number):
    return {"twice": 2 * body.number}


@application.post("/upload", response_class=PlainTextResponse)
async def upload(file: UploadFile):
    return str(len(await file.read()))


@application.post("/raw", response_class=PlainTextResponse)
async def raw(request: Request):
    return str(sum([len(piece) async for piece in request.stream()]))


@application.get("/stream")
async def stream():
    async def pieces():
        for number in range(3):
            yield f"piece {number}\n"
            await turn.wait()
            turn.clear()

    return StreamingResponse(pieces(), media_type="text/plain")


@application.get("/next")
async def next_piece():
    turn.set()


@application.get("/background", response_class=PlainTextResponse)
async def background(tasks: BackgroundTasks):
    tasks.add_task(after)
    return "answered"


async def after():
    while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()


@application.get("/state", response_class=PlainTextResponse)
async def state(request: Request):
    return request.state.greeting


@application.get("/events", response_class=EventSourceResponse)
async def events():
    try:
        for number in count():
            yield number
            await asyncio.sleep(0.01)
    finally:
        gone.append("events")


@application.get("/quiet")
async def quiet(tasks: BackgroundTasks):
    async def news():
        try:
            yield "data: hello\n\n"
            await asyncio.Event().wait()
        finally:
            gone.append("quiet-ended")

    tasks.add_task(gone.append, "quiet-task")
    return StreamingResponse(news(), media_type="text/event-stream")


@application.get("/gone", response_class=PlainTextResponse)
async def who_left():
    return " ".join(gone)


@application.websocket("/chat")
async def chat(socket: WebSocket):
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


@application.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept("chat.v2" if "chat.v2" in socket.scope["subprotocols"] else None)
    try:
        while (text := await socket.receive_text()) != "close":
            await socket.send_text(text)
    except WebSocketDisconnect as left:
        gone.append(str(left.code))
        return
    await socket.close(4001, "bye")


@application.websocket("/bytes")
async def echo_bytes(socket: WebSocket):
    await socket.accept()
    async for data in socket.iter_bytes():
        await socket.send_bytes(data)


@application.websocket("/denied")
async def denied(socket: WebSocket):
    raise HTTPException(401, "who are you?")
