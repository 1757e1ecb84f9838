"""One configuration after the other: a plan waits, is tried with one worker, is rolled out, and is committed.

    PENDING ──one generation lives──▶ CANARY ──settled──▶ ROLL ──all of it serves──▶ COMMITTED
       │                                │                   │
       └────────── superseded ──────────┴──── or failed ────┴──▶ what was committed serves on

At any moment at most two plans matter: the *committed* one, which serves, and the *target*, which wants to and whose
first worker is the canary. The start of the server is a reload from nothing.

What is answered here is how many workers of which plan there should be. Who they are to be, and how they come and go,
this file does not know; it is shown the live ones. Nothing here reads a clock.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from asgid.board import MAX_WORKERS
from asgid.master.supervision.lifecycle import Plan, State, Worker
from asgid.master.supervision.steps import Began, Committed, RolledBack, Superseded


@dataclass(slots=True)
class Rollout:
    """The plans, by how far they have come. `live` are all live workers, whatever their plan."""

    committed: Plan | None = None  #: None until the start has succeeded
    target: Plan | None = None
    pending: Plan | None = None  #: waits until at most one generation is live
    has_settled: bool = False  #: the target's canary

    @property
    def plans(self) -> list[Plan]:
        """Every plan that serves, or may yet."""
        return [plan for plan in (self.committed, self.target, self.pending) if plan]

    @property
    def is_under_way(self) -> bool:
        """Whether a plan wants to take the place of what is committed."""
        return self.target is not None or self.pending is not None

    @property
    def is_paused(self) -> bool:
        return self.committed is not None and not self.committed.wanted

    # What there should be

    @property
    def current(self) -> Plan | None:
        """The plan whose number counts: the target's as soon as its canary has settled."""
        return self.target if self.target and self.has_settled else self.committed

    @property
    def wanted(self) -> int:
        """How many workers must go on serving whatever changes."""
        return self.current.wanted if self.current else 0

    def desired(self) -> list[tuple[Plan, int]]:
        """Return how many workers of which plan there should be, the committed plan's first: capacity goes first."""
        numbers = [(self.current, self.current.wanted)] if self.current else []
        return numbers if self.target is None or self.has_settled else [*numbers, (self.target, 1)]

    def may_leave(self, live: Collection[Worker]) -> int:
        """Return how many may leave: everybody, but as many old ones stay as the surge has room for during the roll.

        An old worker that is drained takes its code with it, which may not be on disk any more: who need not go stays
        until all new ones serve, for a roll-back. With a surge as large as the number wanted, nobody goes before that.
        """
        if self.target is None or not self.has_settled or _serves(self.target, live):
            return len(live)
        return max(0, len(live) - len(_fresh(self.target, live)) - self.target.surge)

    # What the operator says

    def offer(self, plan: Plan) -> list[Superseded]:
        """A new configuration is valid and its listeners are bound; the first one starts the server."""
        reports = [Superseded(self.pending.generation)] if self.pending else []
        if self.target and not self.has_settled:
            # Only a canary runs for it: let that go, and begin again with the newest. Past the canary the roll is
            # finished first, because part of the old generation is gone already and a third may not start.
            reports.append(Superseded(self.target.generation))
            self.target = None
        self.pending = plan
        return reports

    def abandon(self) -> list[Superseded]:
        """Let nothing take the place of what is committed. A start that is given up is no reload: it has no verdict."""
        given_up = (self.pending, self.target) if self.committed else ()
        self.pending = self.target = None
        return [Superseded(plan.generation) for plan in given_up if plan]

    def scale(self, change: int) -> None:
        """Want more or fewer workers (at least one, MAX_WORKERS at most), until the next plan."""
        self.committed, self.target = _scaled(self.committed, change), _scaled(self.target, change)

    def pause(self) -> list[Superseded]:
        """Want nobody, until the next plan."""
        reports = self.abandon()
        # With none wanted a reload still tries its canary first, and nothing of the old generation comes back for it.
        self.committed = self.committed and replace(self.committed, wanted=0)
        return reports

    # How the workers fare

    def settle(self, live: Collection[Worker], now: float) -> None:
        """See whether the canary has proven well. At a start it need not settle: there is nothing to protect."""
        if self.target and not self.has_settled:
            is_start = self.committed is None
            self.has_settled = any(
                worker.state is State.SERVING if is_start else worker.has_settled(now)
                for worker in _fresh(self.target, live)
            )

    def commit(self, live: Collection[Worker]) -> Committed | None:
        """Put the target in force when all of it serves, and nobody else is live; at a start the canary is enough."""
        if self.target is None or not self.has_settled:
            return None
        if self.committed and not (_serves(self.target, live) and len(_fresh(self.target, live)) == len(live)):
            return None
        self.committed, self.target = self.target, None
        return Committed(self.committed.generation)

    def begin(self, live: Collection[Worker]) -> Began | None:
        """Make the pending plan the target, when nothing but the committed generation is live."""
        committed = {self.committed.generation} if self.committed else set()
        if self.pending is None or self.target or {worker.plan.generation for worker in live} - committed:
            return None
        self.target, self.pending, self.has_settled = self.pending, None, False
        return Began(self.target.generation)

    def failed(self, plan: Plan, reason: str) -> RolledBack | None:
        """A worker of `plan` failed: that is the end of the target, if it is the target's."""
        if self.target is None or self.target.generation != plan.generation:
            return None
        self.target = None
        return RolledBack(plan.generation, reason)


def _fresh(plan: Plan, live: Collection[Worker]) -> list[Worker]:
    return [worker for worker in live if worker.is_fresh(plan)]


def _serves(plan: Plan, live: Collection[Worker]) -> bool:
    """Whether all the workers of this plan serve."""
    return sum(worker.state is State.SERVING for worker in _fresh(plan, live)) >= plan.wanted


def _scaled(plan: Plan | None, change: int) -> Plan | None:
    return plan and replace(plan, wanted=min(max(1, plan.wanted + change), MAX_WORKERS))
