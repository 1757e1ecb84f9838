"""Accepting on the shared listening sockets: start, pause at the cap, resume, and stop for good.

The loop's own server accepts, on a duplicate of each descriptor: closing the duplicate stops this worker and nobody
else (measured: an accept loop of our own cost 53 µs a connection and request, uvloop's server 48). Closed from
`connection_made` it stops exactly at the cap; from the protocol factory uvloop raises, and connections are lost.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from struct import Struct

from asgid import descriptors
from asgid.assignment import Listener
from asgid.log import Log

#: How long a worker that is ahead leaves a connection to its siblings.
STEP_BACK_S = 0.005
#: How long a worker without a free descriptor accepts nobody; asyncio's own loop waits as long.
PAUSE_S = 1.0
#: Of a queue that is left: few enough for the descriptors that there are.
_TAKEN_AT_ONCE = 64
#: Of a listening socket tcpi_unacked counts the connections that wait to be accepted (Linux, net/ipv4/tcp.c). Eight
#: single bytes, tcpi_rto, tcpi_ato, tcpi_snd_mss and tcpi_rcv_mss stand before it.
_UNACKED = Struct("=8x16xI")
#: A pause that follows the last one sooner has the same reason, which was said.
_QUIET_S = 10.0


class Doors:
    """The worker's way to its listening sockets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[Listener],
        connection: Callable[[Listener], asyncio.Protocol],
        log: Log,
        say: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._loop, self._listeners, self._connection = loop, listeners, connection
        self._log = log
        self._say = say  # whether this worker takes connections now
        self._servers: list[asyncio.Server] = []
        self._opening: asyncio.Task[None] | None = None  # asked for, and not begun
        self._quiet_until = 0.0
        self._is_ahead: Callable[[], bool] = _never
        self._watching = False
        self._look_at: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Begin to accept. Raises OSError where the system has no descriptor for it; then it has not begun."""
        servers = self._servers = []
        try:
            for listener in self._listeners:
                sock = socket.socket(fileno=descriptors.copy(listener.fd))
                servers.append(
                    await self._loop.create_server(
                        partial(self._connection, listener), sock=sock, backlog=listener.backlog
                    )
                )
                if self._servers is not servers:  # closed meanwhile
                    _close(servers)
                    return
        except OSError:
            _close(servers)
            raise
        self._say(True)

    def close(self) -> None:
        """Accept no more for now; who connects waits in the kernel's queue."""
        self._say(False)
        self._shut()

    def _shut(self) -> None:
        self._unwatch()
        if self._opening:
            self._opening.cancel()
            self._opening = None
        servers, self._servers = self._servers, []
        _close(servers)

    def reopen(self) -> None:
        """Accept again, as soon as there is a descriptor for it."""
        self._opening = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        self._opening = None
        try:
            await self.open()
        except OSError as error:
            self.close()
            self.tell_of_pause(error)
            self._look_at = self._loop.call_later(PAUSE_S, self._look)

    def tell_of_pause(self, error: OSError) -> None:
        """Log why nobody is accepted for PAUSE_S; once, however often it is so (asyncio says it `backlog` times)."""
        now = self._loop.time()
        if now >= self._quiet_until:
            self._log.warning("accepting pauses", reason=error.strerror, pause_s=PAUSE_S)
        self._quiet_until = now + _QUIET_S

    def step_back(self, is_ahead: Callable[[], bool]) -> None:
        """Leave the next connection to a sibling; take it all the same where none does within STEP_BACK_S.

        No timer runs while nobody comes. The sibling with the fewest connections may be stuck, so nobody waits for it
        longer than that.
        """
        self._shut()
        self._is_ahead = is_ahead
        self._watch()

    def _watch(self) -> None:
        self._watching = True
        for listener in self._listeners:
            self._loop.add_reader(listener.fd, self._someone_waits)

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fd)
        if self._look_at:
            self._look_at.cancel()
            self._look_at = None

    def _someone_waits(self) -> None:
        self._unwatch()
        self._look_at = self._loop.call_later(STEP_BACK_S, self._look)

    def _look(self) -> None:
        self._look_at = None
        queues = select.poll()
        for listener in self._listeners:
            queues.register(listener.fd, select.POLLIN)
        if queues.poll(0) or not self._is_ahead():
            self.reopen()
        else:
            self._watch()

    async def leave(self) -> None:
        """Accept what stands in the queues now, and let go of the listening sockets for good, also when cancelled.

        A client in a queue takes itself for connected. When the last holder lets go, the kernel refuses each new one:
        better than a queue that nothing will ever look at again. No more are accepted than stood there at first:
        clients may connect faster than they are served, and a drain would never end.
        """
        with ExitStack() as stack:
            queues = [(each, stack.enter_context(socket.socket(fileno=each.fd))) for each in self._listeners]
            for listener, queue, length in [(each, queue, _length(queue, each.backlog)) for each, queue in queues]:
                for taken in range(0, length, _TAKEN_AT_ONCE):
                    socks = _accepted(queue, min(_TAKEN_AT_ONCE, length - taken))
                    if not socks:
                        break
                    await self._serve(listener, socks)
        # Whom the loop had accepted itself, its server tells us of a turn later: uvloop one, asyncio's own up to two.
        for _ in range(2):
            await asyncio.sleep(0)

    async def _serve(self, listener: Listener, socks: list[socket.socket]) -> None:
        """Make connections of accepted sockets, all at once: one takes two or three turns of the loop."""
        untaken = set(socks)

        async def serve(sock: socket.socket) -> None:
            untaken.remove(sock)
            await self._loop.connect_accepted_socket(partial(self._connection, listener), sock)

        try:
            await asyncio.gather(*map(serve, socks))
        finally:
            for sock in untaken:
                sock.close()


def _length(queue: socket.socket, backlog: int) -> int:
    """Return how many connections wait to be accepted; where the kernel does not count them, how many it may hold."""
    try:
        info = queue.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size)
    except OSError:  # a Unix socket
        return backlog + 1  # it holds one more than its backlog
    length: int = _UNACKED.unpack(info)[0]
    return length


def _accepted(queue: socket.socket, most: int) -> list[socket.socket]:
    """Return up to `most` connections; fewer where there are no more."""
    socks: list[socket.socket] = []
    for _ in range(most):
        try:
            sock, _ = queue.accept()
        except ConnectionAbortedError:  # its client has left already
            continue
        except OSError:  # empty; a sibling may have taken some
            break
        sock.setblocking(False)
        socks.append(sock)
    return socks


def _close(servers: Iterable[asyncio.Server]) -> None:
    for server in servers:
        server.close()


def _never() -> bool:
    return False
