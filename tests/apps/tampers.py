"""Sets options on the listening sockets of asgid, and attaches a filter, at /tamper.

The response has the names of those that the kernel refused.
"""

import ctypes
import os
import socket
import struct

from asgid import descriptors

RETURN_0 = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))  # BPF: no byte of any packet passes
FILTER = struct.pack("HL", 1, ctypes.addressof(RETURN_0))
OPTIONS = {
    "linger": (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)),
    "low mark": (socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20),
    "filter": (socket.SOL_SOCKET, 26, FILTER),  # SO_ATTACH_FILTER
}


def listening():
    for fd in descriptors.listed():
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield sock
        except OSError:
            continue


def tamper():
    for sock in listening():
        for name, option in OPTIONS.items():
            try:
                sock.setsockopt(*option)
            except PermissionError:
                yield name


async def application(scope, receive, send):
    assert scope["type"] == "http"
    refused = tamper() if scope["path"] == "/tamper" else ()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": " ".join(refused).encode()})
