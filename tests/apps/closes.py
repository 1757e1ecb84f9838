"""Closes descriptors that it does not own: the standard streams, and one twice.

`/close` closes 0, 1 and 2; `/take` closes the descriptor of the last words and opens PLACE under its number; `/block`
blocks the event loop for a second, so that stacks are written.
"""

import os
import sys
import time

frame = sys._getframe()
while not hasattr(frame.f_locals.get("assignment"), "last_words_fd"):
    frame = frame.f_back
LAST_WORDS = frame.f_locals["assignment"].last_words_fd


async def application(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError  # the way in which an application declines a scope (ASGI specification)
    if scope["path"] == "/close":
        os.closerange(0, 3)
    elif scope["path"] == "/take":
        database = os.open(os.environ["PLACE"], os.O_RDWR | os.O_CREAT)
        os.write(database, b"precious" * 1000)
        os.dup2(database, LAST_WORDS)
    elif scope["path"] == "/block":
        time.sleep(1)  # noqa: ASYNC251 - it blocks on purpose
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
