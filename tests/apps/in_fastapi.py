"""The routes of the framework tests, in FastAPI."""

import asyncio
import os
from pathlib import Path

from fastapi import BackgroundTasks, FastAPI, Request, UploadFile
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel

BACKGROUND = Path(os.environ["BACKGROUND"])
GATE = Path(os.environ["GATE"])
turn = asyncio.Event()
application = FastAPI()


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
    while not GATE.exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()  # noqa: ASYNC240 - as short as it can be
