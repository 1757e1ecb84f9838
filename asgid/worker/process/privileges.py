"""Makes a worker the user of `process.user`, without capabilities, before the application is imported.

If `process.user` or `process.group` is set, all sets of capabilities(7) are empty at the end; the bounding set only if
the worker may empty it. This also holds if the master runs as that user with CAP_NET_BIND_SERVICE from systemd
(AmbientCapabilities=): only the master binds, and keeps it. prctl(2) and capset(2) act on the calling thread; the
worker has no other one yet.
"""

import ctypes
import errno
import os
import sys
from contextlib import suppress
from itertools import count

from asgid.config.tables import Process
from asgid.errors import BootError
from asgid.user import User, user_of

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
#: capset(2): version 3, this thread; then the effective, permitted and inheritable capabilities 0 to 31, and 32 to 63.
_HEADER, _NONE = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
#: The sets of /proc/self/status that give a capability, now or after exec. The bounding set only limits them.
_SETS = ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")

#: Machine -> number of keyctl(2), which has no function in libc. In a process of 32 bits the numbers are others.
_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)


def user(settings: Process) -> User | None:
    """Return the user of the worker, or None if it does not change. Raises BootError if there is no such user."""
    try:
        return user_of(settings)
    except LookupError as error:
        raise BootError(f"process.user or process.group: {error.args[0]}") from error


def drop(settings: Process) -> None:
    """Set the umask, the user and the group, and drop all capabilities forever.

    Raises BootError if that is not permitted, or if a capability remains.
    """
    os.umask(settings.umask)
    account = user(settings)
    if account is None:
        return
    # In this order: each call needs a capability that a later one drops.
    _empty_bounding_set()  # CAP_SETPCAP
    _become(account)  # CAP_SETGID, CAP_SETUID
    _refuse_new_privileges()
    _empty_the_other_sets()


def _empty_bounding_set() -> None:
    # Up to EINVAL, after the last capability of this kernel. Without CAP_SETPCAP the first call fails with EPERM: the
    # set stays, and no_new_privs makes it useless.
    for capability in count():
        if _prctl(_PR_CAPBSET_DROP, capability):
            return


def _become(account: User) -> None:
    uid, gid = account.uid, account.gid
    if (os.getresuid(), os.getresgid()) == ((uid, uid, uid), (gid, gid, gid)):
        return  # systemd, for example, started asgid as this user, with its groups
    _leave_session_keyring()  # as root, because a user may have only 200 keys (keyrings(7))
    try:
        os.setgroups(account.groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise BootError(
            f"process.user: cannot become {account.name!r} with group {gid}: {error.strerror}; "
            f"only root can (CAP_SETUID, CAP_SETGID); asgid runs with uid {os.getuid()}"
        ) from error
    os.environ |= {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}


def _leave_session_keyring() -> None:
    """Join a new, empty session keyring. A process may use all keys of its session keyring, also those of root.

    Nothing happens if this kernel or its seccomp filter has no keyctl(2), because no worker can use a key then.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is None or sys.maxsize < 2**32:
        return
    joined = _libc.syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), None)
    if joined < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        raise BootError(f"process.user: cannot leave the keyring of the master: {os.strerror(ctypes.get_errno())}")


def _refuse_new_privileges() -> None:
    """Set no_new_privs: no set-user-ID program and no file capability restores privileges at exec."""
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise BootError(f"process.user: no_new_privs: {os.strerror(ctypes.get_errno())}")


def _empty_the_other_sets() -> None:
    # The kernel also drops these capabilities from the ambient set (capabilities(7)).
    refused = ctypes.get_errno() if _libc.capset(_HEADER, _NONE) else 0
    if left := _nonempty_sets():
        raise BootError(f"process.user: the worker keeps capabilities ({left}); capset: {os.strerror(refused)}")


def _nonempty_sets() -> str:
    """Return the sets that are not empty, in the kernel's format; "" also without /proc."""
    with suppress(FileNotFoundError), open("/proc/self/status") as status:
        sets = (line.split() for line in status if line.startswith(_SETS))
        return ", ".join(f"{name} {mask}" for name, mask in sets if int(mask, 16))
    return ""


def _prctl(option: int, value: int) -> int:
    """Call prctl(2). Return 0, or -1 with errno set."""
    result: int = _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))
    return result
