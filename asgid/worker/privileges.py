"""Becoming the user of `process.user`: before any of the application's code is imported, and for good."""

import ctypes
import grp
import os
import pwd

from asgid.config import Process
from asgid.errors import BootError

_PR_SET_NO_NEW_PRIVS = 38  # prctl(2): no set-user-ID program gives back what is dropped here


def drop(settings: Process) -> None:
    """Set the umask, then groups and user as configured; raises BootError where that is not allowed."""
    os.umask(settings.umask)
    if not (settings.user or settings.group):
        return
    try:
        user = pwd.getpwnam(settings.user) if settings.user else pwd.getpwuid(os.getuid())
        gid = grp.getgrnam(settings.group).gr_gid if settings.group else user.pw_gid
        if (os.getuid(), os.getgid()) == (user.pw_uid, gid):
            return  # started as that user, by systemd for one
        os.initgroups(user.pw_name, gid)
        os.setgid(gid)
        os.setuid(user.pw_uid)
    except KeyError as error:
        raise BootError(f"process.user or process.group: {error.args[0]}") from error
    except PermissionError as error:
        raise BootError(
            f"process.user: cannot become {settings.user or settings.group!r}: only root can, this is uid {os.getuid()}"
        ) from error
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.environ |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
