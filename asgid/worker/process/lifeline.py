"""The worker's end of the socket to its master; the end of the stream means that the master has exited."""

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
    """The socket to the master, which the worker inherits at fork."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._inode = os.fstat(fd).st_ino
        self._decoder = wire.from_master()

    def end_with_master(self, within_s: float) -> None:
        """End the worker at most `within_s` seconds after the death of the master (prctl(2), setitimer(2)).

        The kernel sends a signal at that death. The end of the stream means the same, but a blocked event loop does not
        read it. Python runs the handler of the signal between two instructions of a blocked application, and the
        handler starts a timer that the application does not stop.
        """
        signal.signal(_MASTER_DIED, lambda *_: signal.setitimer(signal.ITIMER_REAL, within_s))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _MASTER_DIED)
        if self._is_at_end():  # the master died before prctl(2), so no signal comes
            signal.raise_signal(_MASTER_DIED)

    @property
    def is_closed(self) -> bool:
        """Whether the application has closed the descriptor; its number may belong to another file now."""
        try:
            return os.fstat(self._socket.fileno()).st_ino != self._inode
        except OSError:
            return True

    def send(self, message: wire.FromWorker) -> None:
        """Send a message to the master, if it still runs."""
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
        """Call `on_message` for each message, and `on_orphaned` once, when the master has exited."""
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

    def _is_at_end(self) -> bool:
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:  # no message yet
            return False
        except OSError:
            return True
