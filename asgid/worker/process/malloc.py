"""The C library's allocator, told to keep what a worker takes again with the next read.

glibc gives the top of its heap back to the kernel as soon as 128 KiB of it are free. A read is up to 256 KiB, so a
worker that takes uploads returned its memory and was given it anew, page by page, several times for each: a quarter of
its processor went into page faults.
"""

import ctypes
import os
from collections.abc import Mapping

#: How much may lie free at the top. Sixteen clients that send at once, each with a read and a copy of it.
_KEPT_BYTES = 16 * 1024 * 1024
#: From here on a block is the kernel's own mapping; below it, a part of the heap.
_LARGE_BYTES = 4 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
#: With one of these the operator has decided (mallopt(3)).
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def raise_trim_threshold(environment: Mapping[str, str] = os.environ) -> bool:
    """Keep freed memory of up to 16 MiB; return whether that was done: by glibc, and where nobody has tuned it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None or any(name in environment for name in _VARIABLES):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
