"""Which refusals are logged, of requests and of PROXY headers: of each kind one a second, and how many went unsaid.

Whoever sends nonsense sends much of it; the counters on the board have all of it.
"""

#: How long one line of a kind stands for the others.
QUIET_S = 1.0


class Refusals:
    """What was said last of each kind, and how many have come since."""

    def __init__(self) -> None:
        self._quiet_until: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def unsaid_before(self, kind: str, now: float) -> int | None:
        """Note a refusal; return how many of its kind went unlogged before it, None if it is to go unlogged, too."""
        if now < self._quiet_until.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._quiet_until[kind] = now + QUIET_S
        return self._unsaid.pop(kind, 0)
