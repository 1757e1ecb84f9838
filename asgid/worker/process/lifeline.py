"""The worker's end of the wire. That the master is gone is read as the end of the stream, and means: drain."""

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

from asgid import wire

_PR_SET_PDEATHSIG = 1
_MASTER_DIED = signal.SIGRTMIN + 1  # SIGRTMIN is asgid.assignment.DUMP


class Lifeline:
    """Speaks to the master over the descriptor that the worker was born with."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._inode = os.fstat(fd).st_ino
        self._decoder = wire.from_master()

    def end_with_master(self, within_s: float) -> None:
        """Have the kernel tell when the master dies, and end `within_s` later at the latest.

        The end of the stream tells it too, but only to an event loop that turns; a handler that Python runs between two
        instructions of a stuck application arms a timer that nothing stops (prctl(2), setitimer(2)).
        """
        signal.signal(_MASTER_DIED, lambda *_: signal.setitimer(signal.ITIMER_REAL, within_s))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _MASTER_DIED)
        if self._is_cut():  # the master died before the kernel was asked, and no signal comes any more
            signal.raise_signal(_MASTER_DIED)

    @property
    def is_closed(self) -> bool:
        """Whether the application has closed this end: the number may be another file's by now."""
        try:
            return os.fstat(self._socket.fileno()).st_ino != self._inode
        except OSError:
            return True

    def send(self, message: wire.FromWorker) -> None:
        """Send a message to the master, if it is still there."""
        with suppress(OSError):
            is_blocking = self._socket.getblocking()
            self._socket.setblocking(True)
            try:
                self._socket.sendall(wire.encode(message))
            finally:
                self._socket.setblocking(is_blocking)

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[wire.FromMaster], None],
        on_orphaned: Callable[[], None],
    ) -> None:
        """Call back for each message, and once when the master is gone."""
        self._socket.setblocking(False)

        def read() -> None:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(self._socket)
                on_orphaned()
            for message in self._decoder.feed(data):
                on_message(message)

        loop.add_reader(self._socket, read)

    def _is_cut(self) -> bool:
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:  # nothing was said yet
            return False
        except OSError:
            return True
