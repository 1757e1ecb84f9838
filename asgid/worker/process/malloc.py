"""Sets glibc's allocator to keep freed memory for the next read.

glibc returns the top of its heap to the kernel as soon as 128 KiB of it are free. A read has up to 256 KiB, so a worker
with uploads returned its memory and got it again, page by page, several times for each upload. Page faults took a
quarter of its CPU time.
"""

import ctypes
import os
from collections.abc import Mapping

#: The max size of free memory at the top. Enough for 16 clients that send at once, with a read and its copy each.
_TRIM_BYTES = 16 * 1024 * 1024
#: A block of this size or more gets its own mapping; a smaller one is in the heap.
_MMAP_BYTES = 4 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
#: With one of these an operator tunes the allocator (mallopt(3)).
_VARIABLES = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")


def raise_trim_threshold(environment: Mapping[str, str] = os.environ) -> bool:
    """Keep up to 16 MiB of freed memory. Return False without glibc, or if the operator has tuned the allocator."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None or any(name in environment for name in _VARIABLES):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
