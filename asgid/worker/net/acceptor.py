"""Accepts on the shared listening sockets: start, pause at the limit, resume, yield to siblings, and stop.

The loop's own server accepts, on a duplicate of each descriptor: closing the duplicate stops this worker and no other
(measured: an accept loop in Python cost 53 µs for a connection and a request, uvloop's server 48). If the server is
closed in `connection_made`, it stops exactly at the limit. Closed in the protocol factory, uvloop raises, and
connections are lost.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from struct import Struct
from typing import TypeAlias

from asgid import descriptors
from asgid.assignment import Listener
from asgid.board import ACCEPTING, Row
from asgid.log import Log

#: Makes the protocol of a connection that a listener accepted.
ProtocolFactory: TypeAlias = Callable[[Listener], asyncio.Protocol]

#: How long a worker that yields leaves a connection to its siblings.
YIELD_S = 0.005
#: How long a worker without a free descriptor does not accept; asyncio's own loop waits as long.
PAUSE_S = 1.0
#: How many connections are accepted in one go from a queue at a stop: few enough for the descriptors that are free.
_ACCEPTED_AT_ONCE = 64
#: Of a listening socket tcpi_unacked counts the connections that wait to be accepted (Linux, net/ipv4/tcp.c). Eight
#: single bytes, tcpi_rto, tcpi_ato, tcpi_snd_mss and tcpi_rcv_mss stand before it.
_UNACKED = Struct("=8x16xI")
#: A pause that follows the last one sooner has the same cause, and is not logged.
_QUIET_S = 10.0


class Acceptor:
    """The worker's listening sockets. `row[ACCEPTING]` is 1 while it accepts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listeners: Sequence[Listener], log: Log, row: Row) -> None:
        self._loop, self._listeners, self._log, self._row = loop, listeners, log, row
        self._factory: ProtocolFactory
        self._servers: list[asyncio.Server] = []
        self._starting: asyncio.Task[None] | None = None  # requested, and not begun
        self._quiet_until = 0.0
        self._is_yielding: Callable[[], bool] = bool  # False: nothing to yield
        self._is_watching = False
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, factory: ProtocolFactory) -> None:
        """Accept, with a protocol of `factory` for each connection. Raises OSError if there is no free descriptor; the
        acceptor has not started then.
        """
        self._factory = factory
        servers = self._servers = []
        try:
            for listener in self._listeners:
                sock = socket.socket(fileno=descriptors.copy(listener.fd))
                servers.append(
                    await self._loop.create_server(partial(factory, listener), sock=sock, backlog=listener.backlog)
                )
                if self._servers is not servers:  # paused meanwhile
                    _close(servers)
                    return
        except OSError:
            _close(servers)
            raise
        self._row[ACCEPTING] = True

    def pause(self) -> None:
        """Accept no more for now; new connections wait in the kernel's queue."""
        self._row[ACCEPTING] = False
        self._close_servers()

    def _close_servers(self) -> None:
        self._unwatch()
        if self._starting:
            self._starting.cancel()
            self._starting = None
        servers, self._servers = self._servers, []
        _close(servers)

    def resume(self) -> None:
        """Accept again, as soon as a descriptor is free."""
        self._starting = self._loop.create_task(self._resume())

    async def _resume(self) -> None:
        self._starting = None
        try:
            await self.start(self._factory)
        except OSError as error:
            self.pause()
            self.log_pause(error)
            self._timer = self._loop.call_later(PAUSE_S, self._retry)

    def log_pause(self, error: OSError) -> None:
        """Log why the worker does not accept for PAUSE_S; once for all repetitions (asyncio reports it often)."""
        now = self._loop.time()
        if now >= self._quiet_until:
            self._log.warning("accepting pauses", reason=error.strerror, pause_s=PAUSE_S)
        self._quiet_until = now + _QUIET_S

    # Yielding

    def yield_to_siblings(self, is_yielding: Callable[[], bool]) -> None:
        """Leave the next connection to a sibling; accept it if none does within YIELD_S, or if `is_yielding` is False.

        No timer runs while no connection comes. The sibling with the fewest connections may be stuck, so a client never
        waits longer than YIELD_S for it.
        """
        self._close_servers()
        self._is_yielding = is_yielding
        self._watch()

    def _watch(self) -> None:
        self._is_watching = True
        for listener in self._listeners:
            self._loop.add_reader(listener.fd, self._on_readable)

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fd)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_readable(self) -> None:
        self._unwatch()
        self._timer = self._loop.call_later(YIELD_S, self._retry)

    def _retry(self) -> None:
        """Accept again if a connection still waits, or if this worker has nothing to yield any more."""
        self._timer = None
        queues = select.poll()
        for listener in self._listeners:
            queues.register(listener.fd, select.POLLIN)
        if queues.poll(0) or not self._is_yielding():
            self.resume()
        else:
            self._watch()

    # The end

    async def stop(self) -> None:
        """Accept the connections that are in the queues now, and close the listening sockets, also when cancelled.

        A client in a queue is connected as far as it can see. When the last process closes the socket, the kernel
        refuses new clients, which is better than a queue that no process reads. Connections that come meanwhile are not
        accepted: clients may connect faster than they are served, and a drain would never end.
        """
        with ExitStack() as stack:
            queues = [(each, stack.enter_context(socket.socket(fileno=each.fd))) for each in self._listeners]
            for listener, queue, length in [(each, queue, _length(queue, each.backlog)) for each, queue in queues]:
                for accepted in range(0, length, _ACCEPTED_AT_ONCE):
                    socks = _accept(queue, min(_ACCEPTED_AT_ONCE, length - accepted))
                    if not socks:
                        break
                    await self._serve(listener, socks)
        # The loop reports the connections that it accepted itself in a later turn: uvloop in the next, asyncio's own
        # loop up to two turns later.
        for _ in range(2):
            await asyncio.sleep(0)

    async def _serve(self, listener: Listener, socks: list[socket.socket]) -> None:
        """Make connections of accepted sockets, all at once: one takes two or three turns of the loop."""
        unserved = set(socks)

        async def serve(sock: socket.socket) -> None:
            unserved.remove(sock)
            await self._loop.connect_accepted_socket(partial(self._factory, listener), sock)

        try:
            await asyncio.gather(*map(serve, socks))
        finally:
            for sock in unserved:
                sock.close()


def _length(queue: socket.socket, backlog: int) -> int:
    """Return how many connections wait to be accepted, or the maximum if the kernel does not count them."""
    try:
        info = queue.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
    except OSError:  # a Unix socket
        return backlog + 1  # it holds one more than its backlog
    length: int = _UNACKED.unpack(info)[0]
    return length


def _accept(queue: socket.socket, maximum: int) -> list[socket.socket]:
    """Return up to `maximum` connections; fewer if no more wait."""
    socks: list[socket.socket] = []
    for _ in range(maximum):
        try:
            sock, _ = queue.accept()
        except ConnectionAbortedError:  # its client has left already
            continue
        except OSError:  # empty; a sibling may have accepted some
            break
        sock.setblocking(False)
        socks.append(sock)
    return socks


def _close(servers: Iterable[asyncio.Server]) -> None:
    for server in servers:
        server.close()
