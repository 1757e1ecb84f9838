"""Stops in a debugger on TERMINAL and leaves the terminal in raw mode."""

import os
import pdb  # noqa: T100 - it is what is tried
import tty


async def application(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError  # the way in which an application declines a scope (ASGI specification)
    if scope["path"] == "/debug":
        fd = os.open(os.environ["TERMINAL"], os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)
        pdb.Pdb(stdin=os.fdopen(fd), stdout=open(os.devnull, "w")).set_trace()  # noqa: ASYNC230, SIM115
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
