"""Streams without an end, and the memory that a connection may keep of them."""

import asyncio
import gc
import tracemalloc
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from asgid.worker.asgi import Receive, Send
from tests.fuzz.delivery import BrokenRuleError, World
from tests.fuzz.websocket.corpus import (
    BINARY,
    CONT,
    FIN,
    HANDSHAKE,
    OFFER,
    PING,
    PONG,
    RSV1,
    TEXT,
    close,
    deflated,
    frame,
    text,
)
from tests.worker.apps import Scope, respond
from tests.worker.client import request
from tests.worker.parts import cancel_all

_CHUNKED = "Transfer-Encoding: chunked"
_UPGRADE = ("Connection: Upgrade", "Upgrade: a")
#: The limits for these streams, and the max memory of one connection, beside that of one read. Measured: less than
#: 0.4 MB, except for a body in chunks of two bytes, all of which are kept until the end of a read: 6.2 bytes for each
#: byte of the read.
LIMITS = {"request_line": 1024, "header_size": 4096, "header_count": 20}
MAX_BYTES, MAX_BYTES_OF_READ = 1 << 19, 7


@dataclass(frozen=True, slots=True)
class Endless:
    """A beginning, and bytes that follow it forever."""

    begins: bytes
    goes_on: bytes

    @property
    def has_whole_head(self) -> bool:
        """Whether it calls the application."""
        return b"\r\n\r\n" in self.begins + self.goes_on


_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
ENDLESS: Mapping[str, Endless] = {
    "rubbish": Endless(b"", b"\0"),
    "empty lines": Endless(b"", b"\r\n"),
    "a method": Endless(b"", b"G"),
    "a target": Endless(b"GET /", b"x"),
    "a query": Endless(b"GET /?", b"&x=y"),
    "a version": Endless(b"GET / HTTP/1.", b"1"),
    "a name": Endless(_HEAD, b"x"),
    "a value": Endless(_HEAD + b"A: ", b"x"),
    "blanks before a value": Endless(_HEAD + b"A:", b" "),
    "blanks after a value": Endless(_HEAD + b"A: b", b" "),
    "headers": Endless(_HEAD, b"A: b\r\n"),
    "headers without a value": Endless(_HEAD, b"A:\r\n"),
    "a length": Endless(_HEAD + b"Content-Length: ", b"0"),
    "codings": Endless(_HEAD + b"Transfer-Encoding: ", b"chunked, "),
    "requests": Endless(b"", request("GET", "/")),
    "requests that want leave": Endless(b"", request("GET", "/", "Expect: 100-continue")),
    "requests with bodies": Endless(b"", request("POST", "/", body=b"x" * 50)),
    "requests with chunks": Endless(b"", request("POST", "/", _CHUNKED) + b"1\r\na\r\n0\r\n\r\n"),
    "offers to upgrade": Endless(b"", request("GET", "/", *_UPGRADE)),
    "offers to upgrade with bodies": Endless(b"", request("POST", "/", *_UPGRADE, body=b"x")),
    "requests after the end": Endless(request("GET", "/", "Connection: close"), request("GET", "/")),
    "a tunnel": Endless(request("CONNECT", "a:1"), b"\0"),
    "a body": Endless(request("POST", "/", "Content-Length: 99999999999"), b"x"),
    "a body in chunks": Endless(request("POST", "/", _CHUNKED), b"fff\r\n" + b"x" * 0xFFF + b"\r\n"),
    "a body in chunks of two bytes": Endless(request("POST", "/", _CHUNKED), b"2\r\nab\r\n"),
    "a chunk's size": Endless(request("POST", "/", _CHUNKED), b"0"),
    "a chunk extension": Endless(request("POST", "/", _CHUNKED) + b"1;", b"x"),
    "a quoted chunk extension": Endless(request("POST", "/", _CHUNKED) + b'1;a="', b"x"),
    "chunk extensions": Endless(request("POST", "/", _CHUNKED), b"1;" + b"x" * 99 + b"\r\na\r\n"),
    "a trailer": Endless(request("POST", "/", _CHUNKED) + b"0\r\nA: ", b"x"),
    "trailers": Endless(request("POST", "/", _CHUNKED) + b"0\r\n", b"A: b\r\n"),
    "trailers after an offer to upgrade": Endless(request("POST", "/", *_UPGRADE, _CHUNKED) + b"0\r\n", b"A: b\r\n"),
}

