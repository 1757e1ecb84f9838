"""Opening a log file: with root's rights only where the user that the workers are cannot say which file that is.

A user who may write in a directory on the way to a file may put a link there, and root would create, or append to, what
the link leads to: with lines that a client has a part in. So the file is opened with that user's rights, unless
every directory on its way is root's and closed to him. This file does not know what is written.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from asgid.user import User

_MAX_LINKS = 40  # path_resolution(7)


def open_log(user: User | None, path: Path) -> int:
    """Return a descriptor that appends to the file; one that is missing is created with mode 0640. Raises OSError.

    `user` is whom the workers will be, None where they stay who they are.
    """
    if user is None or not user.uid or os.geteuid() or _is_out_of_reach(user, path):
        return _open(path)
    try:
        with user.impersonated():
            return _open(path)
    except PermissionError as error:
        where = f"all directories above it are root's, and {user.name} may not write there"
        raise PermissionError(
            error.errno, f"{error.strerror} (as {user.name}; as root only where {where})", str(path)
        ) from error


def _open(path: Path) -> int:
    # O_NONBLOCK means nothing to a file; without it, opening a FIFO that nobody reads would never return.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    return os.open(path, flags, 0o640)


def _is_out_of_reach(user: User, path: Path) -> bool:
    """Whether the user can change nothing about where the path leads. What he cannot, cannot change while we look."""
    try:
        steps = list(_steps(path))
        if any(directory.stat().st_uid for directory, _ in steps):
            return False
        with user.impersonated():  # the kernel knows of access control lists, too
            open_to_him = [step for step in steps if os.access(step[0], os.W_OK, effective_ids=True)]
        return all(_is_kept(*step) for step in open_to_him)
    except OSError:
        return False


def _steps(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each directory on the way to the file, with what is looked up there; links are followed as the kernel does.

    Raises OSError where they lead nowhere or in a circle.
    """
    above, names, links = Path("/"), [*reversed(path.parts)], 0
    while names:
        if above == Path(f"/proc/{os.getpid()}/fd"):  # /dev/stdout: who started us has opened what is behind it
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


def _is_kept(directory: Path, entry: Path) -> bool:
    """Whether a directory that all may write in, as /tmp, keeps what the entry is: a directory of root's is not moved
    away from there (S_ISVTX, inode(7)), and has no other name.
    """
    return bool(directory.stat().st_mode & stat.S_ISVTX) and stat.S_ISDIR(entry.lstat().st_mode)
