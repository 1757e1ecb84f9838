"""The pid file: says which process is the master, and is locked, so that there is one.

The lock is the kernel's and goes with the process; a file that a killed master left behind is taken over without
asking. It is removed at the end only while it is still ours.
"""

import errno
import fcntl
import os
import stat
import struct
from contextlib import ExitStack, suppress

from asgid import descriptors
from asgid.errors import UnavailableError

# struct flock (fcntl(2)): type, whence, start, length, and a pid, which must be 0. From 0, length 0: the whole file.
_FLOCK = struct.Struct("hhqqi0q")
_REASONS = {errno.ELOOP: "it is a symbolic link, and what it leads to would be overwritten"}
# A FIFO would make the open wait for a reader, and a terminal would become the master's own.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class PidFile:
    """A locked file with our pid in it. Raises UnavailableError where it cannot be written, or a master holds it."""

    def __init__(self, path: str, fd: int | None = None) -> None:
        """`fd` is the locked file where the program before this one has left it."""
        try:
            self._path = os.path.abspath(path)
        except FileNotFoundError:  # the working directory was removed, and a file that was named from there with it
            self._path = path
        if fd is not None:
            self._fd = fd = descriptors.own(fd)
            with suppress(OSError):
                _lock(fd)  # as that program did, or before that one flock(2), which another start does not see
            return
        try:
            self._fd = self._open_locked()
            try:
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
            except OSError:  # the disk is full: an empty file would say nothing
                self.remove()
                raise
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, error.strerror)
            raise UnavailableError(f"process.pid_file: cannot write {self._path}: {reason}") from error

    @property
    def fd(self) -> int:
        return self._fd

    def remove(self) -> None:
        """Remove the file while it is still ours, and let the lock go."""
        with suppress(OSError):
            if self._is_at_path(self._fd):
                os.unlink(self._path)
        os.close(self._fd)

    def _open_locked(self) -> int:
        """Return the file that has our path, locked: (1) one that is free; (2) another, where the lock was had by who
        may read it, for that is no master; (3) another, where a master that ended has removed it before we had the
        lock.
        """
        while True:
            with ExitStack() as undo:
                fd = descriptors.own(os.open(self._path, _FLAGS, 0o644))
                undo.callback(os.close, fd)
                if problem := _why_refused(fd, os.path.dirname(self._path)):
                    raise UnavailableError(f"process.pid_file: {self._path} {problem}; asgid does not write there")
                is_ours = _lock(fd)
                if not is_ours and _is_held_by_a_writer(fd):
                    pid = os.pread(fd, 20, 0).strip()
                    other = pid.decode() if pid.isdigit() else "unknown"
                    raise UnavailableError(
                        f"process.pid_file: {self._path} belongs to a running master (pid {other}); stop that one first"
                    )
                if self._is_at_path(fd):
                    if is_ours:
                        undo.pop_all()
                        return fd
                    os.unlink(self._path)

    def _is_at_path(self, fd: int) -> bool:
        """Whether it is this file that our path leads to."""
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(fd))
        except FileNotFoundError:
            return False


def _why_refused(fd: int, directory: str) -> str:
    """Return why a file is not one that a master has left, "" if it is: who may write in the directory put it there."""
    found, place = os.fstat(fd), os.stat(directory)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_nlink > 1:
        return "has another name too (a hard link), and what that name stands for would be overwritten"
    if place.st_mode & stat.S_ISVTX and found.st_uid not in (os.geteuid(), place.st_uid):
        # As the kernel refuses it with fs.protected_regular, which not every machine sets (proc_sys_fs(5)).
        return f"belongs to uid {found.st_uid}, in a directory where any user may write"
    return ""


def _lock(fd: int) -> bool:
    """Lock the file, and return whether that could be. The lock belongs to the open file, and survives execve(2).

    Of flock(2) it would take no more than the right to read, so that any user could keep a master from starting.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def _is_held_by_a_writer(fd: int) -> bool:
    """Whether a lock is held that takes the right to write: what a reader may have would not be in a reader's way."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
