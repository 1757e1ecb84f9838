"""Signals of the master: each one becomes a byte in a pipe, and its action runs in a turn of the loop.

The program blocks them in its first line, so none is lost, and none kills the process before the loop can read it. A
pipe holds 65536 bytes or more. A socketpair was full after about 280 signals, and a flood of USR1 hid a TERM: Python
drops a byte that does not fit. This file does not know the meaning of a signal.
"""

import os
import selectors
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from fcntl import F_GETPIPE_SZ, fcntl

from asgid import descriptors
from asgid.command_signals import COMMANDS

#: The signals that the master handles.
SIGNALS = (*COMMANDS, signal.SIGCHLD)
#: Each of these changes the number of workers by one. Of any other signal, a thousand mean the same as one.
_COUNTED = (signal.SIGTTIN, signal.SIGTTOU)


class Signals:
    """The signals, with the action of each. CHLD has no action: it wakes the loop, and every turn reaps."""

    def __init__(
        self, selector: selectors.BaseSelector, actions: Mapping[signal.Signals, Callable[[signal.Signals], None]]
    ) -> None:
        self._selector, self._actions = selector, actions
        self._reader, self._writer = map(descriptors.own, os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        self._pipe_bytes = fcntl(self._reader, F_GETPIPE_SZ)

    def install(self) -> None:
        """Install the handlers and unblock the signals; pending ones arrive now."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for signum in SIGNALS:
            signal.signal(signum, _handler)
        self._selector.register(self._reader, selectors.EVENT_READ, lambda _: self.dispatch())
        self.unblock()

    def block(self) -> None:
        """Block the signals, and run the actions of those that have arrived."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self.dispatch()

    def unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def dispatch(self) -> None:
        """Run the actions of the signals that have arrived."""
        with suppress(BlockingIOError):
            # One read of a whole pipe: 64 KiB with pages of 4 KiB, 1 MiB with pages of 64 KiB (arm64).
            for number, times in Counter(os.read(self._reader, self._pipe_bytes)).items():
                signum = signal.Signals(number)
                if act := self._actions.get(signum):
                    for _ in range(times if signum in _COUNTED else 1):
                        act(signum)


def _handler(_signum: int, _frame: object) -> None:
    """Do nothing: a handler replaces the default action, and the interpreter writes the byte to the pipe."""
