"""Becoming the user of `process.user`, without a capability, before any of the application's code is imported.

Where `process.user` or `process.group` is set, every set of capabilities(7) is empty in the end, but for the bounding
set where that may not be emptied. So it is also when it was that very user who started asgid and systemd gave him
CAP_NET_BIND_SERVICE (AmbientCapabilities=): the master binds, so the master keeps it. prctl(2) and capset(2) act on the
calling thread alone; a worker has no other yet.
"""

import ctypes
import os
from contextlib import suppress
from itertools import count

from asgid.config import Process
from asgid.errors import BootError
from asgid.user import User, user_of

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
#: capset(2): version 3, this thread; then effective, permitted, inheritable of capabilities 0 to 31, and of 32 to 63.
_HEADER, _NONE = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
#: In /proc/self/status, what this process has or hands on. The bounding set gives nothing, it only takes away.
_SETS = ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")

_libc = ctypes.CDLL(None, use_errno=True)


def user(settings: Process) -> User | None:
    """Return whom a worker becomes, None where it stays who it is. Raises BootError where there is no such user."""
    try:
        return user_of(settings)
    except LookupError as error:
        raise BootError(f"process.user or process.group: {error.args[0]}") from error


def drop(settings: Process) -> None:
    """Set the umask; become the user and the group that are set, and give up every capability for good.

    Raises BootError where that is not allowed, or a capability is left.
    """
    os.umask(settings.umask)
    who = user(settings)
    if who is None:
        return
    # In this order, for each needs what a later one takes away.
    _empty_bounding_set()  # CAP_SETPCAP
    _become(who)  # CAP_SETGID, CAP_SETUID
    _refuse_new_privileges()
    _empty_the_other_sets()


def _empty_bounding_set() -> None:
    # Up to EINVAL, after the last that this kernel knows. Without CAP_SETPCAP it is EPERM at once: then the set stays,
    # and no_new_privs keeps what is in it out of reach.
    for capability in count():
        if _prctl(_PR_CAPBSET_DROP, capability):
            return


def _become(who: User) -> None:
    uid, gid = who.uid, who.gid
    if (os.getresuid(), os.getresgid()) == ((uid, uid, uid), (gid, gid, gid)):
        return  # that is who started asgid, by systemd for one, with the groups that he is to have
    try:
        os.setgroups(who.groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise BootError(
            f"process.user: cannot become {who.name!r} with group {gid}: {error.strerror}; "
            f"only root can (CAP_SETUID, CAP_SETGID), this is uid {os.getuid()}"
        ) from error
    os.environ |= {"HOME": who.home, "USER": who.name, "LOGNAME": who.name}


def _refuse_new_privileges() -> None:
    """No set-user-ID program and no file capability gives anything back, whatever this process executes."""
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise BootError(f"process.user: no_new_privs: {os.strerror(ctypes.get_errno())}")


def _empty_the_other_sets() -> None:
    # The kernel takes out of the ambient set what leaves the permitted or the inheritable one (capabilities(7)).
    refused = ctypes.get_errno() if _libc.capset(_HEADER, _NONE) else 0
    if left := _left():
        raise BootError(f"process.user: the worker keeps capabilities ({left}); capset: {os.strerror(refused)}")


def _left() -> str:
    """Return the sets that are not empty, in the kernel's words; "" also where there is no /proc to tell."""
    with suppress(FileNotFoundError), open("/proc/self/status") as status:
        sets = (line.split() for line in status if line.startswith(_SETS))
        return ", ".join(f"{name} {mask}" for name, mask in sets if int(mask, 16))
    return ""


def _prctl(option: int, value: int) -> int:
    """Call prctl(2); 0, or -1 with errno set."""
    answer: int = _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))
    return answer
