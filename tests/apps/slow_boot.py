"""Takes SLOW_BOOT_S seconds to import, then responds with its pid."""

import os
import time

time.sleep(float(os.environ.get("SLOW_BOOT_S", "1")))


async def application(scope, receive, send):
    assert scope["type"] == "http"
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
