"""Raises: /late after the start of the response, other paths before it."""


async def application(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/late":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half of", "more_body": True})
    raise RuntimeError("this application always raises")
