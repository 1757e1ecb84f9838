"""One worker's life: its states, the table of what happens when it outlives one, and one deadline a state.

    BOOTING ──ready──▶ SERVING ──drain──▶ DRAINING ──▶ gone
       └──────overdue──────┴──────overdue─────┴──▶ ABORTED ──overdue──▶ KILLED ──overdue──▶ KILLED

Gone is not a state: a worker that was reaped is not in the supervisor's dictionary. Nothing here reads a clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from signal import SIGABRT, SIGKILL, Signals
from typing import Self

from asgid import wire


class State(StrEnum):
    BOOTING = "booting"  #: forked; imports the application and runs its startup
    SERVING = "serving"  #: said `ready`; accepts connections
    DRAINING = "draining"  #: told to leave; finishes what it has begun
    ABORTED = "aborted"  #: outlived a deadline; was sent ABRT, so that faulthandler writes its stacks
    KILLED = "killed"  #: outlived that too


#: What becomes of a worker that outlives its state, the signal that tells it, and what an operator is told.
OVERDUE = {
    State.BOOTING: (State.ABORTED, SIGABRT, "not ready within timeouts.boot"),
    State.SERVING: (State.ABORTED, SIGABRT, "silent for timeouts.heartbeat: its event loop stands still"),
    State.DRAINING: (State.ABORTED, SIGABRT, "not gone within timeouts.graceful"),
    State.ABORTED: (State.KILLED, SIGKILL, "not gone after ABRT"),
    # It sleeps in the kernel, beyond any signal: say so again, never give up.
    State.KILLED: (State.KILLED, SIGKILL, "not gone after KILL"),
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
#: When a worker that nobody told to leave came to its end.
LOST = {State.BOOTING: "while it booted", State.SERVING: "while it served"}


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

    def is_fresh(self, plan: Plan) -> bool:
        """Whether it is live, of this plan's generation, and to stay."""
        return self.is_live and self.plan.generation == plan.generation and not self.is_retiring

    def serve(self, now: float) -> None:
        self.state, self.ready_at = State.SERVING, now
        self.heard(now)

    def heard(self, beat: float) -> None:
        """Move the deadline on to the last heartbeat plus the timeout."""
        self.beat = max(self.beat, beat)
        self.deadline = self.beat + self.plan.heartbeat

    def forgive(self, now: float, late_s: float) -> None:
        """Give it as much time again as was lost to all; whether it turns shows only now."""
        if self.state is State.SERVING:
            self.heard(now)
        self.deadline = max(self.deadline, now + late_s)

    def drain(self, now: float, why: ExitReason) -> None:
        """Give it the drain budget and half of the kill timeout to put its house in order (lifespan shutdown)."""
        self.state, self.leaving = State.DRAINING, self.leaving or why
        self.deadline = now + self.plan.graceful + self.plan.kill / 2

    def abort(self, now: float, why: ExitReason) -> Signals:
        """Give it up in any state; return the signal to send. From there to KILL it has half of the kill timeout."""
        self.state, self.leaving = State.ABORTED, why
        self.deadline = now + self.plan.kill / 2
        return SIGABRT

    def outlive(self, now: float) -> tuple[Signals, str]:
        """Move an overdue worker on; return the signal to send, and why.

        From ABRT to KILL is the other half of the kill timeout.
        """
        self.leaving = self.leaving or OVERDUE_REASON.get(self.state)
        self.state, signum, why = OVERDUE[self.state]
        self.deadline = now + self.plan.kill / 2
        return signum, why

    def falls_silent(self, now: float) -> bool:
        """Whether its event loop has been silent for longer than `blocked`: true once in each silence."""
        was_dumped, self.is_dumped = self.is_dumped, now - self.beat >= self.plan.blocked
        return self.is_dumped and not was_dumped

    def has_settled(self, now: float) -> bool:
        """Whether it has served for the settle time."""
        return self.state is State.SERVING and now >= self.ready_at + self.plan.settle

    def changes(self, judged: float) -> Iterator[float]:
        """Yield when it may be judged otherwise than at `judged`, unless something is heard of it."""
        yield self.deadline
        if self.state is State.SERVING:
            # Whoever was asked for its stack is looked at again: it may have gone on, and stand still anew.
            yield (judged if self.is_dumped else self.beat) + self.plan.blocked
            yield self.ready_at + self.plan.settle

    def exit_reason(self, status: int) -> ExitReason:
        """Return why it is no more: `status` is its exit code, or minus the signal that ended it."""
        if self.leaving:
            return self.leaving
        if self.state is State.BOOTING:
            return ExitReason.BOOT_FAILED
        return ExitReason.SIGNAL if status < 0 else ExitReason.CRASH

    def problem(self, status: int) -> str:
        """Return what an operator is told of an end that nobody asked for: in its own words, where it said any."""
        if status == wire.CUT_OFF and not self.failure:
            why = "the application closed it, as os.closerange() does; its error is on standard error"
            return f"worker {self.slot} lost its line to the master {LOST[self.state]}: {why}"
        how = f"was ended by signal {-status}" if status < 0 else f"exited with code {status}"
        return self.failure or f"worker {self.slot} {how} {LOST[self.state]}"
