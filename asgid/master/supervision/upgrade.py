"""The program that is to take this one's place: first it is tried, then it waits until nothing else is under way.

    IDLE ──asked──▶ ASKED ──quiet──▶ TRYING ──well──▶ PROVEN ──quiet──▶ this program gives way
     ▲                                │  │ overdue, a stop   │
     ├──────────── failed ────────────┘  └──▶ ENDING         │ it cannot be executed
     └───────────────── gone ───────────────────┴────────────┘

Quiet is a server with one generation: no reload, no stop is under way. A trial is a process of its own, with one
deadline a stage as a worker has. Nothing here reads a clock or signals.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from signal import SIGKILL, SIGTERM, Signals

from asgid.master.supervision.lifecycle import Plan
from asgid.master.supervision.steps import EndTrial, GiveWay, TrySuccessor, UpgradeRefused

#: How long the new program may take to start, beside what its worker gets to boot and to leave; the trial has limits
#: of its own, too.
STARTING_S = 60.0


class Stage(Enum):
    IDLE = auto()  #: nobody has asked
    ASKED = auto()  #: waits until a reload has its verdict
    TRYING = auto()  #: the new program runs beside this one, and boots the application once
    ENDING = auto()  #: it was told to end before it was done
    PROVEN = auto()  #: it has done well, and may take over


#: What becomes of a trial that outlives its stage, and the signal that tells it.
OVERDUE: dict[Stage, tuple[Stage, Signals]] = {
    Stage.TRYING: (Stage.ENDING, SIGTERM),
    Stage.ENDING: (Stage.ENDING, SIGKILL),
}


@dataclass(slots=True)
class Succession:
    """One upgrade at a time. Every method takes the fact and the time, and returns steps."""

    stage: Stage = Stage.IDLE
    deadline: float = inf
    why: str = ""  #: why the trial was told to end

    @property
    def has_process(self) -> bool:
        """Whether a trial runs, or is not reaped yet."""
        return self.stage in OVERDUE

    def ask(self) -> Iterator[UpgradeRefused]:
        """The operator wants the program replaced."""
        if self.stage is Stage.IDLE:
            self.stage, self.why = Stage.ASKED, ""
        else:
            yield UpgradeRefused("an upgrade is under way already")

    def quiet(self, now: float, plan: Plan) -> Iterator[TrySuccessor | GiveWay]:
        """Nothing else is under way, and `plan` is in force."""
        if self.stage is Stage.ASKED:
            self.stage = Stage.TRYING
            self.deadline = now + plan.boot + plan.graceful + plan.kill + STARTING_S
            yield TrySuccessor()
        elif self.stage is Stage.PROVEN:
            yield GiveWay()

    def ended(self, problem: str) -> Iterator[UpgradeRefused]:
        """The trial is gone, or the proven program could not be executed; `problem` is "" where all was well."""
        problem = self.why or problem
        self.stage, self.deadline = (Stage.IDLE if problem else Stage.PROVEN), inf
        if problem:
            yield UpgradeRefused(problem)

    def stop(self, now: float, plan: Plan) -> Iterator[EndTrial]:
        """Nobody will take over: the server ends."""
        if self.stage is Stage.TRYING:
            yield from self._end(now, plan, "a stop came first")
        elif not self.has_process:
            self.stage = Stage.IDLE

    def tick(self, now: float, plan: Plan) -> Iterator[EndTrial]:
        """Time has passed."""
        if now >= self.deadline:
            yield from self._end(now, plan, "its trial did not come to an end")

    def _end(self, now: float, plan: Plan, why: str) -> Iterator[EndTrial]:
        self.why = self.why or why
        self.stage, signum = OVERDUE[self.stage]
        self.deadline = now + plan.kill / 2
        yield EndTrial(signum, self.why)
