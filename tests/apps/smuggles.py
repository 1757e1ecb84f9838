"""Sends TCP sockets that linger over every unix socket that asgid has in this process, when /smuggle is requested."""

import array
import os
import socket
import struct

from asgid import descriptors

peers = []


def lingering():
    """Return a socket whose close waits: its peer never reads the bytes that it has not sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        peers.append(listener.accept()[0])
    client.setblocking(False)
    try:
        while True:
            client.send(bytes(65536))
    except BlockingIOError:
        pass
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
    return client


def smuggle():
    sent = 0
    for fd in descriptors.listed():
        client = lingering()
        rights = array.array("i", [client.fileno()])
        try:
            with socket.socket(fileno=os.dup(fd)) as line:
                line.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_DONTWAIT)
            sent += 1
        except OSError:  # it is no socket, or has no peer
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(client.detach())  # if it was sent, the receiver has the last reference
    return sent


async def application(scope, receive, send):
    assert scope["type"] == "http"
    sent = smuggle() if scope["path"] == "/smuggle" else 0
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % sent})
