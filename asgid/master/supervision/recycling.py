"""When a worker is due for recycling: after so many requests, above so much memory, after so long a life.

This module only reports it; the supervisor starts the replacement, and drains one worker at a time. Randomness is an
argument, as time is: without it, workers that start in one second would all be replaced in one second.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from asgid.config.tables import Workers
from asgid.config.value_types import UNLIMITED

#: Seconds between two checks.
INTERVAL_S = 1.0
#: So many checks in a row must find too much memory: a peak that the next garbage collection ends is not a leak.
SAMPLES = 3
#: The largest random extension of a lifetime, as a part of it.
LIFETIME_JITTER = 0.1


@dataclass(slots=True)
class _Budget:
    """The limits of one worker."""

    requests: float  #: the request counter of its slot at which it is due
    ends_at: float
    memory: int
    samples_over: int = 0  #: checks in a row that found more memory


class Recycling:
    """The budgets of the workers that serve, by slot."""

    def __init__(self) -> None:
        self._budgets: dict[int, _Budget] = {}
        self._next_check = inf

    def next_deadline(self) -> float:
        """Return the time of the next check; `inf` is never."""
        return self._next_check

    def on_ready(self, slot: int, settings: Workers, requests: int, now: float, chance: float) -> None:
        """Start the budget of a worker that became ready.

        `requests` is the request counter of its slot, which includes earlier workers. `chance` is a random number from
        0 to 1.
        """
        own = settings.max_requests + round(settings.max_requests_jitter * chance) if settings.max_requests else inf
        ends_at = now + settings.max_lifetime * (1 + LIFETIME_JITTER * chance)
        budget = _Budget(requests + own, ends_at, settings.max_memory)
        if (budget.requests, budget.ends_at, budget.memory) != (inf, inf, UNLIMITED):
            self._budgets[slot] = budget
            self._next_check = min(self._next_check, now + INTERVAL_S)

    def on_exit(self, slot: int) -> None:
        self._budgets.pop(slot, None)

    def first_expired(
        self, now: float, slots: Iterable[int], requests: Callable[[int], int], memory: Callable[[int], int]
    ) -> tuple[int, str] | None:
        """Return the first of `slots` with a worker that is due, and the setting that decided; None if all may go on.

        `requests` returns the request counter of a slot, `memory` the resident bytes of its worker.
        """
        self._next_check = now + INTERVAL_S if self._budgets else inf
        expired = [(slot, limit) for slot in slots if (limit := self._exceeded_limit(slot, now, requests, memory))]
        return expired[0] if expired else None

    def _exceeded_limit(
        self, slot: int, now: float, requests: Callable[[int], int], memory: Callable[[int], int]
    ) -> str:
        budget = self._budgets.get(slot)
        if budget is None:
            return ""
        if now >= budget.ends_at:
            return "workers.max_lifetime"
        if budget.requests < inf and requests(slot) >= budget.requests:
            return "workers.max_requests"
        if budget.memory < UNLIMITED:
            budget.samples_over = budget.samples_over + 1 if memory(slot) > budget.memory else 0
            if budget.samples_over >= SAMPLES:
                return "workers.max_memory"
        return ""
