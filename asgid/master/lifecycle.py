"""One worker's life: its states, the table of what happens when it outlives one, and one deadline a state.

    BOOTING ──ready──▶ SERVING ──drain──▶ DRAINING ──▶ gone
       └──────overdue──────┴──────overdue─────┴──▶ ABORTED ──overdue──▶ KILLED ──overdue──▶ KILLED

Gone is not a state: a worker that was reaped is not in the supervisor's dictionary. Nothing here reads a clock.
"""

from dataclasses import dataclass
from enum import StrEnum
from signal import SIGABRT, SIGKILL, Signals
from typing import Self


class State(StrEnum):
    BOOTING = "booting"  #: forked; imports the application and runs its startup
    SERVING = "serving"  #: said `ready`; accepts connections
    DRAINING = "draining"  #: told to leave; finishes what it has begun
    ABORTED = "aborted"  #: outlived a deadline; was sent ABRT, so that faulthandler writes its stacks
    KILLED = "killed"  #: outlived that too


#: What becomes of a worker that outlives its state, and the signal that tells it.
OVERDUE = {
    State.BOOTING: (State.ABORTED, SIGABRT),
    State.SERVING: (State.ABORTED, SIGABRT),
    State.DRAINING: (State.ABORTED, SIGABRT),
    State.ABORTED: (State.KILLED, SIGKILL),
    State.KILLED: (State.KILLED, SIGKILL),  # it sleeps in the kernel, beyond any signal: say so again, never give up
}
LIVE = frozenset({State.BOOTING, State.SERVING})


class StartReason(StrEnum):
    """Why a worker was started: the `reason` of asgid_worker_starts_total."""

    INITIAL = "initial"
    RELOAD = "reload"
    RECYCLE = "recycle"
    CRASH = "crash"
    SCALE = "scale"


class ExitReason(StrEnum):
    """Why a worker is no more: the `reason` of asgid_worker_exits_total."""

    RELOAD = "reload"
    RECYCLE = "recycle"
    BLOCKED = "blocked"
    CRASH = "crash"
    SIGNAL = "signal"
    BOOT_FAILED = "boot_failed"
    BOOT_TIMEOUT = "boot_timeout"
    SCALE = "scale"
    SHUTDOWN = "shutdown"


#: Why a worker that nobody told to leave was found overdue.
OVERDUE_REASON = {State.BOOTING: ExitReason.BOOT_TIMEOUT, State.SERVING: ExitReason.BLOCKED}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the supervisor needs to know of one configuration. Durations are seconds; `inf` is never."""

    generation: int
    wanted: int
    surge: int = 1
    settle: float = 1.0
    boot: float = 60.0
    heartbeat: float = 30.0
    blocked: float = 2.0
    graceful: float = 30.0
    kill: float = 5.0


@dataclass(slots=True)
class Worker:
    """The master's view of one worker. `leaving` is set once, by whoever first decides that it must go."""

    slot: int
    plan: Plan
    born: float
    why: StartReason
    state: State = State.BOOTING
    deadline: float = 0.0
    beat: float = 0.0  #: when its event loop last turned
    ready_at: float = float("inf")
    is_retiring: bool = False
    is_dumped: bool = False  #: its stack was asked for in this silence
    leaving: ExitReason | None = None
    failure: str = ""  #: what it said before it went

    @classmethod
    def forked(cls, slot: int, plan: Plan, now: float, why: StartReason) -> Self:
        """Return a worker that begins to boot."""
        return cls(slot, plan, now, why, deadline=now + plan.boot)

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    def serve(self, now: float) -> None:
        self.state, self.ready_at = State.SERVING, now
        self.heard(now)

    def heard(self, beat: float) -> None:
        """Move the deadline on to the last heartbeat plus the timeout."""
        self.beat = max(self.beat, beat)
        self.deadline = self.beat + self.plan.heartbeat

    def drain(self, now: float, why: ExitReason) -> None:
        """Give it the drain budget and half of the kill timeout to put its house in order (lifespan shutdown)."""
        self.state, self.leaving = State.DRAINING, self.leaving or why
        self.deadline = now + self.plan.graceful + self.plan.kill / 2

    def outlive(self, now: float) -> Signals:
        """Move an overdue worker on; return the signal to send.

        From ABRT to KILL is the other half of the kill timeout.
        """
        self.leaving = self.leaving or OVERDUE_REASON.get(self.state)
        self.state, signum = OVERDUE[self.state]
        self.deadline = now + self.plan.kill / 2
        return signum

    def has_settled(self, now: float) -> bool:
        """Whether it has served for the settle time."""
        return self.state is State.SERVING and now >= self.ready_at + self.plan.settle
