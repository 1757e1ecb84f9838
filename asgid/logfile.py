"""Opening a log file: with the rights of root only if the user of the workers cannot change its path.

A user with write access to a directory on the path can put a link there. Root would create the target or append lines
to it, and the lines contain data of clients. So the file is opened with the rights of that user. The exception is a
path whose directories all belong to root and are not writable for the user. This file does not know the format of
lines.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from asgid.user import User

_MAX_LINKS = 40  # path_resolution(7)
_MAX_STEPS = 200  # names on a path, those in links included; a step takes 0.2 ms


def open_log(user: User | None, path: Path) -> int:
    """Return a descriptor that appends to the file, which is created with mode 0640 if it is missing. Raises OSError.

    `user` is the user of the workers; None if they keep the user of the master.
    """
    if user is None or not user.uid or os.geteuid() or _is_path_safe(user, path):
        return _open(path)
    try:
        with user.impersonated():
            return _open(path)
    except PermissionError as error:
        condition = f"root owns all directories above it, and {user.name} may not write there"
        raise PermissionError(
            error.errno, f"{error.strerror} (opened as {user.name}; opened as root only if {condition})", str(path)
        ) from error


def _open(path: Path) -> int:
    # O_NONBLOCK: without it, the open of a FIFO waits for a reader. It has no effect on a regular file.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(path, flags, 0o640)


def _is_path_safe(user: User, path: Path) -> bool:
    """Return whether the user cannot change the target of the path; then no race can change it during this check.

    Each step is judged before the next one is looked up, so the walk never follows a link of the user: 40 long links
    would lead it through 60,000 directories.
    """
    try:
        return all(_is_step_safe(user, *step) for step in _steps(path))
    except OSError:
        return False


def _is_step_safe(user: User, directory: Path, entry: Path) -> bool:
    if directory.stat().st_uid:
        return False
    with user.impersonated():  # access(2) includes access control lists
        is_writable = os.access(directory, os.W_OK, effective_ids=True)
    return not is_writable or _is_kept(directory, entry)


def _steps(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each directory on the path and the entry that is looked up in it. Links are followed as the kernel does it.

    Raises OSError if a link is broken, links form a circle, or the path is too long.
    """
    above, names, links = Path("/"), [*reversed(path.parts)], 0
    for _ in range(_MAX_STEPS):
        if not names:
            return
        if above == Path(f"/proc/{os.getpid()}/fd"):  # /dev/stdout: the process that started asgid opened it
            return
        name = names.pop()
        here = above.parent if name == ".." else above / name  # "/" / "/" is "/"
        yield above, here
        if here.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise OSError(f"{path}: too many links")
            names += reversed(here.readlink().parts)
        else:
            above = here
    raise OSError(f"{path}: more than {_MAX_STEPS} directories")


def _is_kept(directory: Path, entry: Path) -> bool:
    """Return whether no user can replace the entry of a writable directory: root's directory in a sticky one, as /tmp.

    A sticky directory (S_ISVTX, inode(7)) does not allow another user to rename it, and a directory has no hard link.
    """
    return bool(directory.stat().st_mode & stat.S_ISVTX) and stat.S_ISDIR(entry.lstat().st_mode)
