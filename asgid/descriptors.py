"""The descriptors of asgid itself: numbers that no other code in the process gets, and a list of them.

open(2) returns the lowest free number. An application or an agent that closes a descriptor twice closes, the second
time, a low number that other code has by then. So asgid's own descriptors have high numbers. The list says which ones a
child of fork(2) may close: all others belong to the code that opened them. It holds the file behind each number, too,
because a number that asgid has closed may be open again for other code.
"""

import fcntl
import os
import resource
import socket
from collections.abc import Iterable

#: Half of the usual soft limit of 1024: few processes come so far with numbers of their own.
_LOWEST = 512

_own: dict[int, tuple[int, int] | None] = {}  # number -> the file that it was opened for


def own(fd: int) -> int:
    """Move a descriptor to a high number, which children do not inherit over execve(2); return the number."""
    lowest = min(_LOWEST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    if fd < lowest:
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:  # all high numbers are taken: a low one serves as well
            pass
        else:
            os.close(fd)
            fd = high
    note(fd)
    return fd


def own_socket(sock: socket.socket) -> socket.socket:
    """Move a socket to a high number; return the socket that has it."""
    timeout = sock.gettimeout()
    moved = socket.socket(sock.family, sock.type, sock.proto, fileno=own(sock.detach()))
    moved.settimeout(timeout)
    return moved


def copy(fd: int) -> int:
    """Return a copy of a descriptor under a high number. Raises OSError."""
    return own(os.dup(fd))


def note(fd: int) -> None:
    """List a descriptor as asgid's under the number that it has; for one that stays open as long as the process."""
    _own[fd] = identity(fd)


def listed() -> frozenset[int]:
    """Return the numbers of asgid's descriptors that are open."""
    return frozenset(fd for fd, file in _own.items() if file and identity(fd) == file)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every listed descriptor that is not in `kept`; for a child, which has copies of its parent's."""
    kept = frozenset(kept)
    for fd in listed() - kept:
        os.close(fd)
    for fd in _own.keys() - kept:
        del _own[fd]


def identity(fd: int) -> tuple[int, int] | None:
    """Return the device and the inode of what is open under a number; None if nothing is."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_standard_streams() -> None:
    """Open /dev/null under each of the numbers 0, 1 and 2 that is free.

    Else the next connection gets the number, and a client receives what some code prints.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
