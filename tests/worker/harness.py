"""One worker's service in this process: a real event loop and real sockets, raw bytes in and raw bytes out.

The clock is the test's: it stands still until `Worker.pass_time` moves it and lets the pulse beat, so no test waits for
a deadline, and none passes because the machine was slow. When a worker is left, every request that had begun must have
ended on the board, and nothing may have failed unseen in the loop. It does not know the master.
"""

import asyncio
import contextlib
import functools
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias, cast
from unittest.mock import patch

import h11
import uvloop

from asgid import board, config
from asgid.board import BYTES, CELLS, Board
from asgid.log import Log
from asgid.worker.app import asgi1, wsgi
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.admission import Admission
from asgid.worker.http.context import Application, Event, Receive, Send, Service
from asgid.worker.http1.connection import Connection
from asgid.worker.net.proxy_protocol import Preamble
from asgid.worker.process.ticker import Pulse
from asgid.worker.websocket.session import converse

Scope: TypeAlias = Event

WITHIN_S = 30.0  #: how long anything may take; it only ends tests that would hang
_CLOCKS = (
    *(
        "http.exchange",
        "http.rejection_log",
        "http1.connection",
        "net.lingering_close",
        "net.proxy_protocol",
        "net.turns",
    ),
    *("process.ticker", "websocket.protocol", "websocket.session"),
)


def on_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on uvloop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_bounded(test(*args, **kwargs)))

    return run


async def _bounded(work: Awaitable[None]) -> None:
    async with asyncio.timeout(3 * WITHIN_S):
        await work


async def until(statement: Callable[[], object], what: str = "") -> None:
    """Let the loop turn until `statement` holds; AssertionError when it does not in WITHIN_S."""
    give_up = time.monotonic() + WITHIN_S
    while not statement():
        assert time.monotonic() < give_up, f"still not so: {what or statement}"
        await asyncio.sleep(0)


async def turns(number: int = 100) -> None:
    """Let the loop turn so often that what could still happen has happened."""
    for _ in range(number):
        await asyncio.sleep(0)


# -- applications ------------------------------------------------------------------------------------------------------


