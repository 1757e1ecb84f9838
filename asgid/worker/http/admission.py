"""May this worker take one more connection now, and may this request begin? Counts against `[limits]`; knows no socket.

Connections and requests are counted apart: an idle connection costs a descriptor and some memory, and no request waits
for it to go.
"""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import Generic, TypeVar

from asgid.config import Limits

Waiting = TypeVar("Waiting")


#: How far a worker may be ahead of the sibling with the fewest connections: a tenth, and one.
AHEAD, AHEAD_BY = 1.1, 1


class Admission:
    """A count with a cap. `pause` is called at it and `resume` below it, once each; the kernel holds who waits.

    All workers take connections from one queue, and the kernel wakes the same one again and again. So a worker that is
    ahead of its siblings is told to step back, and leaves the next connection to them. Only connections that stay need
    that: while most of them soon end, whoever takes one is as good as any other, and stepping back would cost time.
    """

    def __init__(
        self,
        cap: int,
        pause: Callable[[], None],
        resume: Callable[[], None],
        step_back: Callable[[], None] | None = None,
    ) -> None:
        self._cap, self._pause, self._resume, self._step_back = cap, pause, resume, step_back
        self.open = 0
        self.is_paused = False
        self.is_closed = False  #: the worker drains: nothing closes or opens its doors any more
        self._came = self._went = 0.0  # lately

    def is_ahead(self, fewest: float) -> bool:
        """Whether this worker holds clearly more than `fewest`, the connections of its emptiest sibling."""
        return self.open > fewest * AHEAD + AHEAD_BY

    def entered(self, fewest: float = inf) -> bool:
        """Count a connection; return whether it was the last for now. `fewest` is what the emptiest sibling holds."""
        self.open += 1
        self._came += 1
        if self.is_paused or self.is_closed:
            return False
        if self.open >= self._cap:
            self.is_paused = True
            self._pause()
            return True
        if self._step_back and self._went * 2 < self._came and self.is_ahead(fewest):
            self._step_back()
        return False

    def second_passed(self) -> None:
        """Let what came and went count half as much as before."""
        self._came, self._went = self._came / 2, self._went / 2

    def left(self) -> None:
        self.open -= 1
        self._went += 1
        if self.is_paused and self.open < self._cap and not self.is_closed:
            self.is_paused = False
            self._resume()


class Entry(Enum):
    """What becomes of a request that wants to begin."""

    BEGINS = auto()
    WAITS = auto()
    REFUSED = auto()


class Places(Generic[Waiting]):
    """So many requests at a time, and a waiting room of a bounded size: first come, first served."""

    @classmethod
    def within(cls, limits: Limits, threads: int | None) -> "Places[Waiting] | None":
        """Return the places for an application with `threads` threads (None: it has none of its own); None: no cap.

        Whoever sets a cap says with it who may wait. Where threads are the only cap, all may that may be connected:
        they would have to in a server that gives each connection a thread, and queue_timeout sees to it that they do
        not for long.
        """
        if limits.requests or threads is None:
            cap, room = limits.requests, limits.queue
        else:
            cap, room = threads, limits.queue or limits.connections
        return cls(min(cap, threads or cap), room, limits.queue_timeout) if cap else None

    def __init__(self, cap: int, room: int, patience: float) -> None:
        self._cap, self._room, self._patience = cap, room, patience
        self.taken = 0
        # With the time at which its patience ends: one patience for all, so who came first stands first in both orders.
        # A plain dict looks again and again at the holes that were left at its beginning.
        self._waiting: OrderedDict[Waiting, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def enter(self, who: Waiting, now: float) -> Entry:
        if self.taken < self._cap:
            self.taken += 1
            return Entry.BEGINS
        if len(self._waiting) >= self._room:
            return Entry.REFUSED
        self._waiting[who] = now + self._patience
        return Entry.WAITS

    def leave(self) -> Waiting | None:
        """Give a place back; return who has it now, and is to begin."""
        if self._waiting:
            return self._waiting.popitem(last=False)[0]
        self.taken -= 1
        return None

    def forget(self, who: Waiting) -> None:
        """Strike out who does not wait any more."""
        self._waiting.pop(who, None)

    def postpone(self, seconds: float) -> None:
        """Let those that wait have so much more patience."""
        for who in self._waiting:
            self._waiting[who] += seconds

    def overdue(self, now: float) -> list[Waiting]:
        """Strike out and return those whose patience has ended."""
        gone: list[Waiting] = []
        for who, ends in self._waiting.items():
            if ends > now:
                break
            gone.append(who)
        for who in gone:
            del self._waiting[who]
        return gone
