"""The same response in every interface, and a WebSocket that is accepted and closed."""


async def asgi3(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def asgi2(scope):
    async def instance(receive, send):
        await asgi3(scope, receive, send)

    return instance


def asgi1(message):
    message["reply_channel"].send({"status": 200, "headers": [[b"content-length", b"5"]], "content": b"hello"})


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
