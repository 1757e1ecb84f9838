"""Answers with the two ends of its connection, as the scope has them."""


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr([scope["client"], scope["server"]]).encode()})