async def body_of(receive: Receive) -> bytes:
    """Read a whole request body; AssertionError at a disconnect."""
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def respond(
    send: Send, body: bytes = b"", status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send a whole response in two messages."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def told(method: str, path: str, body: bytes = b"") -> bytes:
    """Return what `tell` answers."""
    return f"{method} {path} ".encode() + body


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was asked."""
    await respond(send, told(scope["method"], scope["path"], await body_of(receive)))


async def tell_later(scope: Scope, receive: Receive, send: Send) -> None:
    """The same, and let the loop turn in between."""
    await asyncio.sleep(0)
    body = await body_of(receive)
    await asyncio.sleep(0)
    await respond(send, told(scope["method"], scope["path"], body))


# -- the worker --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    level: str
    event: str
    fields: dict[str, object]


class Recorder:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.lines.append(Line(level, event, fields))


class _Access:
    """Keeps answers instead of writing lines."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, int, int, float]] = []

    def add(self, scope: Scope, status: int, response_bytes: int, elapsed_s: float) -> None:
        self.answers.append((scope.get("method", ""), scope.get("path", ""), status, response_bytes, elapsed_s))


def _loopback(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new TCP connection over IPv4; a listener of AF_INET6 takes both families."""
    takes_both = family == socket.AF_INET6
    host = "::ffff:127.0.0.1" if takes_both else "127.0.0.1"
    with socket.create_server((host, 0), family=family, dualstack_ipv6=takes_both) as listener:
        ours = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        theirs, _ = listener.accept()
    return ours, theirs


class _Connection(Connection):
    """Counts what has arrived, so that a test can cut its bytes as it likes."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)

    @property
    def takes_no_more(self) -> bool:
        service = self.service
        return self in service.unread or self not in service.connections or self.transport.is_closing()


class Worker:
    """`async with Worker(app, timeouts={"header": "1s"}) as worker:` - tables as in the configuration file."""

    def __init__(self, app: Application, /, **tables: dict[str, Any]) -> None:
        lines = ['app.target = "app:app"']
        lines += [
            f"{name}.{key} = {json.dumps(value)}" for name, table in tables.items() for key, value in table.items()
        ]
        self._config = config.parse("\n".join(lines), "test.toml")
        self._app = app
        self._clients: list[Client] = []
        self._now = 1000.0
        self._unseen: list[dict[str, Any]] = []
        self.look_s = 0.0  #: how long each look at the clock takes
        self.paused = 0  #: how often accepting was paused, less how often it was resumed

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._unseen.append(context))
        self.row = Board(bytearray(BYTES)).row(0)
        self._log, self._access = Recorder(), _Access()
        self.admission = Admission(self._config.limits.connections, self._pause, self._resume)
        self.service = Service(
            app=self._app,
            config=self._config,
            row=self.row,
            loop=loop,
            log=cast("Log", self._log),
            access=cast("AccessLog", self._access),
            admission=self.admission,
        )
        self.service.converse = converse
        if getattr(self._app, "__module__", "") in (asgi1.__name__, wsgi.__name__):  # as worker/main.py does
            self.service.drops_s = 0.0
        self._clocks = [patch(f"asgid.worker.{name}.monotonic", self.now) for name in _CLOCKS]
        for clock in self._clocks:
            clock.start()
        self._pulse = Pulse(self.service)
        self._pulse.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pulse.stop()
        for client in self._clients:
            client.close()
        if kind is None:
            await until(lambda: not self.service.connections, "every connection is lost after its client has gone")
            await until(lambda: not self.service.running, "every application's call has returned")
        for clock in self._clocks:
            clock.stop()
        if kind is None:
            assert not self._unseen, self._unseen
            assert board.in_flight(self.row) == 0
            assert self.row[board.CONNECTIONS] == self.row[board.WEBSOCKETS] == 0

    def now(self) -> float:
        self._now += self.look_s
        return self._now

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass at once as if the loop had turned all the time, and the pulse beat."""
        self._now += seconds
        self._pulse.stop()
        self._pulse._due = self._now
        self._pulse._beat()
        self._pulse._judge(self._now)

    def stand_still(self, seconds: float) -> None:
        """Let `seconds` pass at once in which the loop did not turn, and the late beat come, as it does, before what
        has arrived is read.
        """
        self._now += seconds
        self._pulse.stop()
        self._pulse._beat()

    @property
    def beat_s(self) -> float:
        """How long after a beat the next one is due."""
        return self._pulse._interval

    def work(self, seconds: float) -> None:
        """Let `seconds` pass within the turn of the loop; the pulse beats when it can."""
        self._now += seconds

    async def connect(self, *, send_buffer: int | None = None) -> "Client":
        """Return the client's end of a new connection; `send_buffer` bounds what the kernel takes of the answers."""
        ours, theirs = socket.socketpair()
        if send_buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return await self._connected(ours, theirs)

    async def connect_tcp(self, family: socket.AddressFamily = socket.AF_INET) -> "Client":
        """The same over loopback, by a listener of that family."""
        return await self._connected(*_loopback(family))

    async def connect_behind(self, versions: str = "any", *, tcp: bool = True) -> "Client":
        """The same to a listener whose `proxy_protocol` is `versions`; what it sends is to be pushed."""
        ours, theirs = _loopback() if tcp else socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await self.service.loop.connect_accepted_socket(lambda: Preamble(self.service, "web", versions), theirs)
        client = Client(ours, _Connection(self.service))  # one that is never used: it becomes another
        self._clients.append(client)
        return client

    async def connect_reset(self, data: bytes, versions: str = "off") -> None:
        """Accept a client that has sent `data` and then an RST: the kernel tells no address of it any more."""

        def protocol() -> asyncio.Protocol:
            if versions == "off":
                return _Connection(self.service)
            return Preamble(self.service, "web", versions)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as ours:
                ours.sendall(data)
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs, _ = listener.accept()
        theirs.setblocking(False)
        await self.service.loop.connect_accepted_socket(protocol, theirs)

    async def _connected(self, ours: socket.socket, theirs: socket.socket) -> "Client":
        ours.setblocking(False)
        theirs.setblocking(False)
        _, connection = await self.service.loop.connect_accepted_socket(lambda: _Connection(self.service), theirs)
        client = Client(ours, connection)
        self._clients.append(client)
        return client

    @property
    def lines(self) -> list[Line]:
        return self._log.lines

    @property
    def answers(self) -> list[tuple[str, str, int, int, float]]:
        """(method, path, status, body bytes, seconds) of each access line."""
        return self._access.answers

    @property
    def counts(self) -> dict[str, int]:
        """What stands on the board, by name; only what is not 0, and no times."""
        names = {getattr(board, name): name for name in ("STARTED", "ABANDONED", "ACCEPTED", "LIMIT_REACHED", "SLOW")}
        names |= {
            getattr(board, name): name for name in ("REQUEST_BYTES", "RESPONSE_BYTES", "DISCONNECTS", "EXCEPTIONS")
        }
        names |= {getattr(board, name): name for name in ("WEBSOCKETS", "WEBSOCKET_RECEIVED", "WEBSOCKET_SENT")}
        names |= {cell: f"close {code}" for code, cell in board.WEBSOCKET_CLOSE_CELL.items()}
        names[board.WEBSOCKET_CLOSE_CELL[4000]] = "close other"
        names |= {cell: f"timeout {phase}" for phase, cell in board.TIMEOUT_CELL.items()}
        names |= {cell: f"error {kind}" for kind, cell in board.PROTOCOL_CELL.items()}
        for method in board.METHODS:
            names |= {cell: f"{method} {code}" for code, cell in board.REQUEST_CELL[method].items()}
        return {names[cell]: self.row[cell] for cell in range(CELLS) if cell in names and self.row[cell]}

    def _pause(self) -> None:
        self.paused += 1

    def _resume(self) -> None:
        self.paused -= 1


# -- the client --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, as h11 reads it: strictly."""

    status: int
    headers: dict[str, str]
    body: bytes
    informational: tuple[int, ...] = ()

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One connection, by hand. `server` is the other end: its insides are looked at where they are its promise."""

    def __init__(self, ours: socket.socket, server: _Connection) -> None:
        self._socket = ours
        self._loop = asyncio.get_running_loop()
        self.server = server
        self._sent = 0
        self._unread = b""
        self._is_ended = False

    async def send(self, *pieces: bytes) -> None:
        """Send each piece so that the server reads it by itself, or takes no more."""
        for piece in pieces:
            try:
                await asyncio.wait_for(self._loop.sock_sendall(self._socket, piece), WITHIN_S)
            except (BrokenPipeError, ConnectionResetError):  # it has closed: what it said before is what counts
                return
            self._sent += len(piece)
            await until(
                lambda: self.server.received >= self._sent or self.server.takes_no_more, "the bytes have arrived"
            )

    def push(self, data: bytes) -> int:
        """Send what the kernel takes at once; return how much that was."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def take(self) -> int:
        """Read and drop what the kernel holds; return how much that was."""
        size = 0
        with contextlib.suppress(BlockingIOError):
            while part := self._socket.recv(1 << 18):
                size += len(part)
        return size

    @property
    def address(self) -> str:
        """Where it comes from (TCP only), as a log says it."""
        return "{}:{}".format(*self._socket.getsockname())

    def end(self) -> None:
        """Close the sending side."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """End the connection with an RST (TCP only): the server cannot take it for a half close."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    async def answer(self, method: str = "GET") -> Answer:
        """Read one whole answer to a request of `method`; h11.RemoteProtocolError where it is not whole."""
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
                    return Answer(status, headers, b"".join(body), tuple(informational))
                case _:
                    raise h11.RemoteProtocolError(f"the connection ended instead of an answer: {event}")

    async def get(self, path: str = "/") -> Answer:
        """Ask for `path` and return the answer."""
        await self.send(request("GET", path))
        return await self.answer()

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
        """Read to the end of the stream; a reset is an end like another."""
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
            return await asyncio.wait_for(self._loop.sock_recv(self._socket, 1 << 18), WITHIN_S)
        except ConnectionResetError:
            return b""


def request(method: str = "GET", path: str = "/", *headers: str, body: bytes = b"") -> bytes:
    """Return a request; with a body it has a content-length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test.invalid", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
