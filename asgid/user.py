"""The user that the workers are: whom `process.user` and `process.group` name on this machine."""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from asgid.config import Process


@dataclass(frozen=True, slots=True)
class User:
    """Whose rights a worker has."""

    name: str
    home: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @contextmanager
    def impersonated(self) -> Iterator[None]:
        """Have this user's rights inside, and root's again afterwards. Raises OSError where we may not.

        Only the effective ids change: the real and the saved ones keep his processes from signalling or tracing this
        one meanwhile (kill(2), ptrace(2)). For a process of one thread.
        """
        with ExitStack() as back:  # in the order in which each still may
            back.callback(os.setgroups, os.getgroups())
            os.setgroups(self.groups)
            back.callback(os.setegid, os.getegid())
            os.setegid(self.gid)
            back.callback(os.seteuid, os.geteuid())
            os.seteuid(self.uid)
            yield


def user_of(settings: Process) -> User | None:
    """Return the user of the settings, None where they name neither user nor group. Raises LookupError."""
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
    """Return a user that has a number only, as in a container that was started with `--user 12345`."""
    return User(str(uid), os.environ.get("HOME", "/"), uid, gid, tuple({gid, *os.getgroups()}))
