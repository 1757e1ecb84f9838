"""The values that all exchanges of one worker share: application, settings, counters, logs, limits.

Only values and references; the context decides nothing.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from typing import Any, Protocol

from asgid.board import QUEUED, Row, counting
from asgid.config import Config
from asgid.log import Log
from asgid.worker.asgi import Application, Scope
from asgid.worker.http.access_log import AccessLog
from asgid.worker.http.fields import Field
from asgid.worker.http.forwarded import ForwardedFields, TrustedProxies
from asgid.worker.http.rejection_log import RejectionLog
from asgid.worker.http.request_limit import RequestLimit
from asgid.worker.http.scope import EXTENSIONS, FILES
from asgid.worker.net.registry import Connections

#: So many bytes of a client may wait for the application; then the client waits (the same as with the peers).
HIGH_WATER = 65536
#: How long an application that does not call receive() may stream to a client that has gone, before send() raises.
DROPS_S = 1.0


class RunningExchange(Protocol):
    """An exchange, as the worker's other parts see it."""

    method: str
    path: str
    begun: float  #: when the application was called, time.monotonic(); 0.0 before
    stalled_s: float  #: since then, in which the worker did not run
    is_slow_logged: bool

    @property
    def is_unanswered(self) -> bool: ...
    def stack(self) -> str: ...
    def start_queued(self) -> None: ...
    def reject_overload(self, now: float) -> None: ...
    def on_peer_eof(self) -> None: ...
    def cancel(self, status: int, text: str) -> None: ...


class WorkerContext:
    """The shared values of one worker."""

    def __init__(
        self,
        *,
        app: Application,
        config: Config,
        row: Row,
        log: Log,
        access: AccessLog | None,
        connections: Connections,
        request_limit: RequestLimit[RunningExchange] | None = None,
        state: Mapping[str, Any] | None = None,
        start_session: Callable[[Any, Iterable[Field]], None] | None = None,
        thread_stack: Callable[[asyncio.Task[None]], str] = lambda _: "",
        drops_s: float = DROPS_S,
    ) -> None:
        self.app = app
        self.config = config
        self.timeouts = config.timeouts
        self.limits = config.limits
        self.row = row
        self.cells = connections.cells  #: the same: cheaper, but a full cell raises, see `board.counting`
        self.loop = connections.loop
        self.contextvars = copy_context()  #: each call of the application gets a copy: no request has changed it
        self.log = log
        self.access = access
        self.rejections = RejectionLog(log, row)
        self.connections = connections
        self.request_limit = request_limit  #: None if requests have no limit
        #: The extensions that all scopes announce.
        self.extensions: Scope = {**EXTENSIONS, **FILES} if config.http.sendfile else {**EXTENSIONS}
        self.drops_s = drops_s  #: from the first dropped message; 0 if only send() can report a disconnect
        self.state = state  #: of the lifespan startup, copied for each request; None without lifespan
        self.common_lines = b""  #: Date and Server, built once a second
        self.trusted_proxies = TrustedProxies(config.proxy.trusted)
        self.forwarded_fields = ForwardedFields(config.proxy, self.trusted_proxies)
        #: Makes an exchange one of a WebSocket; None if the application has none, and the client's offer is ignored.
        self.start_session = start_session
        self.thread_stack = thread_stack  #: returns the stack of the thread that works for a task, "" without one
        self.running: set[RunningExchange] = set()  #: whose application's call has not returned

    def withdraw_files(self) -> None:
        """Announce no extension for files any more, and log why; once."""
        if FILES.keys() <= self.extensions.keys():
            for name in FILES:
                del self.extensions[name]
            self.log.warning(
                "http.sendfile is off from now on in this worker",
                reason="an application returned without a response; perhaps a middleware of it has dropped a file that "
                "the kernel was to send. If so, set http.sendfile = false",
            )

    def count_apart(self) -> None:
        """Count in memory of this process from now on: a forked child of the worker must not change the board."""
        self.row = counting(memoryview(bytearray(len(self.row) * 8)).cast("Q"))
        self.connections.count_apart(self.row)
        self.cells = self.connections.cells

    def extend_deadlines(self, seconds: float) -> None:
        """Move every deadline: the worker did not run for so long, and no client is judged by that time."""
        for client in self.connections.open:
            client.deadline += seconds
        for exchange in self.running:
            exchange.stalled_s += seconds
        if self.request_limit is not None:
            self.request_limit.postpone(seconds)

    def leave_limit(self) -> None:
        """Count a request out of the limit; the first of the queue starts, in a later turn of the loop."""
        if self.request_limit is not None:
            if queued := self.request_limit.leave():
                self.loop.call_soon(queued.start_queued)
            self.row[QUEUED] = len(self.request_limit)
