"""The routes of the framework tests, in Falcon."""

import asyncio
import os
from itertools import count
from pathlib import Path

import falcon
from falcon import WebSocketDisconnected
from falcon.asgi import App, SSEvent

BACKGROUND, FAREWELL, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "FAREWELL", "GATE"))
turn = asyncio.Event()
room = set()
gone = []  # how clients left that did not wait for an end


class Lifespan:
    greeting = ""

    async def process_startup(self, scope, event):
        self.greeting = "from startup"

    async def process_shutdown(self, scope, event):
        FAREWELL.touch()


class Bodies:
    """Requests that get their response at once: each method with a suffix is a path."""

    async def on_get_hello(self, req, resp):
        resp.text = "hello"

    async def on_post_double(self, req, resp):
        resp.media = {"twice": 2 * (await req.get_media())["number"]}

    async def on_post_upload(self, req, resp):
        async for part in await req.get_media():
            resp.text = str(len(await part.stream.read()))

    async def on_post_raw(self, req, resp):
        resp.text = str(sum([len(piece) async for piece in req.stream]))

    async def on_get_next(self, req, resp):
        turn.set()

    async def on_get_state(self, req, resp):
        resp.text = lifespan.greeting

    async def on_get_gone(self, req, resp):
        resp.text = " ".join(gone)


class Streams:
    """Requests with work after the first byte, or after the last."""

    async def on_get_stream(self, req, resp):
        async def pieces():
            for number in range(3):
                yield f"piece {number}\n".encode()
                await turn.wait()
                turn.clear()

        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = pieces()

    async def on_get_events(self, req, resp):
        async def ticks():
            try:
                for number in count():
                    yield SSEvent(text=str(number))
                    await asyncio.sleep(0.01)
            finally:
                gone.append("events")

        resp.sse = ticks()

    async def on_get_background(self, req, resp):
        resp.text = "answered"
        resp.schedule(self.after)

    async def after(self):
        while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
            await asyncio.sleep(0.01)
        BACKGROUND.touch()


class Sockets:
    async def on_websocket_chat(self, req, ws):
        await ws.accept()
        room.add(ws)
        await ws.send_text("welcome")
        try:
            while True:
                said = await ws.receive_text()
                for member in list(room):
                    await member.send_text(said)
        finally:
            room.remove(ws)
            gone.append("chat")

    async def on_websocket_echo(self, req, ws):
        await ws.accept("chat.v2" if "chat.v2" in ws.subprotocols else None)
        try:
            while (text := await ws.receive_text()) != "close":
                await ws.send_text(text)
        except WebSocketDisconnected as left:
            gone.append(str(left.code))
            return
        await ws.close(4001, "bye")

    async def on_websocket_bytes(self, req, ws):
        await ws.accept()
        while True:
            await ws.send_data(await ws.receive_data())

    async def on_websocket_denied(self, req, ws):
        raise falcon.HTTPForbidden


ROUTES = {
    Bodies(): ("hello", "double", "upload", "raw", "next", "state", "gone"),
    Streams(): ("stream", "events", "background"),
    Sockets(): ("chat", "echo", "bytes", "denied"),
}
lifespan = Lifespan()
application = App(middleware=lifespan)
for resource, names in ROUTES.items():
    for name in names:
        application.add_route(f"/{name}", resource, suffix=name)
