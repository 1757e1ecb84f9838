"""The upgrade to a new program: its trial runs first, and the exec follows when no reload is in progress.

    IDLE ──USR2──▶ REQUESTED ──idle──▶ TRIAL ──success──▶ READY ──idle──▶ exec of the new program
     ▲                                 │  │ deadline, stop  │
     ├──────────── failure ────────────┘  └──▶ ABORTING     │ exec failed
     └────────────────── exited ────────────────┴───────────┘

A server is idle when it has one generation, and neither a reload nor a stop is in progress. A trial is a process with
one deadline for each stage, as a worker is. Nothing here reads a clock or sends a signal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from signal import SIGKILL, SIGTERM, Signals

from asgid.master.supervision.lifecycle import Plan
from asgid.master.supervision.steps import ExecNewProgram, SignalTrial, StartTrial, UpgradeRefused

#: The time for the new program to start Python, in addition to the boot and the exit of its worker. The trial has
#: limits of its own, too.
START_MARGIN_S = 60.0


class Stage(Enum):
    IDLE = auto()  #: no upgrade was requested
    REQUESTED = auto()  #: waits for the result of a reload
    TRIAL = auto()  #: the new program runs beside this one, and boots the application once
    ABORTING = auto()  #: the trial was sent TERM before it had a result
    READY = auto()  #: the trial succeeded; the new program can be executed


#: Stage of a trial -> the stage after a missed deadline, and the signal.
ON_DEADLINE: dict[Stage, tuple[Stage, Signals]] = {
    Stage.TRIAL: (Stage.ABORTING, SIGTERM),
    Stage.ABORTING: (Stage.ABORTING, SIGKILL),
}


@dataclass(slots=True)
class Upgrade:
    """One upgrade at a time. Every method takes a fact and the time, and returns steps."""

    stage: Stage = Stage.IDLE
    deadline: float = inf
    abort_reason: str = ""

    @property
    def has_process(self) -> bool:
        """Return whether a trial runs, or is not reaped yet."""
        return self.stage in ON_DEADLINE

    def request(self) -> Iterator[UpgradeRefused]:
        """The operator has requested an upgrade (USR2)."""
        if self.stage is Stage.IDLE:
            self.stage, self.abort_reason = Stage.REQUESTED, ""
        else:
            yield UpgradeRefused("an upgrade is already in progress")

    def when_idle(self, now: float, plan: Plan) -> Iterator[StartTrial | ExecNewProgram]:
        """The server is idle, and `plan` is committed."""
        if self.stage is Stage.REQUESTED:
            self.stage = Stage.TRIAL
            self.deadline = now + plan.boot + plan.graceful + plan.kill + START_MARGIN_S
            yield StartTrial()
        elif self.stage is Stage.READY:
            yield ExecNewProgram()

    def trial_ended(self, problem: str) -> Iterator[UpgradeRefused]:
        """The trial has exited, or the exec failed. `problem` is "" after a trial that succeeded."""
        problem = self.abort_reason or problem
        self.stage, self.deadline = (Stage.IDLE if problem else Stage.READY), inf
        if problem:
            yield UpgradeRefused(problem)

    def stop(self, now: float, plan: Plan) -> Iterator[SignalTrial]:
        """The server stops, so the upgrade is dropped."""
        if self.stage is Stage.TRIAL:
            yield from self._abort(now, plan, "a stop came first")
        elif not self.has_process:
            self.stage = Stage.IDLE

    def tick(self, now: float, plan: Plan) -> Iterator[SignalTrial]:
        """Time has passed."""
        if now >= self.deadline:
            yield from self._abort(now, plan, "its trial did not end in time")

    def _abort(self, now: float, plan: Plan, reason: str) -> Iterator[SignalTrial]:
        self.abort_reason = self.abort_reason or reason
        self.stage, signum = ON_DEADLINE[self.stage]
        self.deadline = now + plan.kill / 2
        yield SignalTrial(signum, self.abort_reason)
