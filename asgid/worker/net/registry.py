"""The open connections of one worker: counted, paused, resumed and closed together, whatever protocol they carry.

Everything in the worker that holds a socket of a client is a `Client` here. The registry asks it about its deadline,
closes it when the worker drains, and does not depend on its protocol.
"""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic_ns
from typing import Protocol

from asgid.board import ACCEPTED, ACCEPTING, CONNECTIONS, LIMIT_REACHED, Row
from asgid.worker.net.acceptor import Acceptor
from asgid.worker.net.connection_limit import PAUSE, RESUME, YIELD, ConnectionLimit
from asgid.worker.net.turns import Turns

#: The rows of the siblings are used for this long before the registry looks again which workers there are.
_SIBLINGS_NS = 100_000_000
#: A sibling that is silent for longer does not count: its number of connections may be wrong.
_MAX_SILENT_NS = 2_500_000_000
#: Larger payloads are passed to the transport uncopied; below it one write of a joined head and body costs less.
_JOIN_LIMIT = 16384


class Client(Protocol):
    """The object that holds the socket of one client."""

    deadline: float  #: time.monotonic(), inf without one

    @property
    def transport(self) -> asyncio.Transport: ...

    def on_deadline(self) -> None:
        """End the wait whose deadline has passed."""

    def on_peer_closed(self, is_reset: bool) -> None:
        """Handle that the client has closed its sending side, or reset the connection, while reading is paused."""

    def close_if_idle(self) -> None:
        """Close the connection if no request is in progress, not even a part of a head."""

    def abort(self) -> None:
        """End the connection so that no client takes it for an orderly end."""

    def requests(self) -> tuple[str, ...]:
        """Return the requests in progress, for the log."""


class WebSocketClient(Client, Protocol):
    """A client whose protocol is WebSocket."""

    def go_away(self) -> None:
        """Close because the worker drains."""


def _no_siblings(_since_ns: int, _now_ns: int) -> "list[memoryview[int]]":
    return []


def _nothing() -> None:
    """Nothing waits for the worker to become idle."""


class Connections:
    """All clients of one worker, with the loop, the turns and the board's row that they share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        row: Row,
        limit: ConnectionLimit,
        acceptor: Acceptor,
        *,
        write_timeout: float,
        sibling_rows: Callable[[int, int], "list[memoryview[int]]"] = _no_siblings,
    ) -> None:
        self.loop = loop
        self.row = row
        self.cells = memoryview(row).cast("B").cast("Q")  #: the same: cheaper, but a full cell raises, see `counting`
        self.limit = limit
        self._acceptor = acceptor
        self.write_timeout = write_timeout
        self._sibling_rows = sibling_rows
        # A transport of asyncio's own loop does not pause its protocol after writelines() (Python 3.13.0).
        self.join_limit = _JOIN_LIMIT if type(loop).__module__.startswith("uvloop") else inf
        self.open: set[Client] = set()
        self.websockets: set[WebSocketClient] = set()  #: the WebSockets among them
        self.paused: set[Client] = set()  #: those whose socket is not read
        self.turns = Turns(loop)
        self.is_draining = False  #: each response is the last one of its connection
        self.on_closed: Callable[[], None] = _nothing  #: called after a connection or an application's call has ended
        self._siblings: list[memoryview[int]] = []
        self._siblings_at_ns = 0

    def opened(self, client: Client) -> None:
        """Count an accepted connection; pause accepting at the limit, or yield to the siblings."""
        self.open.add(client)
        cells = self.cells
        try:
            cells[ACCEPTED] += 1
            cells[CONNECTIONS] += 1
        except ValueError:
            self.row[ACCEPTED] += 1
            self.row[CONNECTIONS] += 1
        decision = self.limit.opened(self.fewest)
        if decision is PAUSE:
            self.row[LIMIT_REACHED] += 1
            self._acceptor.pause()
        elif decision is YIELD:
            self._acceptor.yield_to_siblings(self.has_most)

    def closed(self, client: Client) -> None:
        """Count a connection out."""
        self.open.discard(client)
        self.paused.discard(client)
        try:
            self.cells[CONNECTIONS] -= 1
        except ValueError:
            self.row[CONNECTIONS] -= 1
        if self.limit.closed() is RESUME:
            self._acceptor.resume()
        self.on_closed()

    def count_apart(self, row: Row) -> None:
        """Count in `row` from now on: a forked child of the worker must not change the board."""
        self.row = row
        self.cells = memoryview(row).cast("B").cast("Q")

    def replace(self, client: Client, successor: Client) -> None:
        """Let `successor` hold the socket of `client` from now on; the count stays."""
        self.open.remove(client)
        self.open.add(successor)

    def pause_reading(self, client: Client) -> None:
        """Stop reading from a client. No event reports that it leaves meanwhile: the ticker polls paused sockets."""
        if client not in self.paused and not client.transport.is_closing():
            self.paused.add(client)
            client.transport.pause_reading()

    def fewest(self) -> float:
        """Return the connections of the sibling with the fewest that accepts; inf without siblings."""
        now_ns = monotonic_ns()
        if now_ns - self._siblings_at_ns > _SIBLINGS_NS:
            self._siblings = self._sibling_rows(now_ns - _MAX_SILENT_NS, now_ns)
            self._siblings_at_ns = now_ns
        if not self._siblings:
            return inf
        return min((row[CONNECTIONS] for row in self._siblings if row[ACCEPTING]), default=inf)

    def has_most(self) -> bool:
        """Return whether a sibling has clearly fewer connections."""
        return self.limit.has_more_than(self.fewest())

    def transports(self) -> list[asyncio.BaseTransport | None]:
        """Return the transports of all clients; None for a client that has none yet."""
        return [getattr(client, "transport", None) for client in self.open]
