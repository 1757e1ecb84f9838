"""Sends each WebSocket message back: text as text, bytes as bytes."""


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        raise ValueError(f"this application does not speak {scope['type']}")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
