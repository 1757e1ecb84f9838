"""A startup that takes long: the log states once what it awaits, and the last words of the worker keep it up to date.

The master ends a worker that is late with ABRT, and faulthandler then sees only an event loop that waits. What it waits
for is known to the task alone. A startup that blocks the loop is shown by faulthandler, for it stands in its calls.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from asgid.assignment import WAITS
from asgid.log import Log

#: A startup that takes longer is logged: most take less than a second.
LOG_AFTER_S = 5.0
#: So often the last words are written anew, at most.
_PERIOD_S = 1.0


async def watch(stack: Callable[[], str], log: Log, last_words_fd: int, boot_s: float) -> None:
    """Look at the `stack` of a startup until it is cancelled; `boot_s` is the time that a startup has."""
    period_s = min(_PERIOD_S, boot_s / 8)
    waited_s, is_told = 0.0, False
    try:
        while True:
            await asyncio.sleep(period_s)
            waited_s += period_s
            where = stack()
            _write(last_words_fd, f"{WAITS}\n{where}\n" if where else "")
            if waited_s >= LOG_AFTER_S and where and not is_told:
                is_told = True
                log.warning("startup waits", waited_s=round(waited_s, 1), boot_s=boot_s, stack=where)
    finally:
        _write(last_words_fd, "")


def _write(fd: int, words: str) -> None:
    """Make `words` what the file holds; what faulthandler writes comes after them."""
    with suppress(OSError):  # the application may have closed it, or have the number for a file of its own
        if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:asgid-"):
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, words.encode("utf-8", "backslashreplace"))
