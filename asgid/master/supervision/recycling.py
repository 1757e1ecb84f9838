"""When a worker has served its time: so many requests, so much memory, so long a life.

Only says so; the supervisor replaces it first and lets it go then, one at a time. Chance is an argument, like time: all
workers start in the same second, and without it they would all be replaced in the same second.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from asgid.config import Workers
from asgid.config.value_types import UNLIMITED

#: How often to look, in seconds.
INTERVAL_S = 1.0
#: So many looks in a row must find a worker too large: a peak that the next collection ends is no leak.
SAMPLES = 3
#: Of a lifetime, how much longer it may be by chance.
LIFETIME_JITTER = 0.1


@dataclass(slots=True)
class _Term:
    """One worker's term of office."""

    requests: float  #: on the board of its slot, when it has served enough
    ends: float
    memory: int
    heavy_looks: int = 0


class Recycling:
    """The terms of the workers that serve, by slot."""

    def __init__(self) -> None:
        self._terms: dict[int, _Term] = {}
        self._next_look = inf

    def next_deadline(self) -> float:
        """Return when `spent` is next worth calling; `inf` is never."""
        return self._next_look

    def serves(self, slot: int, settings: Workers, requests: int, now: float, chance: float) -> None:
        """Begin the term of a worker that got ready in `slot`, whose row counts `requests` of its predecessors.

        `chance` is a number from 0 to 1, drawn anew for each worker.
        """
        most = settings.max_requests + round(settings.max_requests_jitter * chance) if settings.max_requests else inf
        term = _Term(requests + most, now + settings.max_lifetime * (1 + LIFETIME_JITTER * chance), settings.max_memory)
        if (term.requests, term.ends, term.memory) != (inf, inf, UNLIMITED):
            self._terms[slot] = term
            self._next_look = min(self._next_look, now + INTERVAL_S)

    def left(self, slot: int) -> None:
        self._terms.pop(slot, None)

    def spent(
        self, now: float, slots: Iterable[int], requests: Callable[[int], int], memory: Callable[[int], int]
    ) -> tuple[int, str] | None:
        """Return a slot of `slots` whose worker has served its time, and why; None if there is none.

        `requests` tells what a slot's row counts, `memory` the resident bytes of its worker.
        """
        self._next_look = now + INTERVAL_S if self._terms else inf
        found = [(slot, why) for slot in slots if (why := self._why(slot, now, requests, memory))]
        return found[0] if found else None

    def _why(self, slot: int, now: float, requests: Callable[[int], int], memory: Callable[[int], int]) -> str:
        term = self._terms.get(slot)
        if term is None:
            return ""
        if now >= term.ends:
            return "workers.max_lifetime"
        if term.requests < inf and requests(slot) >= term.requests:
            return "workers.max_requests"
        if term.memory < UNLIMITED:
            term.heavy_looks = term.heavy_looks + 1 if memory(slot) > term.memory else 0
            if term.heavy_looks >= SAMPLES:
                return "workers.max_memory"
        return ""
