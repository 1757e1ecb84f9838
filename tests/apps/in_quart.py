"""The routes of the framework tests, in Quart."""

import asyncio
import os
from pathlib import Path

from quart import Quart, request

BACKGROUND = Path(os.environ["BACKGROUND"])
GATE = Path(os.environ["GATE"])
turn = asyncio.Event()
application = Quart(__name__)


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
    while not GATE.exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()  # noqa: ASYNC240 - as short as it can be
