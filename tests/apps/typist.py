"""Responds with its rights to the terminal, and with the number of bytes that it could type there; prints a line."""

import contextlib
import fcntl
import json
import os
import stat
import termios


def rights():
    with contextlib.suppress(OSError):
        os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    terminals = [fd for fd in range(1024) if os.isatty(fd)]
    readable = [fd for fd in terminals if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY]
    typed = 0
    for fd in terminals:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, termios.TIOCSTI, b"#")
            typed += 1
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
            typed += 1
    is_input_null = os.fstat(0).st_rdev == os.stat(os.devnull).st_rdev and stat.S_ISCHR(os.fstat(0).st_mode)
    return {"readable": len(readable), "typed": typed, "input": "null" if is_input_null else "other"}


async def application(scope, receive, send):
    assert scope["type"] == "http"
    body = json.dumps(rights()).encode()
    print("a line of output", flush=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
