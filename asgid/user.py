"""The user of the workers, as `process.user` and `process.group` name it on this machine."""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from asgid.config import Process


@dataclass(frozen=True, slots=True)
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
    try:
        found = pwd.getpwnam(settings.user) if settings.user else pwd.getpwuid(os.getuid())
    except KeyError:
        if settings.user:
            raise
        return _nameless(os.getuid(), grp.getgrnam(settings.group).gr_gid)
    gid = grp.getgrnam(settings.group).gr_gid if settings.group else found.pw_gid
    groups = os.getgrouplist(found.pw_name, gid)
    return User(found.pw_name, found.pw_dir, found.pw_uid, gid, tuple(groups))


def _nameless(uid: int, gid: int) -> User:
    """Return a user without a name, as in a container that was started with `--user 12345`."""
    return User(str(uid), os.environ.get("HOME", "/"), uid, gid, tuple({gid, *os.getgroups()}))
