"""Logs once where a long startup waits, and keeps the stack of its task in the last words of the worker.

The master ends a worker that exceeds `timeouts.boot` with ABRT. faulthandler then shows an event loop that waits, but
not the coroutine. If the startup blocks the loop, faulthandler shows its calls.
"""

import asyncio
from collections.abc import Callable

from asgid.assignment import STARTUP_WAITS
from asgid.log import Log

#: A startup that takes longer than this is logged; most take less than a second.
LOG_AFTER_S = 5.0
#: The max period of updates of the last words.
_PERIOD_S = 1.0


async def watch(stack: Callable[[], str], log: Log, write: Callable[[str], None], boot_s: float) -> None:
    """Read the `stack` of a startup again and again until cancelled; `boot_s` is the time that a startup has.

    `write` replaces the last words.
    """
    period_s = min(_PERIOD_S, boot_s / 8)
    waited_s, is_logged = 0.0, False
    try:
        while True:
            await asyncio.sleep(period_s)
            waited_s += period_s
            text = stack()
            write(f"{STARTUP_WAITS}\n{text}\n" if text else "")
            if waited_s >= LOG_AFTER_S and text and not is_logged:
                is_logged = True
                log.warning("startup waits", waited_s=round(waited_s, 1), boot_s=boot_s, stack=text)
    finally:
        write("")
