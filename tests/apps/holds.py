"""Responds with its pid; /hold waits HOLD_S seconds for a lock in C, so that no Python code runs, not even a signal
handler.
"""

import ctypes
import os
import time


def never_lets_python_run():
    library = ctypes.PyDLL(None)  # unlike CDLL it keeps the GIL during a call
    mutex = ctypes.create_string_buffer(64)  # zeros are a free mutex
    until = (ctypes.c_long * 2)(int(time.time() + float(os.environ["HOLD_S"])), 0)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_timedlock(mutex, until)  # no signal interrupts it


async def application(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/hold":
        never_lets_python_run()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
