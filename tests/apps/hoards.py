"""Keeps as many MiB as its path states, forever; / keeps none."""

KEPT = []


async def application(scope, receive, send):
    assert scope["type"] == "http"
    KEPT.append(bytearray(int(scope["path"][1:] or 0) << 20))
    KEPT[-1][::4096] = b"x" * len(KEPT[-1][::4096])  # resident, not only reserved
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
