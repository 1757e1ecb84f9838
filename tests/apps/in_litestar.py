"""The routes of the framework tests, in Litestar: the chat is its channels plugin, the bytes go through a listener."""

import asyncio
import os
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Annotated

from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket, websocket_listener
from litestar.background_tasks import BackgroundTask
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.params import Body
from litestar.response import ServerSentEvent, Stream

BACKGROUND, FAREWELL, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "FAREWELL", "GATE"))
turn = asyncio.Event()
gone = []  # how clients left that did not wait for an end


@asynccontextmanager
async def lifespan(app: Litestar):
    app.state.greeting = "from startup"
    yield
    FAREWELL.touch()


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
    while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()


@get("/state", media_type=MediaType.TEXT)
async def greeting(state: State) -> str:
    return state.greeting


@get("/events")
async def events() -> ServerSentEvent:
    async def ticks():
        try:
            for number in count():
                yield number
                await asyncio.sleep(0.01)
        finally:
            gone.append("events")

    return ServerSentEvent(ticks())


@get("/quiet")
async def quiet() -> Stream:
    async def news():
        try:
            yield "data: hello\n\n"
            await asyncio.Event().wait()
        finally:
            gone.append("quiet-ended")

    return Stream(news(), background=BackgroundTask(mark, "quiet-task"))


async def mark(word: str) -> None:
    gone.append(word)


@get("/gone", media_type=MediaType.TEXT)
async def who_left() -> str:
    return " ".join(gone)


@websocket("/chat")
async def chat(socket: WebSocket, channels: ChannelsPlugin) -> None:
    await socket.accept()
    async with channels.start_subscription("room") as member, member.run_in_background(socket.send_text):
        await socket.send_text("welcome")
        async for text in socket.iter_data():
            channels.publish(text, "room")
    gone.append("chat")


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept(subprotocols="chat.v2" if "chat.v2" in socket.scope["subprotocols"] else None)
    try:
        while (text := await socket.receive_text()) != "close":
            await socket.send_text(text)
    except WebSocketDisconnect as left:
        gone.append(str(left.code))
        return
    await socket.close(4001, "bye")


@websocket_listener("/bytes", receive_mode="binary", send_mode="binary")
async def echo_bytes(data: bytes) -> bytes:
    return data


@websocket("/denied")
async def denied(socket: WebSocket) -> None:
    raise NotAuthorizedException("who are you?")


application = Litestar(
    [
        hello,
        double,
        upload,
        raw,
        stream,
        next_piece,
        background,
        greeting,
        events,
        quiet,
        who_left,
        chat,
        echo,
        echo_bytes,
        denied,
    ],
    lifespan=[lifespan],
    plugins=[ChannelsPlugin(MemoryChannelsBackend(), channels=["room"])],
    request_max_body_size=None,
)
