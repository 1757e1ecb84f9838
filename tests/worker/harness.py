"""One worker's service in this process: a real event loop and real sockets, raw bytes in and raw bytes out.

The clock stands still until `Worker.pass_time` moves it and lets the ticker act, so no test waits for a deadline or
depends on the speed of the machine. At the end every request must have ended on the board, and the loop must not have
reported an error. Only this module reads attributes of the worker's objects. It does not know the master.
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
from unittest.mock import Mock, patch

import h11
import uvloop

from asgid import board, config
from asgid.assignment import Listener
from asgid.board import BYTES, CELLS, Board
from asgid.log import Log
from asgid.worker.app import asgi1, wsgi
from asgid.worker.app.lifespan import Lifespan
from asgid.worker.asgi import Application, Message, Receive, Send
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.context import WorkerContext
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.request_limit import RequestLimit
from asgid.worker.http1.connection import Connection, phase_timeouts
from asgid.worker.net.acceptor import Acceptor
from asgid.worker.net.connection_limit import ConnectionLimit
from asgid.worker.net.registry import Connections
from asgid.worker.process.drain import Drain
from asgid.worker.process.ticker import Ticker
from asgid.worker.server import protocol_factory
from asgid.worker.websocket.protocol import CLOSING, PINGED, WebSocketProtocol
from asgid.worker.websocket.session import start_session

Scope: TypeAlias = Message

WITHIN_S = 30.0  #: max time of any wait; it only ends a test that would hang
_CLOCKS = (
    *("http.exchange", "http.rejection_log", "http1.connection", "http1.responder"),
    *("net.lingering_close", "net.proxy_protocol", "net.turns"),
    *("process.drain", "process.ticker", "websocket.protocol", "websocket.session"),
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
    """Let the loop turn until `statement` holds. AssertionError after WITHIN_S."""
    give_up = time.monotonic() + WITHIN_S
    while not statement():
        assert time.monotonic() < give_up, f"still not so: {what or statement}"
        await asyncio.sleep(0)


async def turns(number: int = 100) -> None:
    """Let the loop turn often enough for all pending callbacks."""
    for _ in range(number):
        await asyncio.sleep(0)


# -- applications ------------------------------------------------------------------------------------------------------


async def body_of(receive: Receive) -> bytes:
    """Return a whole request body. AssertionError at a disconnect."""
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


def mirrored(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the body that `mirror` responds with."""
    return f"{method} {path} ".encode() + body


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the method, path and body of the request."""
    await respond(send, mirrored(scope["method"], scope["path"], await body_of(receive)))


async def mirror_later(scope: Scope, receive: Receive, send: Send) -> None:
    """As `mirror`, with two turns of the loop in between."""
    await asyncio.sleep(0)
    body = await body_of(receive)
    await asyncio.sleep(0)
    await respond(send, mirrored(scope["method"], scope["path"], body))


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
    """An access log that keeps its entries."""

    def __init__(self) -> None:
        self.access_entries: list[tuple[str, str, int, int, float]] = []

    def add(self, scope: Scope, status: int, response_bytes: int, elapsed_s: float) -> None:
        self.access_entries.append((scope.get("method", ""), scope.get("path", ""), status, response_bytes, elapsed_s))


def _loopback(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Return both sockets of a new TCP connection over IPv4; a listener of AF_INET6 accepts both families."""
    takes_both = family == socket.AF_INET6
    host = "::ffff:127.0.0.1" if takes_both else "127.0.0.1"
    with socket.create_server((host, 0), family=family, dualstack_ipv6=takes_both) as listener:
        ours = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        theirs, _ = listener.accept()
    return ours, theirs


class _Connection(Connection):
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


