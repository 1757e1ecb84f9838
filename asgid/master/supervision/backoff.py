"""The delay before a failed worker is started again: it doubles from 0.1 s to 30 s, and resets after a healthy minute.

Failures during a running delay count as one: sixteen workers that are killed in one instant are one event. While a
failure is recent, one worker starts at a time, as a *trial*; the others follow when the trial has settled.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from asgid.master.supervision.lifecycle import WorkerRecord

MIN_DELAY_S = 0.1
MAX_DELAY_S = 30.0
RESET_AFTER_S = 60.0


@dataclass(slots=True)
class Backoff:
    """Consecutive failures, and the end of the delay. Times are seconds of one monotonic clock."""

    failures: int = 0
    last_failure: float = float("-inf")  #: the last one that counted
    until: float = float("-inf")  #: no worker starts before

    def failed(self, now: float) -> bool:
        """Count a failure. Return whether it started a new delay."""
        if now < self.until:
            return False
        if now - self.last_failure > RESET_AFTER_S:
            self.failures = 0
        self.failures += 1
        self.last_failure = now
        self.until = now + min(MIN_DELAY_S * 2.0 ** min(self.failures - 1, 9), MAX_DELAY_S)
        return True

    def is_over(self, now: float) -> bool:
        """Return whether the delay has passed."""
        return now >= self.until

    def allows_start(self, others: Iterable[WorkerRecord], now: float) -> bool:
        """Return whether one more worker may start beside `others`: during a recent failure, one trial at a time."""
        if not self.is_failing(now):
            return True
        if not self.is_over(now):
            return False
        trials = [worker for worker in others if worker.started_at >= self.last_failure]
        return not trials or any(worker.has_settled(now) for worker in trials)

    def is_failing(self, now: float) -> bool:
        """Return whether the last failure is recent."""
        return now - self.last_failure <= RESET_AFTER_S
