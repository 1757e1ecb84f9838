"""The pid file: says which process is the master, and is locked, so that there is one.

The lock is the kernel's and goes with the process; a file that a killed master left behind is taken over without
asking. It is removed at the end only while it is still ours.
"""

import fcntl
import os
from contextlib import suppress

from asgid.errors import UnavailableError


class PidFile:
    """A locked file with our pid in it. Raises UnavailableError where it cannot be written, or a master holds it."""

    def __init__(self, path: str, fd: int | None = None) -> None:
        """`fd` is the locked file where the program before this one has left it."""
        try:
            self._path = os.path.abspath(path)
        except FileNotFoundError:  # the working directory was removed, and a file that was named from there with it
            self._path = path
        if fd is not None:
            self._fd = fd
            return
        self._fd = self._lock()
        # A master that ends removes its file, perhaps after we opened it and before we had the lock: then ours is on
        # a file that has no name.
        while not self._is_named():
            os.close(self._fd)
            self._fd = self._lock()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    @property
    def fd(self) -> int:
        return self._fd

    def remove(self) -> None:
        """Remove the file while it is still ours, and let the lock go."""
        with suppress(OSError):
            if self._is_named():
                os.unlink(self._path)
        os.close(self._fd)

    def _lock(self) -> int:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UnavailableError(f"process.pid_file: cannot write {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(fd, 20, 0).decode(errors="replace").strip()
            os.close(fd)
            raise UnavailableError(
                f"process.pid_file: {self._path} belongs to a running master (pid {other}); stop that one first"
            ) from None
        return fd

    def _is_named(self) -> bool:
        """Whether the file under our path is the one that we have locked."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._fd))
        except FileNotFoundError:
            return False
