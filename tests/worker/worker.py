"""One worker's service in this process: a real event loop, real sockets, and a clock that stands still.

At the end nothing may be left of a client: no connection, no request, on the board neither, and no error that the loop
has reported. The module does not know the master.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, cast

from asgid import board, config
from asgid.assignment import Listener
from asgid.board import BYTES, CELLS, Board
from asgid.worker.app import asgi1, wsgi
from asgid.worker.asgi import Application
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.request_limit import RequestLimit
from asgid.worker.net.acceptor import Acceptor
from asgid.worker.process.drain import Drain
from asgid.worker.process.ticker import Ticker
from asgid.worker.server import protocol_factory
from asgid.worker.websocket.protocol import WebSocketProtocol
from tests.worker.client import Client, CountingConnection, loopback
from tests.worker.clock import Clock
from tests.worker.event_loop import until
from tests.worker.parts import ActsOnCall, NoListeners, build_context, cancel_all, still_open
from tests.worker.recorder import AccessRecorder, Line, Recorder


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
        self.clock = Clock()
        self.now = self.clock.now
        self._unseen: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._unseen.append(context))
        self.row = Board(bytearray(BYTES)).row(0)
        self._log, self._access = Recorder(), AccessRecorder()
        self.acceptor = NoListeners(loop, self._log, self.row)
        self.context = build_context(
            *(self._app, self._config, self.row, self._log),
            access=cast("AccessLog", self._access),
            acceptor=self.acceptor,
            max_connections=self._config.limits.connections,
        )
        if getattr(self._app, "__module__", "") in (asgi1.__name__, wsgi.__name__):  # as worker/server.py does
            self.context.drops_s = 0.0
        self.clock.start()
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
            await until(lambda: not any(still_open(self.context).values()), "nothing is left of a client")
        self.clock.stop()
        if kind is None:
            assert not self._unseen, self._unseen
            assert board.in_flight(self.row) == 0
            assert self.row[board.CONNECTIONS] == self.row[board.WEBSOCKETS] == 0

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass at once, as if the loop had turned all the time, and let the ticker act."""
        self.clock.time += seconds
        self._ticker.stop()
        self._ticker._due = self.clock.time
        self._ticker._tick()
        self._ticker._check_deadlines(self.clock.time)

    def stall(self, seconds: float) -> None:
        """Let `seconds` pass at once as if the loop were blocked. The late tick comes before the worker reads, as
        it does in asyncio.
        """
        self.clock.time += seconds
        self._ticker.stop()
        self._ticker._tick()

    @property
    def tick_s(self) -> float:
        """Seconds from one tick to the next."""
        return self._ticker._interval

    def work(self, seconds: float) -> None:
        """Let `seconds` pass within one turn of the loop; the ticker acts later."""
        self.clock.time += seconds

    async def connect(self, *sent: bytes, send_buffer: int | None = None) -> Client:
        """Return a client on a new connection that has sent the pieces `sent`.

        `send_buffer` bounds the kernel's buffer for responses.
        """
        ours, theirs = socket.socketpair()
        if send_buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        return await self.connected(ours, theirs, *sent)

    async def connect_tcp(self, *sent: bytes, family: socket.AddressFamily = socket.AF_INET) -> Client:
        """As `connect`, over loopback TCP, accepted by a listener of `family`."""
        return await self.connected(*loopback(family), *sent)

    async def connect_behind(self, versions: str = "any", *, tcp: bool = True) -> Client:
        """Return a client of a listener whose `proxy_protocol` is `versions`. Use `push`, not `send`."""
        ours, theirs = loopback() if tcp else socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await self.context.loop.connect_accepted_socket(lambda: self._make_protocol(versions), theirs)
        client = Client(ours, CountingConnection(self.context))  # one that is never used: it becomes another
        self._clients.append(client)
        return client

    async def connect_reset(self, data: bytes, versions: str = "off") -> None:
        """Accept a client that has sent `data` and an RST: the kernel no longer has its address."""

        def protocol() -> asyncio.Protocol:
            return CountingConnection(self.context) if versions == "off" else self._make_protocol(versions)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as ours:
                ours.sendall(data)
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs, _ = listener.accept()
        theirs.setblocking(False)
        await self.context.loop.connect_accepted_socket(protocol, theirs)

    def _make_protocol(self, versions: str) -> asyncio.Protocol:
        return protocol_factory(self.context)(Listener("web", -1, 1, versions))

    async def connected(self, ours: socket.socket, theirs: socket.socket, *sent: bytes) -> Client:
        ours.setblocking(False)
        theirs.setblocking(False)
        connection = CountingConnection(self.context)
        await self.context.loop.connect_accepted_socket(lambda: connection, theirs)
        client = Client(ours, connection)
        self._clients.append(client)
        await client.send(*sent)
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
        own = "STARTED ABANDONED ACCEPTED LIMIT_REACHED SLOW REQUEST_BYTES RESPONSE_BYTES DISCONNECTS EXCEPTIONS"
        own += " WEBSOCKETS WEBSOCKET_RECEIVED WEBSOCKET_SENT"
        names = {getattr(board, name): name for name in own.split()}
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
        self.context.running = cast("set[Any]", ActsOnCall(act))

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
        cancel_all(self.context, status, text)

    @property
    def paused(self) -> int:
        """How often accepting was paused, less how often it was resumed."""
        return self.acceptor.paused


@asynccontextmanager
async def served(
    app: Application, /, *sent: bytes, tcp: bool = False, send_buffer: int | None = None, **tables: dict[str, Any]
) -> AsyncIterator[tuple[Worker, Client]]:
    """Yield a worker and one client of it, which has sent the pieces `sent`."""
    async with Worker(app, **tables) as worker:
        yield worker, await (worker.connect_tcp(*sent) if tcp else worker.connect(*sent, send_buffer=send_buffer))
