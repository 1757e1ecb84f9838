"""One configuration after the other: a plan waits, is tried with one worker, is rolled out, and is committed.

    PENDING ──one generation is live──▶ CANARY ──settled──▶ ROLL ──all its workers serve──▶ COMMITTED
       │                                  │                   │
       └─────────── superseded ───────────┴───── or failed ───┴──▶ the committed plan goes on

At most two plans have workers: the *committed* one, which serves, and the *target*, which has the canary as its first
worker. The start of the server is a reload with no committed plan.

A rollout decides how many workers of which plan should run. It does not decide which workers, nor how they start and
exit; its methods receive the live ones. Nothing here reads a clock.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from asgid.board import MAX_WORKERS
from asgid.master.supervision.lifecycle import Plan, State, WorkerRecord
from asgid.master.supervision.steps import Committed, ReloadStarted, RolledBack, Superseded


@dataclass(slots=True)
class Rollout:
    """The plans, by their progress. The argument `live` holds all live workers, of any plan."""

    committed: Plan | None = None  #: None until the start has succeeded
    target: Plan | None = None
    pending: Plan | None = None  #: waits until at most one generation is live
    has_settled: bool = False  #: whether the canary of the target has

    @property
    def plans(self) -> list[Plan]:
        """Every plan that serves, or may serve later."""
        return [plan for plan in (self.committed, self.target, self.pending) if plan]

    @property
    def is_in_progress(self) -> bool:
        """Return whether a plan is about to replace the committed one."""
        return self.target is not None or self.pending is not None

    @property
    def is_paused(self) -> bool:
        return self.committed is not None and not self.committed.wanted

    # The wanted workers

    @property
    def current(self) -> Plan | None:
        """The plan that sets the number of workers: the target once its canary has settled."""
        return self.target if self.target and self.has_settled else self.committed

    @property
    def wanted(self) -> int:
        """How many workers must keep serving during any change."""
        return self.current.wanted if self.current else 0

    def desired(self) -> list[tuple[Plan, int]]:
        """Return how many workers of which plan should run. The committed plan is first: capacity before the canary."""
        numbers = [(self.current, self.current.wanted)] if self.current else []
        return numbers if self.target is None or self.has_settled else [*numbers, (self.target, 1)]

    def max_drains(self, live: Collection[WorkerRecord]) -> int:
        """Return how many workers may be drained: all of them, but during a roll only those above `reload.surge`.

        A drained worker takes its code with it, which may not be on disk any more. So every old worker that the surge
        has room for stays until all new ones serve: a roll-back needs it. With a surge of `wanted` all of them stay.
        """
        if self.target is None or not self.has_settled or _all_serve(self.target, live):
            return len(live)
        return max(0, len(live) - len(_fresh(self.target, live)) - self.target.surge)

    # Requests of the operator

    def offer(self, plan: Plan) -> list[Superseded]:
        """A new configuration is valid and its listeners are bound. The first one starts the server."""
        reports = [Superseded(self.pending.generation)] if self.pending else []
        if self.target and not self.has_settled:
            # Only a canary runs for the target: drop it, and start again with the newest plan. After the canary the
            # roll is finished first: part of the old generation has exited already, and a third may not start.
            reports.append(Superseded(self.target.generation))
            self.target = None
        self.pending = plan
        return reports

    def abandon(self) -> list[Superseded]:
        """Keep the committed plan. A start that is abandoned is not a reload, so it is not reported."""
        dropped = (self.pending, self.target) if self.committed else ()
        self.pending = self.target = None
        return [Superseded(plan.generation) for plan in dropped if plan]

    def scale(self, change: int) -> None:
        """Change the number of workers, from 1 to MAX_WORKERS, until the next plan."""
        self.committed, self.target = _scaled(self.committed, change), _scaled(self.target, change)

    def pause(self) -> list[Superseded]:
        """Want no worker, until the next plan."""
        reports = self.abandon()
        # With none wanted a later reload still tries its canary first, and starts no worker of the old generation.
        self.committed = self.committed and replace(self.committed, wanted=0)
        return reports

    # Progress

    def settle(self, live: Collection[WorkerRecord], now: float) -> None:
        """Check whether the canary has settled. At a start it need not: no older generation needs protection."""
        if self.target and not self.has_settled:
            is_start = self.committed is None
            self.has_settled = any(
                worker.state is State.SERVING if is_start else worker.has_settled(now)
                for worker in _fresh(self.target, live)
            )

    def commit(self, live: Collection[WorkerRecord]) -> Committed | None:
        """Commit the target when all its workers serve and no other is live. At a start its canary is enough."""
        if self.target is None or not self.has_settled:
            return None
        if self.committed and not (_all_serve(self.target, live) and len(_fresh(self.target, live)) == len(live)):
            return None
        self.committed, self.target = self.target, None
        return Committed(self.committed.generation)

    def start_pending(self, live: Collection[WorkerRecord]) -> ReloadStarted | None:
        """Make the pending plan the target, once only the committed generation is live."""
        committed = {self.committed.generation} if self.committed else set()
        if self.pending is None or self.target or {worker.plan.generation for worker in live} - committed:
            return None
        self.target, self.pending, self.has_settled = self.pending, None, False
        return ReloadStarted(self.target.generation)

    def on_failure(self, plan: Plan, reason: str) -> RolledBack | None:
        """Drop the target if the worker that failed is of its plan."""
        if self.target is None or self.target.generation != plan.generation:
            return None
        self.target = None
        return RolledBack(plan.generation, reason)


def _fresh(plan: Plan, live: Collection[WorkerRecord]) -> list[WorkerRecord]:
    return [worker for worker in live if worker.is_fresh(plan)]


def _all_serve(plan: Plan, live: Collection[WorkerRecord]) -> bool:
    """Return whether all the workers that this plan wants serve."""
    return sum(worker.state is State.SERVING for worker in _fresh(plan, live)) >= plan.wanted


def _scaled(plan: Plan | None, change: int) -> Plan | None:
    return plan and replace(plan, wanted=min(max(1, plan.wanted + change), MAX_WORKERS))
