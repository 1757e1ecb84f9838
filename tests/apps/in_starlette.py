"""The routes of the framework tests, in Starlette."""

import asyncio
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

BACKGROUND = Path(os.environ["BACKGROUND"])
GATE = Path(os.environ["GATE"])
turn = asyncio.Event()


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
    while not GATE.exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()  # noqa: ASYNC240 - as short as it can be


application = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/double", double, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/raw", raw, methods=["POST"]),
        Route("/stream", stream),
        Route("/next", next_piece),
        Route("/background", background),
    ]
)
