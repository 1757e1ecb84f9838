"""Accepting on the shared listening sockets: start, pause at the cap, resume, and stop for good.

The loop's own server accepts, on a duplicate of each descriptor: closing the duplicate stops this worker and nobody
else (measured: an accept loop of our own cost 53 µs a connection and request, uvloop's server 48). Closed from
`connection_made` it stops exactly at the cap; from the protocol factory uvloop raises, and connections are lost.
"""

import asyncio
import os
import select
import socket
from collections.abc import Callable, Sequence
from functools import partial

from asgid.assignment import Listener

#: How long a worker that is ahead leaves a connection to its siblings.
STEP_BACK_S = 0.005


class Doors:
    """The worker's way to its listening sockets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[Listener],
        connection: Callable[[Listener], asyncio.Protocol],
        say: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._loop, self._listeners, self._connection = loop, listeners, connection
        self._say = say  # whether this worker takes connections now
        self._servers: list[asyncio.Server] = []
        self._opening: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_ahead: Callable[[], bool] = _never
        self._watching = False
        self._look_at: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Begin to accept."""
        self._is_open = True
        self._say(True)
        for listener in self._listeners:
            sock = socket.socket(fileno=os.dup(listener.fd))
            server = await self._loop.create_server(
                partial(self._connection, listener), sock=sock, backlog=listener.backlog
            )
            self._servers.append(server)
            if not self._is_open:  # closed meanwhile
                self.close()

    def close(self) -> None:
        """Accept no more for now; who connects waits in the kernel's queue."""
        self._say(False)
        self._shut()

    def _shut(self) -> None:
        self._is_open = False
        self._unwatch()
        if self._opening:  # asked for, and not begun
            self._opening.cancel()
            self._opening = None
        while self._servers:
            self._servers.pop().close()

    def reopen(self) -> None:
        """Accept again."""
        self._opening = self._loop.create_task(self.open())

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
        """Take what the kernel had completed when the doors were closed, and let go of the listening sockets for good.

        Who stands in the queue knows that it is connected. When the last holder has let go the kernel refuses whoever
        comes: better than a queue that nobody will ever look at again.
        """
        for listener in self._listeners:
            with socket.socket(fileno=listener.fd) as queue:
                while True:
                    try:
                        sock, _ = queue.accept()
                    except OSError:  # empty
                        break
                    sock.setblocking(False)
                    await self._loop.connect_accepted_socket(partial(self._connection, listener), sock)
        # Whom the loop had accepted itself, its server tells us of a turn later: uvloop one, asyncio's own up to two.
        for _ in range(2):
            await asyncio.sleep(0)


def _never() -> bool:
    return False
