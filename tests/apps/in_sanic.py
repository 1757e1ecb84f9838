"""The routes of the framework tests, in Sanic."""

import asyncio
import os
from itertools import count
from pathlib import Path

from sanic import Sanic, json, text

BACKGROUND, FAREWELL, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "FAREWELL", "GATE"))
turn = asyncio.Event()
room = set()
gone = []  # how clients left that did not wait for an end
application = Sanic("frameworks")


@application.before_server_start
async def startup(app):
    app.ctx.greeting = "from startup"


@application.after_server_stop
async def shutdown(app):
    FAREWELL.touch()


@application.get("/hello")
async def hello(request):
    return text("hello")


@application.post("/double")
async def double(request):
    return json({"twice": 2 * request.json["number"]})


@application.post("/upload")
async def upload(request):
    return text(str(len(request.files.get("file").body)))


@application.post("/raw", stream=True)
async def raw(request):
    return text(str(sum([len(piece) async for piece in request.stream])))


@application.get("/stream")
async def stream(request):
    response = await request.respond(content_type="text/plain")
    for number in range(3):
        await response.send(f"piece {number}\n")
        await turn.wait()
        turn.clear()
    await response.eof()


@application.get("/next")
async def next_piece(request):
    turn.set()
    return text("ok")


@application.get("/background")
async def background(request):
    request.app.add_task(after())
    return text("answered")


async def after():
    while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()


@application.get("/state")
async def state(request):
    return text(request.app.ctx.greeting)


@application.get("/events")
async def events(request):
    response = await request.respond(content_type="text/event-stream")
    try:
        for number in count():
            await response.send(f"data: {number}\n\n")
            await asyncio.sleep(0.01)
    except OSError:  # Sanic would log it as an error
        gone.append("events")


@application.get("/gone")
async def who_left(request):
    return text(" ".join(gone))


@application.websocket("/chat")
async def chat(request, socket):
    room.add(socket)
    await socket.send("welcome")
    try:
        while (said := await socket.recv()) is not None:
            for member in list(room):
                await member.send(said)
    finally:
        room.remove(socket)
        gone.append("chat")


@application.websocket("/echo", subprotocols=["chat.v2"])
async def echo(request, socket):
    while (data := await socket.recv()) is not None:  # Sanic reports no more of a disconnect
        if data == "close":
            return
        await socket.send(data)
    gone.append("left")


@application.websocket("/bytes")
async def echo_bytes(request, socket):
    while (data := await socket.recv()) is not None:
        await socket.send(data)
