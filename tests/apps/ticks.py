"""Streams one part a second, for as many seconds as its path states."""

import asyncio


async def application(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(int(scope["path"][1:])):
        await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
        await asyncio.sleep(1)
    await send({"type": "http.response.body", "body": b""})
