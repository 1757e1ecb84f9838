"""Streams 64 MiB as fast as send() permits; /sent responds with the number of bytes sent so far."""

CHUNK = bytes(1 << 16)
CHUNKS = 1024
sent = 0


async def application(scope, receive, send):
    global sent  # noqa: PLW0603 - one request asks what the other has done
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/sent":
        await send({"type": "http.response.body", "body": str(sent).encode()})
        return
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        sent += len(CHUNK)
    await send({"type": "http.response.body", "body": b""})
