"""The routes of the framework tests, in Django, with Channels for its WebSockets."""

import asyncio
import json
import os
from itertools import count
from pathlib import Path

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

BACKGROUND, GATE = (Path(os.environ[name]) for name in ("BACKGROUND", "GATE"))
turn = asyncio.Event()
tasks = set()
gone = []  # how clients left that did not wait for an end

settings.configure(
    ALLOWED_HOSTS=["*"],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    LOGGING_CONFIG=None,
    MIDDLEWARE=[],
    ROOT_URLCONF=__name__,
    SECRET_KEY="known to all who read this",
)


async def hello(request):
    return HttpResponse("hello")


async def double(request):
    return JsonResponse({"twice": 2 * json.loads(request.body)["number"]})


def upload(request):
    return HttpResponse(request.FILES["file"].size)


async def raw(request):
    return HttpResponse(len(request.body))


async def stream(request):
    async def pieces():
        for number in range(3):
            yield f"piece {number}\n"
            await turn.wait()
            turn.clear()

    return StreamingHttpResponse(pieces(), content_type="text/plain")


async def next_piece(request):
    turn.set()
    return HttpResponse("ok")


async def background(request):
    task = asyncio.create_task(after())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return HttpResponse("answered")


async def after():
    while not GATE.exists():  # noqa: ASYNC110 - another process opens the gate
        await asyncio.sleep(0.01)
    BACKGROUND.touch()


async def events(request):
    async def ticks():
        try:
            for number in count():
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.01)
        finally:
            gone.append("events")

    return StreamingHttpResponse(ticks(), content_type="text/event-stream")


async def quiet(request):
    async def news():
        try:
            yield "data: hello\n\n"
            await asyncio.Event().wait()
        finally:
            gone.append("quiet-ended")

    return Billed(news(), content_type="text/event-stream")


class Billed(StreamingHttpResponse):
    """With work at its end; Django does it in close()."""

    def close(self):
        super().close()
        gone.append("quiet-task")


async def who_left(request):
    return HttpResponse(" ".join(gone))


class Chat(AsyncWebsocketConsumer):
    groups = ("room",)

    async def connect(self):
        await self.accept()
        await self.send("welcome")

    async def receive(self, text_data):
        await self.channel_layer.group_send("room", {"type": "said", "text": text_data})

    async def said(self, event):
        await self.send(event["text"])

    async def disconnect(self, code):
        gone.append("chat")


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept("chat.v2" if "chat.v2" in self.scope["subprotocols"] else None)

    async def receive(self, text_data):
        if text_data == "close":
            await self.close(4001, "bye")
        else:
            await self.send(text_data)

    async def disconnect(self, code):
        gone.append(str(code))


class Bytes(AsyncWebsocketConsumer):
    async def receive(self, bytes_data):
        await self.send(bytes_data=bytes_data)


class Denied(AsyncWebsocketConsumer):
    async def connect(self):
        await self.close()


urlpatterns = [
    path("hello", hello),
    path("double", double),
    path("upload", upload),
    path("raw", raw),
    path("stream", stream),
    path("next", next_piece),
    path("background", background),
    path("events", events),
    path("quiet", quiet),
    path("gone", who_left),
]
sockets = [
    path("chat", Chat.as_asgi()),
    path("echo", Echo.as_asgi()),
    path("bytes", Bytes.as_asgi()),
    path("denied", Denied.as_asgi()),
]
application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(sockets)})
