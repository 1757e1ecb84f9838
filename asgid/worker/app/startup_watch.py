"""Logs once where a long startup waits, and keeps the stack of its task in the last words of the worker.

The master ends a worker that exceeds `timeouts.boot` with ABRT. faulthandler then shows an event loop that waits, but
not the coroutine. If the startup blocks the loop, faulthandler shows its calls.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from asgid.assignment import STARTUP_WAITS
from asgid.log import Log

#: A startup that takes longer than this is logged; most take less than a second.
LOG_AFTER_S = 5.0
#: The max period of updates of the last words.
_PERIOD_S = 1.0


async def watch(stack: Callable[[], str], log: Log, last_words_fd: int, boot_s: float) -> None:
    """Read the `stack` of a startup again and again until cancelled; `boot_s` is the time that a startup has."""
    period_s = min(_PERIOD_S, boot_s / 8)
    waited_s, is_logged = 0.0, False
    try:
        while True:
            await asyncio.sleep(period_s)
            waited_s += period_s
            text = stack()
            _write(last_words_fd, f"{STARTUP_WAITS}\n{text}\n" if text else "")
            if waited_s >= LOG_AFTER_S and text and not is_logged:
                is_logged = True
                log.warning("startup waits", waited_s=round(waited_s, 1), boot_s=boot_s, stack=text)
    finally:
        _write(last_words_fd, "")


def _write(fd: int, text: str) -> None:
    """Replace the content of the file by `text`; faulthandler appends to it."""
    with suppress(OSError):  # the application may have closed it, and use the number for another file
        if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:asgid-"):
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, text.encode("utf-8", "backslashreplace"))
