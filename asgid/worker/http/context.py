"""What every connection of one worker shares: application, settings, the board's row, the clock's lines, who is open.

Only values and references; it decides nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextvars import copy_context
from math import inf
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from asgid.board import ACCEPTED, ACCEPTING, CONNECTIONS, LIMIT_REACHED, QUEUED, Row, counting
from asgid.config import Config
from asgid.log import Log
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.forwarded import ForwardedFields, TrustedProxies
from asgid.worker.http.rejection_log import RejectionLog
from asgid.worker.http.scope import EXTENSIONS, FILES, Scope
from asgid.worker.net.turns import Turns

if TYPE_CHECKING:
    from asgid.worker.http.admission import Admission, Places
    from asgid.worker.http.exchange import Exchange
    from asgid.worker.http.fields import Field
    from asgid.worker.http1.connection import Connection
    from asgid.worker.net.lingering_close import Farewell
    from asgid.worker.net.proxy_protocol import ProxyProtocol
    from asgid.worker.websocket.protocol import WebSocket

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
#: An ASGI 3 application.
Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


#: What a client has sent may wait for the application up to here; then the client is made to wait (as with the peers).
HIGH_WATER = 65536
#: Payloads above this are handed to the transport uncopied; below it one write of a joined head and body is cheaper.
_JOINED = 16384
#: How long an application that does not call receive() may stream to a client that has left, before send() raises.
_DROPS_S = 1.0
#: How long it is taken for granted who the other workers are.
_LOOK_NS = 100_000_000
#: A worker that has been silent for so long is not reckoned with.
_SILENT_NS = 2_500_000_000


class Service:
    """One worker's service."""

    def __init__(
        self,
        *,
        app: Application,
        config: Config,
        row: Row,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        access: AccessLog | None,
        admission: "Admission",
        places: "Places[Exchange] | None" = None,
    ) -> None:
        self.app = app
        self.config = config
        self.timeouts = config.timeouts
        self.limits = config.limits
        self.row = row
        self.cells = memoryview(row).cast("B").cast("Q")  #: the same: cheaper, but a full one raises, see `counting`
        self.loop = loop
        # A transport of asyncio's own loop that is given parts does not say that the client is slow (Python 3.13.0).
        self.most_joined = _JOINED if type(loop).__module__.startswith("uvloop") else inf
        self.context = copy_context()  #: of which each application's call gets a copy: no request has changed it
        self.log = log
        self.access = access
        self.admission = admission
        self.refusals = RejectionLog(log, row)
        self.places = places  #: None where requests have no cap
        #: What the scopes of all connections announce.
        self.extensions: Scope = {**EXTENSIONS, **FILES} if config.http.sendfile else {**EXTENSIONS}
        self.drops_s = _DROPS_S  #: from the first part that was dropped; 0 for an interface that only send() can tell
        self.state: Mapping[str, Any] | None = None  #: what lifespan startup left, copied for each request
        self.common_lines = b""  #: Date and Server, rebuilt once a second
        self.trust = TrustedProxies(config.proxy.trusted)
        self.forwarding = ForwardedFields(config.proxy, self.trust)
        #: Makes a request one of a WebSocket; None where the application has none, and the offer is ignored.
        self.converse: Callable[[Exchange, Iterable[Field]], None] | None = None
        #: Where the work of a task stands that goes on outside the loop.
        self.elsewhere: Callable[[asyncio.Task[None]], str] = _nowhere
        self.connections: set[Connection | ProxyProtocol | WebSocket | Farewell] = set()
        self.websockets: set[WebSocket] = set()  #: those of them
        self.unread: set[Connection | WebSocket] = set()  #: those on which reading is paused
        self.running: set[Exchange] = set()  #: whose application's call has not returned
        self.on_left: Callable[[], None] = _nothing  #: a connection is closed, or an application's call has returned
        self.look_for_siblings: Callable[[int, int], list[memoryview[int]]] = _nobody
        self._siblings: list[memoryview[int]] = []
        self._looked_ns = 0
        self.turns = Turns(loop)  #: of the loop, and what waits for a later one
        self.is_draining = False  #: each response is the last of its connection

    def withdraw_files(self) -> None:
        """Announce no extension for files any more, and log why; once."""
        if FILES.keys() <= self.extensions.keys():
            for name in FILES:
                del self.extensions[name]
            self.log.warning(
                "http.sendfile is off from now on in this worker",
                reason="an application returned without an answer; perhaps a middleware of it has dropped a file that "
                "the kernel was to send. If so, set http.sendfile = false",
            )

    def entered(self, connection: "Connection | ProxyProtocol") -> None:
        """A connection was accepted."""
        self.connections.add(connection)
        cells = self.cells
        try:
            cells[ACCEPTED] += 1
            cells[CONNECTIONS] += 1
        except ValueError:
            self.row[ACCEPTED] += 1
            self.row[CONNECTIONS] += 1
        if self.admission.entered(self.fewest()):
            self.row[LIMIT_REACHED] += 1

    def transports(self) -> list[asyncio.BaseTransport | None]:
        """Return those of all clients."""
        return [getattr(each, "transport", None) for each in self.connections]

    def forget_board(self) -> None:
        """Count on cells of one's own from now on: a child of the worker calls it."""
        self.cells = memoryview(bytearray(len(self.row) * 8)).cast("Q")
        self.row = counting(self.cells)

    def pause_reading(self, connection: "Connection | WebSocket") -> None:
        """Read no more of its client. Nobody tells us of one that leaves meanwhile: the pulse looks for those."""
        if connection not in self.unread and not connection.transport.is_closing():
            self.unread.add(connection)
            connection.transport.pause_reading()

    def left(self, connection: "Connection | ProxyProtocol | WebSocket | Farewell") -> None:
        """It is closed, and nothing of it is in hand any more."""
        self.connections.discard(connection)
        self.unread.discard(connection)
        try:
            self.cells[CONNECTIONS] -= 1
        except ValueError:
            self.row[CONNECTIONS] -= 1
        self.admission.left()
        self.on_left()

    def fewest(self) -> float:
        """Return what the emptiest of the other workers that accept connections holds; `inf` without others."""
        now_ns = monotonic_ns()
        if now_ns - self._looked_ns > _LOOK_NS:
            self._siblings, self._looked_ns = self.look_for_siblings(now_ns - _SILENT_NS, now_ns), now_ns
        if not self._siblings:
            return inf
        return min((row[CONNECTIONS] for row in self._siblings if row[ACCEPTING]), default=inf)

    def stood_still(self, seconds: float) -> None:
        """Move every deadline: the worker did not run for so long, and no client is judged by that time."""
        for connection in self.connections:
            connection.deadline += seconds
        for exchange in self.running:
            exchange.stalled_s += seconds
        if self.places is not None:
            self.places.postpone(seconds)

    def free_place(self) -> None:
        """A request is over: whoever waited longest begins, in a turn of its own."""
        if self.places is not None:
            if waiting := self.places.leave():
                self.loop.call_soon(waiting.begin)
            self.row[QUEUED] = len(self.places)


def _nowhere(_task: "asyncio.Task[None]") -> str:
    return ""


def _nobody(_since_ns: int, _now_ns: int) -> "list[memoryview[int]]":
    return []


def _nothing() -> None:
    """Nobody waits for this worker to become empty."""
