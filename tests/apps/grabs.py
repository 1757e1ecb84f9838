"""Opens every free descriptor at /grab, and closes them at any other path; responds with their number."""

import os
import resource

HELD = []


async def application(scope, receive, send):
    assert scope["type"] == "http"
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if scope["path"] == "/grab":
        try:
            while True:
                HELD.append(os.dup(0))
        except OSError:
            pass
    while HELD and scope["path"] != "/grab":
        os.close(HELD.pop())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % len(HELD)})
