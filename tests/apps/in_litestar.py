"""The routes of the framework tests, in Litestar."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Stream

BACKGROUND = Path(os.environ["BACKGROUND"])
GATE = Path(os.environ["GATE"])
turn = asyncio.Event()


@get("/hello", media_type=MediaType.TEXT)
async def hello() -> str:
    return "hello"


@post("/double", status_code=200)
async def double(data: Annotated[dict[str, int], Body()]) -> dict[str, int]:
    return {"twice": 2 * data["number"]}


@post("/upload", media_type=MediaType.TEXT, status_code=200)
async def upload(data: Annotated[dict[str, UploadFile], Body(media_type=RequestEncodingType.MULTI_PART)]) -> str:
    return str(len(await data["file"].read()))


@post("/raw", media_type=MediaType.TEXT, status_code=200)
async def raw(request: Request) -> str:
    return str(sum([len(piece) async for piece in request.stream()]))


@get("/stream")
async def stream() -> Stream:
    async def pieces():
        for number in range(3):
            yield f"piece {number}\n"
            await turn.wait()
            turn.clear()

    return Stream(pieces(), media_type=MediaType.TEXT)


@get("/next", media_type=MediaType.TEXT)
async def next_piece() -> str:
    turn.set()
    return "ok"


@get("/background", media_type=MediaType.TEXT)
async def background() -> Response[str]:
    return Response("answered", background=BackgroundTask(after))


async def after() -> None:
    while not GATE.exists():  # noqa: ASYNC110, ASYNC240 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()  # noqa: ASYNC240 - as short as it can be


application = Litestar([hello, double, upload, raw, stream, next_piece, background], request_max_body_size=None)
