"""Signals as facts: each becomes a byte in a pipe, and is acted on when the loop comes to it.

The program blocks them in its first line, so none is lost and none kills before the loop can act on it. A pipe holds
65536 bytes or more. A socket was full with some 280, and a flood of USR1 hid the TERM: a byte that finds no room is
dropped. This file does not know the meaning of a signal.
"""

import os
import selectors
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from fcntl import F_GETPIPE_SZ, fcntl

from asgid import descriptors
from asgid.master.workers.spawn import SIGNALS

#: Those that ask for one more or one less each time. Of the others a thousand at once ask for no more than one.
_COUNTED = (signal.SIGTTIN, signal.SIGTTOU)


class Signals:
    """The master's signals; `actions` says what is done for each. CHLD has none: it only wakes, every turn reaps."""

    def __init__(
        self, selector: selectors.BaseSelector, actions: Mapping[signal.Signals, Callable[[signal.Signals], None]]
    ) -> None:
        self._selector, self._actions = selector, actions
        self._reader, self._writer = map(descriptors.own, os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        self._pipe_bytes = fcntl(self._reader, F_GETPIPE_SZ)

    def install(self) -> None:
        """Put handlers in place, and let come what has waited."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in SIGNALS:
            signal.signal(signum, _noted)
        self._selector.register(self._reader, selectors.EVENT_READ, lambda _: self.dispatch())
        self.unblock()

    def block(self) -> None:
        """Let none come any more, and act on those that have come."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.dispatch()

    def unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def dispatch(self) -> None:
        """Act on those that have come."""
        with suppress(BlockingIOError):
            # One read of all that it can hold: 64 KiB with pages of 4 KiB, 1 MiB with pages of 64 KiB (arm64).
            for number, times in Counter(os.read(self._reader, self._pipe_bytes)).items():
                signum = signal.Signals(number)
                if act := self._actions.get(signum):
                    for _ in range(times if signum in _COUNTED else 1):
                        act(signum)


def _noted(_signum: int, _frame: object) -> None:
    """Be a handler, so that the default action is not taken; the byte in the pipe is what counts."""
