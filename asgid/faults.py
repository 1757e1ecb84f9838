"""Stacks at a fatal signal: faulthandler, on a signal stack that holds one frame of every signal at the same time.

All handlers of Python run on the alternate stack of faulthandler, which holds two to six frames. The kernel pushes a
frame for each pending signal before the first handler runs, so a burst of signals ended the process with SIGSEGV. This
file does not know which signals a process handles.
"""

import ctypes
import faulthandler
import mmap
import os
from signal import NSIG

_AT_MINSIGSTKSZ = 51  # getauxval(3): bytes of the largest frame that this processor needs
#: Linux before 5.14 does not tell on x86. AMX, which has the largest registers, needs 11,008.
_LARGEST_FRAME_BYTES = 16384
#: Between two frames: the red zone (128 bytes, System V ABI for x86-64), alignment, and the C function of a handler
#: that the next signal interrupts.
_BETWEEN_BYTES = 1024
#: For faulthandler itself; CPython takes 16 KiB to be enough.
_FAULTHANDLER_BYTES = 65536

_libc = ctypes.CDLL(None, use_errno=True)
_libc.getauxval.restype, _libc.getauxval.argtypes = ctypes.c_ulong, (ctypes.c_ulong,)
_installed: mmap.mmap | None = None


class _Stack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("pointer", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def enable(fd: int) -> None:
    """Have the stacks of a fatal signal written to `fd`. Raises OSError if the kernel has no memory left."""
    faulthandler.enable(fd)
    make_room()


def make_room() -> None:
    """Replace the signal stack that the first call of faulthandler has set up, of whichever of its functions.

    A child of fork(2) inherits the stack, so a second call, in the process or in a child, does nothing.
    """
    global _installed  # noqa: PLW0603 - one signal stack is all that a thread can have
    if _installed:
        return
    # Private: a child must not share it. Pages that no burst has touched take no memory.
    memory = mmap.mmap(-1, stack_bytes(frame_bytes()), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_STACK)
    # Forever: Python frees modules at its end, and CHLD may still come then.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    pointer = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.sigaltstack(ctypes.byref(_Stack(pointer, 0, len(memory))), None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _installed = memory


def frame_bytes() -> int:
    """Return how many bytes the kernel pushes for one signal, at most."""
    return int(_libc.getauxval(_AT_MINSIGSTKSZ)) or _LARGEST_FRAME_BYTES


def stack_bytes(frame: int) -> int:
    """Return the size of a stack that holds a frame of each signal there is, of so many bytes, and faulthandler."""
    needed = NSIG * (frame + _BETWEEN_BYTES) + _FAULTHANDLER_BYTES
    return needed + -needed % mmap.PAGESIZE