class NoListeners(Acceptor):
    """An acceptor without a listening socket; `paused` counts its pauses, less its resumptions."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: Recorder, row: board.Row) -> None:
        super().__init__(loop, [], cast("Log", log), row)
        self.paused = 0

    def pause(self) -> None:
        self.paused += 1

    def resume(self) -> None:
        self.paused -= 1


def build_context(
    app: Application,
    settings: config.Config,
    row: board.Row,
    log: Recorder,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    access: AccessLog | None = None,
    acceptor: Acceptor | None = None,
    max_connections: int = 1 << 30,
    serves_websockets: bool = True,
) -> WorkerContext:
    """Return the context of one worker, with its connections."""
    loop = loop or asyncio.get_running_loop()
    connections = Connections(
        loop,
        row,
        ConnectionLimit(max_connections),
        acceptor or NoListeners(loop, log, row),
        write_timeout=settings.timeouts.write,
    )
    return WorkerContext(
        app=app,
        config=settings,
        row=row,
        log=cast("Log", log),
        access=access,
        connections=connections,
        start_session=start_session if serves_websockets else None,
    )


class _ActsOnCall(set[Exchange]):
    """A set of running exchanges that calls `act` with each new one."""

    def __init__(self, act: Callable[[Exchange], object]) -> None:
        super().__init__()
        self._act = act

    def add(self, exchange: Exchange) -> None:
        super().add(exchange)
        self._act(exchange)


# The parts of one worker, for tests that build it themselves


def drain_now(context: WorkerContext) -> None:
    """Close all idle connections, and each WebSocket, as a drain does."""
    connections = context.connections
    connections.is_draining = True
    for client in list(connections.open):
        client.close_if_idle()
    for websocket in list(connections.websockets):
        websocket.go_away()


def cancel_all(context: WorkerContext, status: int, text: str = "") -> None:
    """Cancel each application that runs."""
    for exchange in list(context.running):
        exchange.cancel(status, text)


def paused(context: WorkerContext) -> set[Any]:
    """Return the connections that the worker does not read from now."""
    return cast("set[Any]", context.connections.paused)


def still_open(context: WorkerContext) -> dict[str, int]:
    """Return how many things of each kind a worker holds; all are 0 after the last client has gone."""
    connections = context.connections
    return {
        "connections": len(connections.open),
        "running applications": len(context.running),
        "counted connections": connections.limit.open,
        "WebSockets": len(connections.websockets),
        "paused connections": len(connections.paused),
    }


def reach_deadline(connection: Connection | WebSocketProtocol) -> None:
    """Act as the ticker does when the deadline of `connection` has passed."""
    connection.on_deadline()


def leave(connection: Connection | WebSocketProtocol, *, is_reset: bool) -> None:
    """Report to a paused connection that its client has gone."""
    connection.on_peer_closed(is_reset)


# Questions about an acceptor


def listening_servers(acceptor: Acceptor) -> list[asyncio.Server]:
    """Return the servers that accept connections now."""
    return acceptor._servers


def pending_retry(acceptor: Acceptor) -> asyncio.TimerHandle | None:
    """Return the timer after which the acceptor tries to accept again."""
    return acceptor._timer


def is_starting(acceptor: Acceptor) -> bool:
    """Return whether the acceptor was asked to accept and has not begun."""
    return acceptor._starting is not None


def watches_listeners(acceptor: Acceptor) -> bool:
    """Return whether the acceptor only watches its listeners, after it yielded to its siblings."""
    return acceptor._is_watching


# Questions about a lifespan


def lifespan_task(lifespan: Lifespan) -> asyncio.Task[Any]:
    assert lifespan._task is not None
    return lifespan._task


# Questions about a WebSocket


def has_unread_frames(websocket: WebSocketProtocol) -> bool:
    """Return whether bytes that have arrived are not decoded yet."""
    return websocket._decoder.has_rest


def waits_for_pong(websocket: WebSocketProtocol) -> bool:
    """Return whether a ping was sent and nothing has arrived since."""
    return websocket._phase is PINGED


def is_open(websocket: WebSocketProtocol) -> bool:
    """Return whether neither side has sent a close frame."""
    return websocket._phase < CLOSING


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

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._unseen.append(context))
        self.row = Board(bytearray(BYTES)).row(0)
        self._log, self._access = Recorder(), _Access()
        self.acceptor = NoListeners(loop, self._log, self.row)
        self.context = build_context(
            *(self._app, self._config, self.row, self._log),
            access=cast("AccessLog", self._access),
            acceptor=self.acceptor,
            max_connections=self._config.limits.connections,
        )
        if getattr(self._app, "__module__", "") in (asgi1.__name__, wsgi.__name__):  # as worker/server.py does
            self.context.drops_s = 0.0
        self._clocks = [patch(f"asgid.worker.{name}.monotonic", self.now) for name in _CLOCKS]
        for clock in self._clocks:
            clock.start()
        self._ticker = Ticker(self.context)
        self._ticker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.stop()
        for client in self._clients:
            client.close()
        if kind is None:
            await until(lambda: not self.connections, "every connection is lost after its client has gone")
            await until(lambda: not self.running, "every application's call has returned")
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
        """Let `seconds` pass at once, as if the loop had turned all the time, and let the ticker act."""
        self._now += seconds
        self._ticker.stop()
        self._ticker._due = self._now
        self._ticker._tick()
        self._ticker._check_deadlines(self._now)

    def stall(self, seconds: float) -> None:
        """Let `seconds` pass at once as if the loop were blocked. The late tick comes before the worker reads, as
        it does in asyncio.
        """
        self._now += seconds
        self._ticker.stop()
        self._ticker._tick()

    @property
    def tick_s(self) -> float:
        """Seconds from one tick to the next."""
        return self._ticker._interval

    def work(self, seconds: float) -> None:
        """Let `seconds` pass within one turn of the loop; the ticker acts later."""
        self._now += seconds

    async def connect(self, *, send_buffer: int | None = None) -> "Client":
        """Return a client on a new connection; `send_buffer` bounds the kernel's buffer for responses."""
        ours, theirs = socket.socketpair()
        if send_buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return await self.connected(ours, theirs)

    async def connect_tcp(self, family: socket.AddressFamily = socket.AF_INET) -> "Client":
        """Return a client over loopback TCP, accepted by a listener of `family`."""
        return await self.connected(*_loopback(family))

    async def connect_behind(self, versions: str = "any", *, tcp: bool = True) -> "Client":
        """Return a client of a listener whose `proxy_protocol` is `versions`. Use `push`, not `send`."""
        ours, theirs = _loopback() if tcp else socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await self.context.loop.connect_accepted_socket(lambda: self._make_protocol(versions), theirs)
        client = Client(ours, _Connection(self.context))  # one that is never used: it becomes another
        self._clients.append(client)
        return client

    async def connect_reset(self, data: bytes, versions: str = "off") -> None:
        """Accept a client that has sent `data` and an RST: the kernel no longer has its address."""

        def protocol() -> asyncio.Protocol:
            return _Connection(self.context) if versions == "off" else self._make_protocol(versions)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as ours:
                ours.sendall(data)
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs, _ = listener.accept()
        theirs.setblocking(False)
        await self.context.loop.connect_accepted_socket(protocol, theirs)

    def _make_protocol(self, versions: str) -> asyncio.Protocol:
        return protocol_factory(self.context)(Listener("web", -1, 1, versions))

    async def connected(self, ours: socket.socket, theirs: socket.socket) -> "Client":
        ours.setblocking(False)
        theirs.setblocking(False)
        _, connection = await self.context.loop.connect_accepted_socket(lambda: _Connection(self.context), theirs)
        client = Client(ours, connection)
        self._clients.append(client)
        return client

    @property
    def lines(self) -> list[Line]:
        return self._log.lines

    @property
    def access_entries(self) -> list[tuple[str, str, int, int, float]]:
        """(method, path, status, body bytes, seconds) of each access line."""
        return self._access.access_entries

    @property
    def counts(self) -> dict[str, int]:
        """The counters of the board by name, without those that are 0 and without times."""
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

    # Questions about the worker

    @property
    def connections(self) -> set[Any]:
        """The connections that are open, lingering ones and WebSockets among them."""
        return cast("set[Any]", self.context.connections.open)

    @property
    def websockets(self) -> set[WebSocketProtocol]:
        return cast("set[WebSocketProtocol]", self.context.connections.websockets)

    @property
    def paused_connections(self) -> set[Any]:
        """The connections that the worker does not read from now."""
        return cast("set[Any]", self.context.connections.paused)

    @property
    def running(self) -> set[Exchange]:
        """The exchanges whose application has been called and has not returned."""
        return cast("set[Exchange]", self.context.running)

    @property
    def counted_connections(self) -> int:
        """How many connections count against `limits.connections`."""
        return self.context.connections.limit.open

    @property
    def running_requests(self) -> int:
        """How many requests count against `limits.requests`."""
        return self.context.request_limit.running if self.context.request_limit else 0

    @property
    def queued_requests(self) -> int:
        return len(self.context.request_limit) if self.context.request_limit else 0

    # Orders that `worker/server.py` gives

    def limit_requests(self, running: int, queued: int, queue_timeout_s: float) -> None:
        self.context.request_limit = RequestLimit(running, queued, queue_timeout_s)

    def ignore_websockets(self) -> None:
        """Serve an interface that has no WebSockets."""
        self.context.start_session = None

    def drop_nothing(self) -> None:
        """Have `send()` raise at once after the client has gone."""
        self.context.drops_s = 0.0

    def start_draining(self) -> None:
        """Make each response the last one of its connection."""
        self.context.connections.is_draining = True

    def drain(self, acceptor: Acceptor | None = None) -> Drain:
        return Drain(self.context, acceptor or self.acceptor)

    def close_websockets(self) -> None:
        """Close each WebSocket, as a drain does."""
        for websocket in list(self.websockets):
            websocket.go_away()

    def half_close_clients(self) -> None:
        """Have each application receive http.disconnect, as if its client had half-closed."""
        for exchange in list(self.running):
            exchange.on_peer_eof()

    def on_call(self, act: Callable[[Exchange], object]) -> None:
        """Do `act` with each exchange in the turn of the loop in which its application is called."""
        self.context.running = cast("set[Any]", _ActsOnCall(act))

    def keep_lifespan_state(self, state: dict[str, Any]) -> None:
        """Serve as if the application had left `state` in its lifespan."""
        self.context.state = state

    def write_access_lines(self, access: AccessLog) -> None:
        self.context.access = access

    def look_in_threads(self, stack_of: Callable[[asyncio.Task[None]], str]) -> None:
        """Have the log show the stack of work outside the loop."""
        self.context.thread_stack = stack_of

    def begin_turn(self) -> None:
        """Begin to count the time of this turn of the loop."""
        self.context.connections.turns.is_spent(self.now())

    def forget_clients(self) -> None:
        """Keep only the first and the last client."""
        del self._clients[1:-1]

    def cancel_applications(self, status: int, text: str = "") -> None:
        for exchange in list(self.running):
            exchange.cancel(status, text)

    @property
    def paused(self) -> int:
        """How often accepting was paused, less how often it was resumed."""
        return self.acceptor.paused


# -- the client --------------------------------------------------------------------------------------------------------


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

    def __init__(self, ours: socket.socket, server: _Connection) -> None:
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
                await asyncio.wait_for(self._loop.sock_sendall(self._socket, piece), WITHIN_S)
            except (BrokenPipeError, ConnectionResetError):  # the worker has closed: the test checks the bytes before
                return
            self._sent += len(piece)
            await until(lambda: self.received >= self._sent or self.takes_no_more, "the bytes have arrived")

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
        await asyncio.wait_for(self._loop.sock_sendall(self._socket, data), WITHIN_S)

    async def receive(self) -> bytes:
        """Return bytes that have arrived, b"" at the end of the stream. ConnectionResetError at a reset."""
        data, self._unread = self._unread, b""
        return data or await asyncio.wait_for(self._loop.sock_recv(self._socket, 1 << 20), WITHIN_S)

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
            return await asyncio.wait_for(self._loop.sock_recv(self._socket, 1 << 18), WITHIN_S)
        except ConnectionResetError:
            return b""


def request(method: str = "GET", path: str = "/", *headers: str, body: bytes = b"") -> bytes:
    """Return a request; one with a body has a content-length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test.invalid", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
