"""The routes of the framework tests, in Quart."""

import asyncio
import os
from itertools import count
from pathlib import Path

from quart import Quart, request, websocket

BACKGROUND, FAREWELL, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "FAREWELL", "GATE"))
turn = asyncio.Event()
room = set()
gone = []  # how clients left that did not wait for an end
application = Quart(__name__)


@application.while_serving
async def lifespan():
    application.greeting = "from startup"
    yield
    FAREWELL.touch()


@application.get("/hello")
async def hello():
    return "hello"


@application.post("/double")
async def double():
    return {"twice": 2 * (await request.get_json())["number"]}


@application.post("/upload")
async def upload():
    return str(len((await request.files)["file"].read()))


@application.post("/raw")
async def raw():
    return str(sum([len(piece) async for piece in request.body]))


@application.get("/stream")
async def stream():
    async def pieces():
        for number in range(3):
            yield f"piece {number}\n"
            await turn.wait()
            turn.clear()

    return pieces(), {"content-type": "text/plain"}


@application.get("/next")
async def next_piece():
    turn.set()
    return "ok"


@application.get("/background")
async def background():
    application.add_background_task(after)
    return "answered"


async def after():
    while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()


@application.get("/state")
async def state():
    return application.greeting


@application.get("/events")
async def events():
    async def ticks():
        try:
            for number in count():
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)
        finally:
            gone.append("events")

    return ticks(), {"content-type": "text/event-stream"}


@application.get("/quiet")
async def quiet():
    async def news():
        try:
            yield "data: hello\n\n"
            await asyncio.Event().wait()
        finally:
            gone.append("quiet-ended")
            application.add_background_task(mark, "quiet-task")

    return news(), {"content-type": "text/event-stream"}


async def mark(word):
    gone.append(word)


@application.get("/gone")
async def who_left():
    return " ".join(gone)


@application.websocket("/chat")
async def chat():
    member = websocket._get_current_object()
    room.add(member)
    await websocket.send("welcome")
    try:
        while True:
            text = await websocket.receive()
            for other in list(room):
                await other.send(text)
    finally:
        room.remove(member)
        gone.append("chat")


@application.websocket("/echo")
async def echo():
    await websocket.accept(subprotocol="chat.v2" if "chat.v2" in websocket.requested_subprotocols else None)
    try:
        while (data := await websocket.receive()) != "close":
            await websocket.send(data)
    except asyncio.CancelledError:  # Quart reports no more of a disconnect
        gone.append("left")
        raise
    await websocket.close(4001, "bye")


@application.websocket("/bytes")
async def echo_bytes():
    while True:
        await websocket.send(await websocket.receive())


@application.websocket("/denied")
async def denied():
    return "who are you?", 401
