"""Responds with the client, scheme, host and path of its scope."""

import json


async def application(scope, receive, send):
    assert scope["type"] == "http"
    host = dict(scope["headers"]).get(b"host", b"").decode()
    told = {"client": scope["client"], "scheme": scope["scheme"], "host": host, "path": scope["path"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
