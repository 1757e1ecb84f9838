"""The terminal that the master runs in: it sends some of the signals that an operator sends too.

A terminal sends WINCH at each resize, and HUP when it closes. A shell that ends sends HUP to its jobs at the same
moment. This file decides nothing: it tells whether a terminal is there, and whether it has just closed.
"""

import os
import select
import selectors
import signal
import termios
import time
from contextlib import suppress
from math import inf
from typing import Any

from asgid import descriptors

_PATH = "/dev/tty"
#: How long after the end of its terminal a HUP is part of that end: a shell sends it a few milliseconds later.
_END_S = 2.0


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal now (tty(4): the open fails if it has none)."""
    try:
        os.close(_open())
    except OSError:
        return False
    return True


def ignores_hangup() -> bool:
    """Return whether the process was started to outlive its terminal, as nohup(1) starts it: with HUP ignored."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


class Terminal:
    """Notices the end of the controlling terminal, if there was one at the start."""

    def __init__(self, selector: selectors.BaseSelector, *, is_outlived: bool) -> None:
        self._selector, self._closed_at = selector, -inf
        self.is_outlived = is_outlived
        try:
            self._fd = -1 if is_outlived else descriptors.own(_open())
        except OSError:
            self._fd = -1
        if self._fd < 0:
            return
        self._modes = self._modes_now()
        # An epoll of its own: typed lines, which nothing here reads, wake the loop once each, not forever.
        with select.epoll() as epoll:
            self._epoll = select.epoll.fromfd(descriptors.copy(epoll.fileno()))
        self._epoll.register(self._fd, select.EPOLLIN | select.EPOLLET)
        selector.register(self._epoll, selectors.EVENT_READ, lambda _: self._look())

    def has_just_closed(self) -> bool:
        """Return whether the terminal closed a moment ago: a HUP that comes now belongs to that."""
        self._look()
        return time.monotonic() - self._closed_at < _END_S

    def restore(self) -> None:
        """Set the modes of the start again: a worker that was killed in a debugger has left its own (raw, no echo)."""
        if self._fd < 0 or self._modes is None or self._modes_now() in (None, self._modes):
            return
        # From a background process the call sends TTOU, unless that is blocked (tcsetattr(3)).
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        except termios.error:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _modes_now(self) -> "list[Any] | None":
        """Return the modes; None if asgid is not in the foreground, for then they are those of the shell."""
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(self._fd) == os.getpgrp():
                return termios.tcgetattr(self._fd)
        return None

    def close(self) -> None:
        if self._fd >= 0:
            self._selector.unregister(self._epoll)
            self._epoll.close()
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        if self._fd >= 0 and any(events & select.EPOLLHUP for _, events in self._epoll.poll(0)):
            self._closed_at = time.monotonic()
            self.close()


def _open() -> int:
    return os.open(_PATH, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
