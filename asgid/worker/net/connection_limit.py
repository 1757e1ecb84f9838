"""Counts open connections against `limits.connections`, and decides whether the worker accepts another one now.

All workers accept from one queue, and the kernel wakes the same worker again and again. So a worker that has more
connections than its siblings yields, and leaves the next connection to them. Only connections that stay open need
that: while most connections close soon, any worker may take the next one, and yielding would cost time. This file
does not depend on sockets: its callers carry the decisions out.
"""

from collections.abc import Callable
from enum import Enum, auto

#: A worker may have a tenth, and one, more connections than the sibling with the fewest.
MAX_LEAD, MAX_LEAD_BY = 1.1, 1


class Accepting(Enum):
    """What the acceptor does after a connection was opened or closed."""

    UNCHANGED = auto()
    PAUSE = auto()  # the limit is reached
    RESUME = auto()  # there is room again
    YIELD = auto()  # a sibling takes the next connection


UNCHANGED, PAUSE, RESUME, YIELD = Accepting


class ConnectionLimit:
    """A count with a maximum. `stop()` ends all decisions: a worker that drains accepts nothing more."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.open = 0
        self.is_paused = False
        self._is_stopped = False
        self._opened = self._closed = 0.0  # recently: `decay` halves them once a second

    def has_more_than(self, fewest: float) -> bool:
        """Return whether this worker has clearly more connections than a sibling with `fewest`."""
        return self.open > fewest * MAX_LEAD + MAX_LEAD_BY

    def opened(self, fewest: Callable[[], float]) -> Accepting:
        """Count a connection.

        `fewest` returns the count of the sibling with the fewest connections, inf without one. It is not called while
        most connections close soon.
        """
        self.open += 1
        self._opened += 1
        if self.is_paused or self._is_stopped:
            return UNCHANGED
        if self.open >= self._maximum:
            self.is_paused = True
            return PAUSE
        if self._closed * 2 < self._opened and self.has_more_than(fewest()):
            return YIELD
        return UNCHANGED

    def closed(self) -> Accepting:
        """Count a connection that closed."""
        self.open -= 1
        self._closed += 1
        if self.is_paused and self.open < self._maximum and not self._is_stopped:
            self.is_paused = False
            return RESUME
        return UNCHANGED

    def decay(self) -> None:
        """Halve the weight of past connections; called about once a second."""
        self._opened, self._closed = self._opened / 2, self._closed / 2

    def stop(self) -> None:
        """Leave accepting as it is from now on."""
        self._is_stopped = True
