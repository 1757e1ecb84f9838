"""The controlling terminal of the master: whether one exists, and whether it has just closed.

A terminal sends signals that an operator sends too: WINCH at each resize, and HUP when it closes. A shell that exits
sends HUP to its jobs at the same moment. This file does not know how the master reacts.
"""

import fcntl
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
#: A HUP that arrives this soon after the terminal has closed comes from it; a shell sends it some milliseconds later.
_HANGUP_S = 2.0


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal now (tty(4): the open fails if it has none)."""
    try:
        os.close(_open())
    except OSError:
        return False
    return True


def ignores_hangup() -> bool:
    """Return whether the process was started with HUP ignored, as nohup(1) does, to outlive its terminal."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def leave_terminal() -> None:
    """Give up the controlling terminal, and every right to read a terminal, for a worker that becomes another user.

    Otherwise the worker could type commands into the shell that started asgid (TIOCSTI, ioctl_tty(2)), and read the
    input of that shell. Standard output and standard error still reach the terminal. The worker stays in its session
    and process group, so it receives the same signals as before. Raises OSError if no descriptor is left, and
    UnavailableError without /dev/null.
    """
    try:
        fd = _open()
    except OSError as error:  # no terminal, or no /dev/tty
        if error.errno in descriptors.RESOURCE_ERRORS:
            raise
    else:
        _disown(fd)
        os.close(fd)
    for fd in (0, 1, 2):
        if os.isatty(fd):
            _disown(fd)
            _make_unreadable(fd)


class Terminal:
    """Detects the end of the controlling terminal, if there was one at the start."""

    def __init__(self, selector: selectors.BaseSelector, *, is_outlived: bool) -> None:
        self._selector, self._closed_at = selector, -inf
        self.is_outlived = is_outlived
        try:
            self._fd = -1 if is_outlived else descriptors.own(_open())
        except OSError:
            self._fd = -1
        if self._fd < 0:
            return
        self._modes = self._current_modes()
        # An epoll of its own, edge-triggered: a typed line, which the master never reads, wakes the loop only once.
        with select.epoll() as epoll:
            self._epoll = select.epoll.fromfd(descriptors.copy(epoll.fileno()))
        self._epoll.register(self._fd, select.EPOLLIN | select.EPOLLET)
        selector.register(self._epoll, selectors.EVENT_READ, lambda _: self._poll())

    def has_just_closed(self) -> bool:
        """Return whether the terminal closed a moment ago, so that a HUP that arrives now comes from it."""
        self._poll()
        return time.monotonic() - self._closed_at < _HANGUP_S

    def restore(self) -> None:
        """Restore the modes of the start: a worker that is killed in a debugger leaves raw mode without echo."""
        if self._fd < 0 or self._modes is None or self._current_modes() in (None, self._modes):
            return
        # From a background process the call sends TTOU, unless that is blocked (tcsetattr(3)).
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)
        except termios.error:
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _current_modes(self) -> "list[Any] | None":
        """Return the modes; None if asgid is in the background, because the modes are the shell's then."""
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

    def _poll(self) -> None:
        if self._fd >= 0 and any(events & select.EPOLLHUP for _, events in self._epoll.poll(0)):
            self._closed_at = time.monotonic()
            self.close()


def _open() -> int:
    return os.open(_PATH, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)


def _disown(fd: int) -> None:
    with suppress(OSError):  # it is not the controlling terminal
        fcntl.ioctl(fd, termios.TIOCNOTTY)


def _make_unreadable(fd: int) -> None:
    """Replace standard input by /dev/null, and an output by one that is open for writing only."""
    new = _open_for_writing(fd) if fd else descriptors.open_null(os.O_RDONLY, "a worker of another user")
    os.dup2(new, fd)
    os.close(new)


def _open_for_writing(fd: int) -> int:
    try:
        new = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:  # no /proc, or the terminal has just closed
        if error.errno in descriptors.RESOURCE_ERRORS:
            raise
        return descriptors.open_null(os.O_WRONLY, "a worker of another user")
    os.set_blocking(new, True)
    return new
