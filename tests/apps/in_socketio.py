"""A chat room with Socket.IO; a client without the password is rejected."""

import socketio

server = socketio.AsyncServer(async_mode="asgi")
application = socketio.ASGIApp(server)
gone = {}  # the server's reason why each client left


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