#: The same on a WebSocket, with a small limit on messages and on their queue.
FRAMES_LIMITS = {"max_message": 65536, "queue": 32}
ENDLESS_FRAMES: Mapping[str, Endless] = {
    "messages": Endless(HANDSHAKE, frame(FIN | BINARY, b"x" * 1000)),
    "messages of nothing": Endless(HANDSHAKE, frame(FIN | TEXT)),
    "a message that is too long": Endless(HANDSHAKE + b"\x82\xff" + (1 << 40).to_bytes(8) + b"\0\0\0\0", b"x"),
    "a message as long as may be, but for its end": Endless(HANDSHAKE + b"\x82\xfe\xff\xff\0\0\0\0", b"x" * 60_000),
    "fragments": Endless(HANDSHAKE + frame(BINARY), frame(CONT, b"x")),
    "fragments of nothing": Endless(HANDSHAKE + frame(TEXT), frame(CONT)),
    "pings": Endless(HANDSHAKE, frame(FIN | PING, b"x" * 125)),
    "pings between fragments": Endless(HANDSHAKE + frame(TEXT, b"a"), frame(FIN | PING)),
    "pongs": Endless(HANDSHAKE, frame(FIN | PONG, b"x")),
    "bytes behind a close": Endless(HANDSHAKE + close(), text("a")),
    "bytes behind a fault": Endless(HANDSHAKE + b"\x83\x80", b"x"),
    "compressed messages": Endless(OFFER, frame(FIN | RSV1 | BINARY, deflated(b"x" * 1000))),
    "compressed zeros": Endless(OFFER, frame(FIN | RSV1 | BINARY, deflated(bytes(4096)))),
    "compressed messages of nothing": Endless(OFFER, frame(FIN | RSV1 | BINARY, b"\0")),
    "messages with a final block": Endless(OFFER, frame(FIN | RSV1 | TEXT, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00")),
    "bytes behind a final block": Endless(
        OFFER + frame(RSV1 | BINARY, deflated(b"a", zlib.Z_FINISH)), frame(CONT, b"\xff" * 500)
    ),
    "fragments that inflate to nothing": Endless(OFFER + frame(RSV1 | BINARY), frame(CONT, b"\0\0\0\xff\xff")),
}


async def forgets(scope: Scope, receive: Receive, send: Send) -> None:
    """Read to the end, keep nothing, and respond."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
        await asyncio.sleep(0)
    await respond(send)


def most_held(world: World, endless: Endless, total_bytes: int, read_bytes: int) -> int:
    """Send `total_bytes` in reads of `read_bytes`, or until the worker pauses; return the max memory kept between two
    reads.

    It is all that was allocated, without the read itself and the responses. Memory that is used only within a read does
    not count: one connection at a time has it.
    """
    read = endless.goes_on * max(1, read_bytes // len(endless.goes_on))
    world.loop.run_until_complete(_sent(world, endless, read, 1))  # fills caches
    gc.collect()
    tracemalloc.start()
    try:
        return world.loop.run_until_complete(_sent(world, endless, read, total_bytes))
    finally:
        tracemalloc.stop()


async def _sent(world: World, endless: Endless, read: bytes, total_bytes: int) -> int:
    before, _ = tracemalloc.get_traced_memory()
    _, transport = world.connect()
    transport.protocol.data_received(endless.begins)
    await world.turn()
    sent = most = 0
    while sent < total_bytes and transport.is_reading() and not transport.is_closing():
        transport.protocol.data_received(read)
        sent += len(read)
        await world.turn()
        transport.taken.clear()
        most = max(most, tracemalloc.get_traced_memory()[0] - before)
    transport.lose(None)
    cancel_all(world.context, 500)
    await world.turn()
    return most


def is_bounded(world: World, name: str, total_bytes: int, read_bytes: int) -> None:
    """Raise BrokenRuleError if a connection keeps too much of `name`, a row of ENDLESS or ENDLESS_FRAMES."""
    endless = (ENDLESS_FRAMES if name in ENDLESS_FRAMES else ENDLESS)[name]
    world.delivered += 1
    held = most_held(world, endless, total_bytes, read_bytes)
    if held > MAX_BYTES + MAX_BYTES_OF_READ * read_bytes:
        raise BrokenRuleError(f"without end, {name} fill the memory", f"{held} bytes", endless.begins + endless.goes_on)
