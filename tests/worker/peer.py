"""A WebSocket client on the harness, with the sans-I/O core of `websockets`, which rejects invalid frames.

It shares no line with the server's decoder. Tests write down invalid frames as bytes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.extensions.base import Extension
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, Protocol

from asgid.worker.asgi import Application
from tests.worker.client import Client
from tests.worker.event_loop import until
from tests.worker.worker import Worker

#: The example of RFC 6455 section 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def handshake(path: str = "/", *headers: str) -> bytes:
    """Return an opening handshake of RFC 6455; a field among `headers` replaces the usual one of the same name."""
    lines = {
        "host": "Host: test.invalid",
        "upgrade": "Upgrade: websocket",
        "connection": "Connection: Upgrade",
        "sec-websocket-key": f"Sec-WebSocket-Key: {KEY}",
        "sec-websocket-version": "Sec-WebSocket-Version: 13",
    }
    for header in headers:
        lines[header.partition(":")[0].lower()] = header
    return "\r\n".join([f"GET {path} HTTP/1.1", *(line for line in lines.values() if line[-1] != ":"), "", ""]).encode()


class Peer:
    """The client's end of an open WebSocket. It responds to each ping; `pings` are the ones that came."""

    def __init__(self, worker: Worker, client: Client, head: bytes, extensions: list[Extension]) -> None:
        self._worker, self.client = worker, client
        status, *lines = head.decode().strip().split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.protocol = Protocol(CLIENT, max_size=None)
        self.protocol.extensions = extensions
        self._frames: list[Any] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.is_ended = False  # the server's side of the stream

    async def send(self, message: str | bytes) -> None:
        """Send a whole message."""
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        await self.flush()

    async def send_fragments(self, *parts: str | bytes) -> None:
        """Send a message in fragments."""
        is_text = isinstance(parts[0], str)
        for number, part in enumerate(parts):
            data = part.encode() if isinstance(part, str) else part
            fin = number == len(parts) - 1
            if number:
                self.protocol.send_continuation(data, fin)
            elif is_text:
                self.protocol.send_text(data, fin)
            else:
                self.protocol.send_binary(data, fin)
        await self.flush()

    async def send_ping(self, data: bytes = b"") -> None:
        self.protocol.send_ping(data)
        await self.flush()

    async def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        self.protocol.send_close(code, reason)
        await self.flush()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are; the rest is dropped if the server has closed."""
        try:
            await self.client.send_all(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    async def flush(self) -> None:
        await self.send_raw(b"".join(self.protocol.data_to_send()))

    async def frame(self) -> Frame | None:
        """Return the next frame except pings and pongs; None at the end of the stream."""
        while not self._frames:
            if self.is_ended:
                return None
            await self._read()
        frame: Frame = self._frames.pop(0)
        return frame

    async def _read(self) -> None:
        try:
            data = await self.client.receive()
        except ConnectionResetError:
            data = b""
        if data:
            self.protocol.receive_data(data)
        else:
            self.is_ended = True
            self.protocol.receive_eof()
        for frame in self.protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode == Opcode.PING:
                self.pings.append(bytes(frame.data))
            elif frame.opcode == Opcode.PONG:
                self.pongs.append(bytes(frame.data))
            else:
                self._frames.append(frame)
        await self.flush()

    async def message(self) -> str | bytes:
        """Return the next message. AssertionError if none comes."""
        frame = await self.frame()
        assert frame, "the stream has ended"
        assert frame.opcode not in (Opcode.CLOSE, Opcode.CONT), frame
        return bytes(frame.data).decode() if frame.opcode == Opcode.TEXT else bytes(frame.data)

    async def ping(self) -> bytes:
        """Return the next ping of the server; the client has sent the pong."""
        while not self.pings:
            assert not self.is_ended
            await self._read()
        return self.pings.pop(0)

    async def pong(self) -> bytes:
        """Return the next pong of the server."""
        while not self.pongs:
            assert not self.is_ended
            await self._read()
        return self.pongs.pop(0)

    async def closed(self) -> tuple[int, str]:
        """Read to the end; return code and reason of the server's close, or 1006 without one."""
        while await self.frame():
            pass
        received = self.protocol.close_rcvd
        return (received.code, received.reason) if received else (1006, "")


async def connect(worker: Worker, path: str = "/", *headers: str, extensions: list[Extension] | None = None) -> Peer:
    """Return a client after the handshake; `status` is that of the response."""
    client = await worker.connect()
    client.push(handshake(path, *headers))
    return Peer(worker, client, await client.head(), extensions or [])


@asynccontextmanager
async def opened(
    app: Application, path: str = "/", *headers: str, extensions: list[Extension] | None = None, **tables: Any
) -> AsyncIterator[tuple[Worker, Peer]]:
    """Yield a worker and one client of it after the handshake."""
    async with Worker(app, **tables) as worker:
        yield worker, await connect(worker, path, *headers, extensions=extensions)


async def all_closed(worker: Worker) -> None:
    """Wait until the worker has no WebSocket."""
    await until(lambda: not worker.websockets, "every WebSocket is closed")
