"""Stacks at a fatal signal: faulthandler with a larger signal stack, which has space for a frame of every signal.

All handlers of Python run on the alternate signal stack of faulthandler, which has space for two to six frames. The
kernel pushes a frame for each pending signal before the first handler runs, so a burst of signals ended the process
with SIGSEGV. This file does not know which signals a process handles.
"""

import ctypes
import faulthandler
import mmap
import os
from signal import NSIG

_AT_MINSIGSTKSZ = 51  # getauxval(3): bytes of the largest frame that this processor needs
#: Linux before 5.14 does not report it on x86. AMX, which has the largest registers, needs 11,008.
_LARGEST_FRAME_BYTES = 16384
#: Between two frames are the red zone (128 bytes, System V ABI for x86-64), alignment, and the C function of a handler
#: that was interrupted.
_BETWEEN_BYTES = 1024
#: For faulthandler itself; CPython reserves 16 KiB.
_FAULTHANDLER_BYTES = 65536

_libc = ctypes.CDLL(None, use_errno=True)
_libc.getauxval.restype, _libc.getauxval.argtypes = ctypes.c_ulong, (ctypes.c_ulong,)
_installed: mmap.mmap | None = None


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def enable(fd: int) -> None:
    """Write the stacks to `fd` at a fatal signal. Raises OSError if the kernel has no memory left."""
    faulthandler.enable(fd)
    make_room()


def make_room() -> None:
    """Replace the signal stack that the first call of any function of faulthandler has set up.

    A child inherits the stack, so a second call, in this process or in a child, does nothing.
    """
    global _installed  # noqa: PLW0603 - a thread has one signal stack
    if _installed:
        return
    # Private: a child must not share it. Pages that no burst has used take no memory.
    memory = mmap.mmap(-1, stack_bytes(frame_bytes()), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_STACK)
    # Never freed: Python frees modules at its end, and CHLD may still arrive then.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    pointer = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.sigaltstack(ctypes.byref(_Stack(pointer, 0, len(memory))), None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _installed = memory


def frame_bytes() -> int:
    """Return the maximum size of the frame that the kernel pushes for one signal."""
    return int(_libc.getauxval(_AT_MINSIGSTKSZ)) or _LARGEST_FRAME_BYTES


def stack_bytes(frame: int) -> int:
    """Return the size of a stack for faulthandler and one frame of `frame` bytes for each signal."""
    needed = NSIG * (frame + _BETWEEN_BYTES) + _FAULTHANDLER_BYTES
    return needed + -needed % mmap.PAGESIZE
