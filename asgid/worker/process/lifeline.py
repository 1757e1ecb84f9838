"""The worker's end of the socket to its master; the end of the stream means that the master has exited."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from asgid import descriptors, wire
from asgid.pipes import PipeEnd

_PR_SET_PDEATHSIG = 1
_MASTER_DIED = signal.SIGRTMIN + 1  # SIGRTMIN is asgid.assignment.DUMP


class Lifeline:
    """The worker's pipes from and to the master, which it inherits at fork."""

    def __init__(self, end: PipeEnd) -> None:
        self._end = end
        self._files = {fd: descriptors.identity(fd) for fd in (end.reader, end.writer)}
        self._decoder = wire.from_master()

    def end_with_master(self, within_s: float) -> None:
        """End the worker at most `within_s` seconds after the death of the master (prctl(2), setitimer(2)).

        The kernel sends a signal at that death. The end of the stream means the same, but a blocked event loop does not
        read it. Python runs the handler of the signal between two instructions of a blocked application, and the
        handler starts a timer that the application does not stop.
        """
        signal.signal(_MASTER_DIED, lambda *_: signal.setitimer(signal.ITIMER_REAL, within_s))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _MASTER_DIED)
        if self._end.is_at_end():  # the master died before prctl(2), so no signal comes
            signal.raise_signal(_MASTER_DIED)

    @property
    def is_closed(self) -> bool:
        """Whether the application has closed a descriptor; its number may belong to another file now."""
        return not (self._is_open(self._end.reader) and self._is_open(self._end.writer))

    def send(self, message: wire.FromWorker) -> None:
        """Send a message to the master, if it still runs."""
        if self._is_open(self._end.writer):  # otherwise it would write into a file of the application
            with suppress(OSError):
                self._end.write(wire.encode(message))

    def listen(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[wire.FromMaster], None],
        on_orphaned: Callable[[], None],
    ) -> None:
        """Call `on_message` for each message, and `on_orphaned` once, when the master has exited."""
        os.set_blocking(self._end.reader, False)

        def read() -> None:
            data = self._end.read() if self._is_open(self._end.reader) else b""
            if data is None:
                return
            if not data:
                loop.remove_reader(self._end.reader)
                on_orphaned()
            for message in self._decoder.feed(data):
                on_message(message)

        loop.add_reader(self._end.reader, read)

    def _is_open(self, fd: int) -> bool:
        return descriptors.identity(fd) == self._files[fd]
