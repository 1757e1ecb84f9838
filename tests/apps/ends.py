"""Responds with client and server of its scope."""


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr([scope["client"], scope["server"]]).encode()})
