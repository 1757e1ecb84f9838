"""Unix sockets for a listener, and their files: created, given away, shared and removed.

A file is replaced only if a connect proves that no process listens on it. A file is removed only if it is still the
file that this master made.
"""

import os
import pwd
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from asgid.address import Abstract, Unix
from asgid.config.tables import Listen
from asgid.errors import UnavailableError
from asgid.user import find_gid, find_uid


@dataclass(frozen=True)
class SocketFile:
    """The file of a bound unix socket. Another user may replace it if the directory is writable for that user."""

    path: str
    inode: int
    device: int | None  #: None if the program before this one did not hand it over

    @classmethod
    def at(cls, path: str) -> "SocketFile":
        """Return the file that is at `path` now. Raises OSError."""
        found = os.lstat(path)
        return cls(path, found.st_ino, found.st_dev)

    def set_owner_and_mode(self, listen: Listen) -> None:
        """Set the owner, group and mode of the settings. Raises OSError, and UnavailableError if the file was replaced.

        The change applies to the file that was checked, even if its name leads to another file by then.
        """
        fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not self.is_at(os.fstat(fd)):
                raise UnavailableError(f"unix:{self.path}: another file has taken the place of the socket's")
            same = f"/proc/self/fd/{fd}"  # fchmod(2) takes no O_PATH
            if listen.owner or listen.group:
                uid, gid = _id("owner", find_uid, listen.owner), _id("group", find_gid, listen.group)
                os.chown(same, uid, gid)
            os.chmod(same, listen.mode)
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove the file if it was not replaced; no other file can have its inode while the socket is open."""
        with suppress(OSError):
            if self.is_at(os.lstat(self.path)):
                os.unlink(self.path)

    def is_same(self, other: "SocketFile") -> bool:
        """Return whether both are one file, under one name or two."""
        return (self.inode, self.device) == (other.inode, other.device)

    def is_at(self, found: os.stat_result) -> bool:
        """Return whether `found` is the status of this file."""
        is_same = found.st_ino == self.inode and self.device in (None, found.st_dev)
        return is_same and stat.S_ISSOCK(found.st_mode)


def open_unix(address: Unix, listen: Listen) -> tuple[socket.socket, SocketFile]:
    """Return a bound socket and its file, with owner and mode. Raises OSError and UnavailableError."""
    _remove_stale_socket(address)
    sock = socket.socket(socket.AF_UNIX)
    try:
        # With this umask no client can connect before owner and mode are set.
        umask = os.umask(0o777)
        try:
            sock.bind(address.path)
        finally:
            os.umask(umask)
        file = SocketFile.at(address.path)
        try:
            file.set_owner_and_mode(listen)
        except (OSError, UnavailableError):
            file.remove()
            raise
    except (OSError, UnavailableError):
        sock.close()
        raise
    return sock, file


def open_abstract(address: Abstract) -> socket.socket:
    """Return a socket that is bound to an abstract name (unix(7)). Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind("\0" + address.name)
    except OSError:
        sock.close()
        raise
    return sock


def why_denied(path: str) -> str:
    """Return which right this process lacks to make or replace the socket file `path`."""
    directory = os.path.dirname(os.path.abspath(path))
    user = _user(os.geteuid())
    if os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return f"permission denied; {user} may not connect to the socket file that is there, to see if it is in use"
    return f"permission denied; {user} may not make a file in {directory}"


def _remove_stale_socket(address: Unix) -> None:
    """Remove the file of a server that has exited. Raises UnavailableError for any other file."""
    try:
        mode = os.stat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UnavailableError(f"cannot listen on {address}: that file is not a socket, and asgid will not remove it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # connect(2) returns EAGAIN if the queue of a live server is full
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:  # the only answer that proves that the socket is closed
            os.unlink(address.path)
            return
        except BlockingIOError:
            pass
    raise UnavailableError(f"cannot listen on {address}: another server answers there; stop it first")


def _id(key: str, find: Callable[[str], int], name: str) -> int:
    """Return the id that a key of [[listen]] names; -1, which chown(2) takes for "no change", if the key is empty."""
    try:
        return find(name) if name else -1
    except LookupError as error:
        raise UnavailableError(f"listen.{key}: {error}") from None


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"
