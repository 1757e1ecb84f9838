"""The turns of one worker's event loop: how long one may last, and the work that waits for a later one.

One read may bring ten thousand small requests, chunks or frames, and uvloop reads a socket up to 32 times before it
looks at the next. Whatever reads from clients shares the time of a turn through this object, for any protocol:

- Take the first unit of a read at once, a request or 4 KiB: an ordinary client brings no more, and costs no question.
- Before each further unit ask `is_spent(now)`. If it is, keep the bytes, pause reading (`Service.pause_reading`), and
  give `later` the method that goes on with them. It is called in a later turn, in the order of the calls of `later`,
  and takes one unit before it asks again.
- That method looks first whether its connection has ended meanwhile, and resumes reading when the bytes are used up.

A deadline of a client needs nothing here: a number `deadline` on an object in `Service.connections` is enough. The
pulse judges it after the worker has read what had arrived, and moves it by the time in which the worker did not run.
What has a timer of its own instead gives `after_reading` what the timer is for.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic

#: What a turn of the loop may take for more than the first unit of each read. A new client needs about four turns to
#: be answered, and is to wait less than 0.1 s behind any number of clients that send as much as they can.
#: With 5 ms the batches of 64 clients that pipeline 16 requests are cut in two, for a fifth more of a processor.
SHARE_S = 0.01


class Turns:
    """Counts turns, as far as anything asks, and shares their time. `number` changes from a turn to the next."""

    __slots__ = ("_ends", "_is_noticed", "_loop", "_waiting", "number")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.number = 0
        self._is_noticed = False
        self._ends = inf  # when the time of this turn is spent; inf before the first question
        self._waiting: deque[Callable[[], None]] = deque()

    def notice(self) -> int:
        """Return the number of this turn; in the next one `number` is another."""
        if not self._is_noticed:
            self._is_noticed = True
            self._loop.call_soon(self._next)
        return self.number

    def is_spent(self, now: float) -> bool:
        """Whether further work is to wait; the time of a turn runs from the first question in it."""
        if self._ends == inf:
            self.notice()
            self._ends = now + SHARE_S
            return False
        return now >= self._ends

    def later(self, work: Callable[[], None]) -> None:
        """Call `work` in a later turn, after all that waits already."""
        self._waiting.append(work)
        self.notice()

    def after_reading(self, work: Callable[[], None]) -> None:
        """Call `work` once the loop has read what has arrived until now: uvloop runs timers before it reads."""
        # In the same turn a timer's call_soon still comes before the sockets (libuv: timers, idle handles, poll).
        self._loop.call_soon(self._loop.call_soon, work)

    def _next(self) -> None:
        self.number += 1
        self._is_noticed = False
        self._ends = inf
        waiting = self._waiting
        if not waiting:
            return
        self.is_spent(monotonic())  # the time runs; and what is left over has its next turn, also if one raises
        for _ in range(len(waiting)):
            waiting.popleft()()
            if monotonic() >= self._ends:
                return
