"""One client of a worker, by hand: raw bytes out, raw bytes in, or a response that h11 has read strictly.

Tests ask the client about the worker's end of its connection. Only this module reads attributes of that.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import Mock

import h11

from asgid.worker.http.context import WorkerContext
from asgid.worker.http1.connection import Connection
from asgid.worker.http1.phases import phase_timeouts
from tests.worker.event_loop import WITHIN_S, until, within


def request(method: str = "GET", path: str = "/", *headers: str, body: bytes = b"") -> bytes:
    """Return a request; one with a body has a content-length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test.invalid", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def loopback(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Return both sockets of a new TCP connection over IPv4; a listener of AF_INET6 accepts both families."""
    takes_both = family == socket.AF_INET6
    host = "::ffff:127.0.0.1" if takes_both else "127.0.0.1"
    with socket.create_server((host, 0), family=family, dualstack_ipv6=takes_both) as listener:
        ours = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        theirs, _ = listener.accept()
    return ours, theirs


class CountingConnection(Connection):
    """Counts the bytes that have arrived."""

    def __init__(self, context: WorkerContext) -> None:
        super().__init__(context, phase_timeouts(context.timeouts))
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


class CountedWrites:
    """A transport that keeps a copy of each write."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@dataclass(frozen=True, slots=True)
class Response:
    """One response, parsed strictly by h11."""

    status: int
    headers: dict[str, str]
    body: bytes
    informational: tuple[int, ...] = ()

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One client, by hand. Tests ask it about the worker's end of the connection and read no attribute of that."""

    def __init__(self, ours: socket.socket, server: CountingConnection) -> None:
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._sent = 0
        self._unread = b""
        self._is_ended = False

    async def send(self, *pieces: bytes) -> None:
        """Send each piece so that the worker reads it separately, or reads no more."""
        for piece in pieces:
            try:
                await within(WITHIN_S, self._loop.sock_sendall(self._socket, piece))
            except (BrokenPipeError, ConnectionResetError):  # the worker has closed: the test checks the bytes before
                return
            self._sent += len(piece)
            await until(lambda: self.received >= self._sent or self.takes_no_more, "the bytes have arrived")
            await asyncio.sleep(0)  # Python 3.11 calls the application in the next turn

    # Questions about the worker's end of the connection

    @property
    def received(self) -> int:
        """How many bytes the worker has read from this client."""
        return self._server.received

    @property
    def is_open(self) -> bool:
        return self._server in self._server.context.connections.open

    @property
    def is_closing(self) -> bool:
        """Whether the worker closes after it has written the rest."""
        return self._server.transport.is_closing()

    @property
    def is_reading_paused(self) -> bool:
        """Whether the worker reads nothing for now: bytes wait in the kernel."""
        return self._server in self._server.context.connections.paused

    @property
    def is_reading_stopped(self) -> bool:
        """Whether the worker parses no more requests of this client."""
        return self._server.is_reading_stopped

    @property
    def is_writing_paused(self) -> bool:
        """Whether the worker waits for this client to read."""
        return self._server.writer.is_paused

    @property
    def takes_no_more(self) -> bool:
        return self.is_reading_paused or not self.is_open or self.is_closing

    @property
    def unsent_bytes(self) -> int:
        """How many written bytes the kernel has not taken."""
        return self._server.transport.get_write_buffer_size()

    @property
    def has_exchange(self) -> bool:
        """Whether a request waits for its response or for the rest of its body."""
        return self._server.exchange is not None or self._server._receiving is not None

    @property
    def is_half_closed(self) -> bool:
        """Whether the exchange knows that this client has half-closed."""
        exchange = self._server.exchange
        return exchange is not None and exchange.is_peer_eof

    @property
    def deadline(self) -> float:
        return self._server.deadline

    @property
    def ends(self) -> tuple[Any, Any]:
        """The socket addresses of client and worker."""
        return self._socket.getsockname(), self._socket.getpeername()

    # Actions on the worker's end

    def deliver(self, data: bytes) -> None:
        """Have the worker read `data` at once; one read of a socket may return less."""
        before = self.received
        self._server.data_received(data)
        self._server.received = before

    def abort_at_the_worker(self) -> None:
        self._server.abort()

    def close_if_idle(self) -> None:
        """Close the connection if it is idle, as a drain does."""
        self._server.close_if_idle()

    def counted_writes(self) -> list[bytes]:
        """Return a list that receives each write of the worker from now on."""
        counting = CountedWrites(self._server.transport)
        self._server.writer.transport = cast("asyncio.Transport", counting)
        return counting.writes

    def mocked_transport(self) -> Mock:
        """Return a mock around the transport that the worker writes to from now on."""
        mock = Mock(wraps=self._server.writer.transport)
        self._server.writer.transport = cast("Any", mock)
        return mock

    # Actions of the client

    async def send_all(self, data: bytes) -> None:
        """Send bytes without waiting for the worker to read them. ConnectionError if it has closed."""
        await within(WITHIN_S, self._loop.sock_sendall(self._socket, data))

    async def receive(self) -> bytes:
        """Return bytes that have arrived, b"" at the end of the stream. ConnectionResetError at a reset."""
        data, self._unread = self._unread, b""
        return data or await within(WITHIN_S, self._loop.sock_recv(self._socket, 1 << 20))

    def push(self, data: bytes) -> int:
        """Send as much as the kernel takes at once; return the number of bytes."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def take(self) -> int:
        """Read and drop the bytes in the kernel; return their number."""
        size = 0
        with contextlib.suppress(BlockingIOError):
            while part := self._socket.recv(1 << 18):
                size += len(part)
        return size

    @property
    def address(self) -> str:
        """Host and port of the client (TCP only), as in a log line."""
        return "{}:{}".format(*self._socket.getsockname())

    def half_close(self) -> None:
        """Close the sending side."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End the connection with an RST (TCP only), which is not a half-close."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def response(self, method: str = "GET") -> Response:
        """Return one whole response to a request of `method`. h11.RemoteProtocolError if it is not whole."""
        reader = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=1 << 20)
        reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        status, headers, body, informational = 0, {}, [], []
        if self._unread:
            reader.receive_data(self._unread)
        while True:
            match event := reader.next_event():
                case h11.NEED_DATA:
                    reader.receive_data(await self._more())
                case h11.InformationalResponse():
                    informational.append(event.status_code)
                case h11.Response():
                    status = event.status_code
                    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                case h11.Data():
                    body.append(bytes(event.data))
                case h11.EndOfMessage():
                    self._unread, _ = reader.trailing_data
                    return Response(status, headers, b"".join(body), tuple(informational))
                case _:
                    raise h11.RemoteProtocolError(f"the connection ended instead of an response: {event}")

    async def get(self, path: str = "/") -> Response:
        """Request `path` and return the response."""
        await self.send(request("GET", path))
        return await self.response()

    async def head(self) -> bytes:
        """Read up to the end of the next header section."""
        while b"\r\n\r\n" not in self._unread:
            assert await self._more_unread(), f"the stream ended after {self._unread!r}"
        data, end, self._unread = self._unread.partition(b"\r\n\r\n")
        return data + end

    async def exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            assert await self._more_unread(), f"the stream ended after {len(self._unread)} bytes of {size}"
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    async def rest(self) -> bytes:
        """Read to the end of the stream or to a reset."""
        while await self._more_unread():
            pass
        data, self._unread = self._unread, b""
        return data

    async def _more_unread(self) -> bool:
        data = await self._more()
        self._unread += data
        return bool(data)

    async def _more(self) -> bytes:
        try:
            return await within(WITHIN_S, self._loop.sock_recv(self._socket, 1 << 18))
        except ConnectionResetError:
            return b""
