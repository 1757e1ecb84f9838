"""A room to talk in, with Socket.IO; who does not say the word at the door stays outside."""

import socketio

server = socketio.AsyncServer(async_mode="asgi")
application = socketio.ASGIApp(server)
gone = {}  # why the server thinks that each left


@server.event
async def connect(sid, environ, auth):
    if auth != {"word": "friend"}:
        raise socketio.exceptions.ConnectionRefusedError("who are you?")


@server.event
async def disconnect(sid, reason):
    gone[sid] = reason


@server.event
async def double(sid, data):
    return data * 2


@server.event
async def enter(sid, room):
    await server.enter_room(sid, room)


@server.event
async def say(sid, room, said):
    await server.emit("said", said, room=room)


@server.event
async def leave(sid):
    await server.disconnect(sid)


@server.event
async def why_left(sid, whom):
    return gone.get(whom)
