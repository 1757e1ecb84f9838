"""How soon to start a worker again after one failed: doubling from 0.1 s to 30 s, forgotten after a minute of health.

Failures that come while a delay is already running are one failure: sixteen workers killed in the same instant are one
event, not sixteen. While failures are remembered, one start at a time is a *trial*; the others follow when it has
served for a while.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from asgid.master.supervision.lifecycle import Worker

FIRST_S = 0.1
LONGEST_S = 30.0
FORGOTTEN_AFTER_S = 60.0


@dataclass(slots=True)
class Backoff:
    """Failures in a row, and when the next start may come. Times are seconds of one monotonic clock."""

    failures: int = 0
    last: float = float("-inf")  #: the last failure that counted
    until: float = float("-inf")  #: no start before

    def failed(self, now: float) -> bool:
        """Take note of a failure; return whether it began a new delay."""
        if now < self.until:
            return False
        if now - self.last > FORGOTTEN_AFTER_S:
            self.failures = 0
        self.failures += 1
        self.last = now
        self.until = now + min(FIRST_S * 2.0 ** min(self.failures - 1, 9), LONGEST_S)
        return True

    def may_start(self, now: float) -> bool:
        """Whether the delay is over."""
        return now >= self.until

    def lets_start(self, others: Iterable[Worker], now: float) -> bool:
        """Whether one more may start beside `others`: after a failure only a trial, until that has settled."""
        if not self.is_failing(now):
            return True
        if not self.may_start(now):
            return False
        trials = [worker for worker in others if worker.born >= self.last]
        return not trials or any(worker.has_settled(now) for worker in trials)

    def is_failing(self, now: float) -> bool:
        """Whether the last failure is recent enough to be careful."""
        return now - self.last <= FORGOTTEN_AFTER_S
