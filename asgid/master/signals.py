"""Signals as facts: each becomes a byte on a socket, and is acted on when the loop comes to it.

They were blocked since the first line of the program, so none is lost and none kills before it can be acted on. This
file does not know what a signal asks for.
"""

import selectors
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from asgid.master.spawn import SIGNALS


class Signals:
    """The master's signals; `actions` says what is done for each. CHLD has none: it only wakes, every turn reaps."""

    def __init__(
        self, selector: selectors.BaseSelector, actions: Mapping[signal.Signals, Callable[[signal.Signals], None]]
    ) -> None:
        self._selector, self._actions = selector, actions
        self._reader, self._writer = socket.socketpair()

    def listen(self) -> None:
        """Put handlers in place, and let come what has waited."""
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for signum in SIGNALS:
            signal.signal(signum, _noted)
        self._selector.register(self._reader, selectors.EVENT_READ, self._act)
        self.release()

    def hold(self) -> None:
        """Let none come any more, and act on those that have come."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._act(selectors.EVENT_READ)

    def release(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _act(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            for number in self._reader.recv(4096):
                signum = signal.Signals(number)
                if act := self._actions.get(signum):
                    act(signum)


def _noted(_signum: int, _frame: object) -> None:
    """Be a handler, so that the default action is not taken; the byte on the socket is what counts."""
