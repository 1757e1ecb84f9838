"""Fills all of the board that its process can write with ones, again and again, after a request for /vandalize."""

import ctypes
import os
import threading
import time


def vandalize():
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps if "asgid-board" in line]
    libc = ctypes.CDLL(None)
    for where, *_ in lines:
        start, end = (int(each, 16) for each in where.split("-"))
        libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), 3)
    writable = [where for where, rights, *_ in lines if "w" in rights]
    ranges = [[int(each, 16) for each in where.split("-")] for where in writable]
    while True:
        for start, end in ranges:
            ctypes.memset(start, 0xFF, end - start)
        time.sleep(0.001)


async def application(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/vandalize":
        threading.Thread(target=vandalize, daemon=True).start()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
