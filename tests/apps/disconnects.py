"""Waits for http.disconnect; /seen responds with the number of disconnects received."""

seen = 0


async def application(scope, receive, send):
    global seen  # noqa: PLW0603 - one request asks what the others were told
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/seen":
        await send({"type": "http.response.body", "body": str(seen).encode()})
        return
    await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    seen += 1
