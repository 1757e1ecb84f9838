"""The descriptors of asgid itself: high numbers, which other code in the process does not get, and a list of them.

open(2) returns the lowest free number. If an application or an agent closes a descriptor twice, the second close hits a
low number that other code has by then. A high number is safe. A child may close only descriptors on the list: all
others belong to the code that opened them. The list has the file of each number too, because other code may have opened
a number again that asgid has closed.
"""

import errno
import fcntl
import os
import resource
import socket
from collections.abc import Iterable
from contextlib import suppress

from asgid.errors import UnavailableError

#: Half of the usual soft limit of 1024; few processes have so many descriptors of their own.
_LOWEST = 512

#: The process or the machine has no descriptor or memory left.
RESOURCE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_SO_PASSRIGHTS = 83  #: Linux 6.16 (asm-generic/socket.h); Python has no name for it

_own: dict[int, tuple[int, int] | None] = {}  # number -> its file, as (device, inode)


def own(fd: int) -> int:
    """Move a descriptor to a high number, with close-on-exec, and put it on the list. Returns the number."""
    lowest = min(_LOWEST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    if fd < lowest:
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError:  # all high numbers are in use: keep the low one
            pass
        else:
            os.close(fd)
            fd = high
    register(fd)
    return fd


def own_socket(sock: socket.socket) -> socket.socket:
    """Return the socket under a high number, on the list. The given socket object is detached."""
    timeout = sock.gettimeout()
    moved = socket.socket(sock.family, sock.type, sock.proto, fileno=own(sock.detach()))
    moved.settimeout(timeout)
    return moved


def copy(fd: int) -> int:
    """Return a duplicate under a high number, on the list. Raises OSError."""
    return own(os.dup(fd))


def register(fd: int) -> None:
    """Put a descriptor on the list under its present number."""
    _own[fd] = identity(fd)


def listed() -> frozenset[int]:
    """Return the numbers on the list that are still open for the same file."""
    return frozenset(fd for fd, file in _own.items() if file and identity(fd) == file)


def close_all_but(kept: Iterable[int]) -> None:
    """Close every listed descriptor that is not in `kept`; for a child, which inherits those of its parent."""
    kept = frozenset(kept)
    for fd in listed() - kept:
        os.close(fd)
    for fd in _own.keys() - kept:
        del _own[fd]


def identity(fd: int) -> tuple[int, int] | None:
    """Return the device and inode of the file that is open under a number; None if none is."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def refuse_passed(sock: socket.socket) -> None:
    """Refuse the descriptors that clients of a listening unix socket pass to a worker (SCM_RIGHTS, unix(7)).

    A worker takes none, so its read(2) closes them. The close of a TCP socket with SO_LINGER waits, and with it all
    clients of the worker. sendmsg(2) of such a client raises EPERM instead. Before Linux 6.16 nothing happens.
    """
    if sock.family == socket.AF_UNIX:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)


def open_standard_streams() -> None:
    """Open /dev/null under each of the numbers 0, 1 and 2 that is free. Raises UnavailableError.

    Otherwise a connection could get the number, and its client would receive the output of print().
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        if identity(number) is None:
            fd = open_null(flags, f"descriptor {number}, which is closed,")
            os.dup2(fd, number)  # without close-on-exec, as a standard stream has to be
            if fd != number:
                os.close(fd)


def open_null(flags: int, user: str) -> int:
    """Return a new descriptor of /dev/null for `user`. Raises UnavailableError, with the fix."""
    try:
        return os.open(os.devnull, flags | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in RESOURCE_ERRORS:
            raise
        raise UnavailableError(
            f"{user} needs {os.devnull}: {error.strerror}; as root: "
            f"rm -f {os.devnull}; mknod -m 666 {os.devnull} c 1 3 (null(4))"
        ) from error
