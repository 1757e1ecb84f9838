"""The pid file: it holds the pid of the master, and its lock prevents a second master.

The kernel releases the lock when the process ends, so the file of a killed master is used again. At the end the file is
removed only if it is still the file of this master.
"""

import errno
import fcntl
import os
import stat
import struct
from contextlib import ExitStack, suppress

from asgid import descriptors
from asgid.errors import UnavailableError

# struct flock (fcntl(2)): type, whence, start, length and pid, which must be 0. Start 0 and length 0: the whole file.
_FLOCK = struct.Struct("hhqqi0q")
_REASONS = {errno.ELOOP: "it is a symbolic link, and its target would be overwritten"}
# O_NONBLOCK: the open of a FIFO would wait for a reader. O_NOCTTY: a terminal would become the controlling one.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class PidFile:
    """A locked file with our pid. Raises UnavailableError if it cannot be written or another master holds its lock."""

    def __init__(self, path: str, fd: int | None = None) -> None:
        """`fd` is the locked file of the program before this one, if that program handed it over."""
        try:
            self._path = os.path.abspath(path)
        except FileNotFoundError:  # the working directory was removed, with the file
            self._path = path
        if fd is not None:
            self._fd = fd = descriptors.own(fd)
            with suppress(OSError):
                _lock(fd)  # again: an older version used flock(2), which another start does not see
            return
        try:
            self._fd = self._open_locked()
            try:
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
            except OSError:  # the disk is full; an empty file would name no process
                self.remove()
                raise
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, error.strerror)
            raise UnavailableError(f"process.pid_file: cannot write {self._path}: {reason}") from error

    @property
    def fd(self) -> int:
        return self._fd

    def remove(self) -> None:
        """Remove the file if it is still ours, and release the lock."""
        with suppress(OSError):
            if self._is_at_path(self._fd):
                os.unlink(self._path)
        os.close(self._fd)

    def _open_locked(self) -> int:
        """Return the descriptor of the locked file. Raises OSError and UnavailableError.

        (1) Not locked: use it. (2) Locked by a process with read access only, which cannot be a master: replace it.
        (3) Unlinked by a master that exited before we had the lock: try again.
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
        """Return whether our path leads to this file."""
        try:
            return os.path.samestat(os.lstat(self._path), os.fstat(fd))
        except FileNotFoundError:
            return False


def _why_refused(fd: int, directory: str) -> str:
    """Return why the file cannot be that of a master, "" if it can be.

    Any user with write access to the directory may have put it there.
    """
    found, place = os.fstat(fd), os.stat(directory)
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_nlink > 1:
        return "has another name too (a hard link), and that file would be overwritten"
    if place.st_mode & stat.S_ISVTX and found.st_uid not in (os.geteuid(), place.st_uid):
        # The kernel refuses it with fs.protected_regular, which not every machine sets (proc_sys_fs(5)).
        return f"belongs to uid {found.st_uid}, in a directory where any user may write"
    return ""


def _lock(fd: int) -> bool:
    """Lock the file, and return whether it was free. The lock belongs to the open file and survives execve(2).

    flock(2) needs only read access, so with it any user could prevent the start of a master.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        return False
    return True


def _is_held_by_a_writer(fd: int) -> bool:
    """Return whether another process holds a write lock. The test is for a read lock: two of those do not conflict."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
