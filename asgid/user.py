"""The user of the workers, as `process.user` and `process.group` name it on this machine."""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from asgid.config.tables import Process


@dataclass(frozen=True)
class User:
    """A user with its groups."""

    name: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @contextmanager
    def impersonated(self) -> Iterator[None]:
        """Have the rights of this user inside, and those of root afterwards. Raises OSError without the permission.

        Only the effective ids change. The real and the saved ids prevent a process of the user from signalling or
        tracing this one meanwhile (kill(2), ptrace(2)). For a process with one thread.
        """
        with ExitStack() as back:  # the uid changes last and returns first: only root may change groups
            back.callback(os.setgroups, os.getgroups())
            os.setgroups(self.groups)
            back.callback(os.setegid, os.getegid())
            os.setegid(self.gid)
            back.callback(os.seteuid, os.geteuid())
            os.seteuid(self.uid)
            yield


def user_of(settings: Process) -> User | None:
    """Return the user of the settings; None if they name neither user nor group. Raises LookupError."""
    if not (settings.user or settings.group):
        return None
    uid = find_uid(settings.user) if settings.user else os.getuid()
    gid = find_gid(settings.group) if settings.group else None
    is_name = settings.user and not _is_id(settings.user)
    try:
        entry = pwd.getpwnam(settings.user) if is_name else pwd.getpwuid(uid)
    except KeyError:
        return _nameless(uid, gid)
    gid = entry.pw_gid if gid is None else gid
    return User(entry.pw_name, entry.pw_dir, uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)))


def find_uid(user: str) -> int:
    """Return the id of a user. The text is a name or an id; an id needs no name. Raises LookupError."""
    try:
        return int(user) if _is_id(user) else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise LookupError(f"this machine has no user {user!r}") from None


def find_gid(group: str) -> int:
    """Return the id of a group. The text is a name or an id; an id needs no name. Raises LookupError."""
    try:
        return int(group) if _is_id(group) else grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(f"this machine has no group {group!r}") from None


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _nameless(uid: int, gid: int | None) -> User:
    """Return a user without a name, as in a container that was started with `--user 12345`.

    It has no group but `gid`, unless this process is that user already and keeps its own groups.
    """
    if uid == os.getuid():
        gid = os.getgid() if gid is None else gid
        return User(str(uid), os.environ.get("HOME", "/"), uid, gid, tuple({gid, *os.getgroups()}))
    if gid is None:  # the group of the master would be root's
        raise LookupError(f"uid {uid} has no name on this machine, and so no group; set process.group too")
    return User(str(uid), "/", uid, gid, (gid,))
