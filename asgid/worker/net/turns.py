"""Turns of the event loop: bounds the time that reads take in one turn, and runs postponed work in later turns.

One read may have ten thousand small requests, chunks or frames, and uvloop reads a socket up to 32 times before the
next socket. A protocol of any kind that reads from clients uses this object as follows:

- Process the first unit of a read at once, a request or 4 KiB. An ordinary client sends no more, and `is_spent` is not
  called.
- Call `is_spent(now)` before each further unit. If the time is spent, keep the bytes, pause reading
  (`Connections.pause_reading`), and pass a method to `later` that continues with them. It runs in a later turn, in the
  order of the calls of `later`, and processes one unit before it calls `is_spent` again.
- That method first checks whether its connection has ended, and resumes reading after the last byte.

A deadline of a client is a number, `deadline`, on a member of `Connections`. The ticker checks it after the
worker has read all that had arrived, and moves it by the time in which the worker did not run. Code with its own timer
passes the action of the timer to `after_reading`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic

#: The time in each turn for more than the first unit of each read. A new client gets its response in about four turns,
#: and should wait less than 0.1 s behind any number of clients that send as fast as they can. With 5 ms the batches of
#: 64 clients that pipeline 16 requests are cut in two, which costs a fifth more CPU.
SHARE_S = 0.01


class Turns:
    """The turns of one loop. `number` is that of the current turn if it `is_noticed`: `notice` was called in it."""

    __slots__ = ("_loop", "_spent_at", "_waiting", "is_noticed", "number")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.number = 0
        self.is_noticed = False
        self._spent_at = inf  # the end of this turn's time; inf before the first call of is_spent
        self._waiting: deque[Callable[[], None]] = deque()

    def notice(self) -> int:
        """Return the number of this turn; `number` is another one in the next turn."""
        if not self.is_noticed:
            self.is_noticed = True
            self._loop.call_soon(self._next)
        return self.number

    def is_spent(self, now: float) -> bool:
        """Return whether further work must wait. The time of a turn begins with the first call in it."""
        if self._spent_at == inf:
            self.notice()
            self._spent_at = now + SHARE_S
            return False
        return now >= self._spent_at

    def later(self, work: Callable[[], None]) -> None:
        """Call `work` in a later turn, after all work that waits already."""
        self._waiting.append(work)
        self.notice()

    def after_reading(self, work: Callable[[], None]) -> None:
        """Call `work` after the loop has read all bytes that have arrived: uvloop runs timers before it reads."""
        # A call_soon of a timer runs before the sockets of the same turn (libuv: timers, idle handles, poll).
        self._loop.call_soon(self._loop.call_soon, work)

    def _next(self) -> None:
        self.number += 1
        self.is_noticed = False
        self._spent_at = inf
        waiting = self._waiting
        if not waiting:
            return
        self.is_spent(monotonic())  # starts the time, and ensures a next turn, also if a call raises
        for _ in range(len(waiting)):
            waiting.popleft()()
            if monotonic() >= self._spent_at:
                return
