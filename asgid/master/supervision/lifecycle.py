"""The life of one worker: its states, a deadline for each, and the table of the states after a missed deadline.

    BOOTING ──ready──▶ SERVING ──drain──▶ DRAINING ──▶ exited
       └─────deadline──────┴─────deadline─────┴──▶ ABORTED ──deadline──▶ KILLED ──deadline──▶ KILLED

"Exited" is not a state: the supervisor removes the record of a worker that was reaped. Nothing here reads a clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from signal import SIGABRT, SIGKILL, Signals
from typing import Self

from asgid import wire


class State(StrEnum):
    BOOTING = "booting"  #: forked; imports the application and runs its startup
    SERVING = "serving"  #: has sent `ready`; accepts connections
    DRAINING = "draining"  #: received Drain or TERM; finishes its requests
    ABORTED = "aborted"  #: missed a deadline; was sent ABRT, so that faulthandler writes its stacks
    KILLED = "killed"  #: missed the deadline after ABRT, too


#: State -> the state after a missed deadline, the signal, and the logged reason.
ON_DEADLINE = {
    State.BOOTING: (State.ABORTED, SIGABRT, "not ready within timeouts.boot"),
    State.SERVING: (State.ABORTED, SIGABRT, "without a heartbeat for timeouts.heartbeat: its event loop is blocked"),
    State.DRAINING: (State.ABORTED, SIGABRT, "still running after timeouts.graceful"),
    State.ABORTED: (State.KILLED, SIGKILL, "still running after ABRT"),
    # It sleeps in the kernel, where no signal reaches it: send KILL again and again.
    State.KILLED: (State.KILLED, SIGKILL, "still running after KILL"),
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
    """Why a worker exited: the `reason` of asgid_worker_exits_total."""

    RELOAD = "reload"
    RECYCLE = "recycle"
    BLOCKED = "blocked"
    CRASH = "crash"
    SIGNAL = "signal"
    BOOT_FAILED = "boot_failed"
    BOOT_TIMEOUT = "boot_timeout"
    SCALE = "scale"
    SHUTDOWN = "shutdown"


#: The exit reason of a worker that missed a deadline while it was live.
TIMEOUT_EXIT_REASON = {State.BOOTING: ExitReason.BOOT_TIMEOUT, State.SERVING: ExitReason.BLOCKED}
#: When an unexpected exit happened.
UNEXPECTED_EXIT_TEXT = {State.BOOTING: "while it booted", State.SERVING: "while it served"}


@dataclass(frozen=True)
class Plan:
    """The settings of one generation that the supervisor uses. Durations are seconds; `inf` is never."""

    generation: int
    wanted: int
    surge: int
    settle: float
    boot: float
    heartbeat: float
    blocked: float
    graceful: float
    kill: float


@dataclass(slots=True)
class WorkerRecord:
    """One worker as the master sees it. The first decision that it must exit sets `exit_reason`."""

    slot: int
    plan: Plan
    started_at: float
    start_reason: StartReason
    state: State = State.BOOTING
    deadline: float = 0.0
    last_heartbeat: float = 0.0  #: when its event loop last turned
    ready_at: float = float("inf")
    is_retiring: bool = False  #: it serves until its replacement does
    is_blocked: bool = False  #: its last heartbeat is older than `timeouts.blocked`; its stack was requested
    exit_reason: ExitReason | None = None
    failure: str = ""  #: the reason that the worker itself sent

    @classmethod
    def forked(cls, slot: int, plan: Plan, now: float, reason: StartReason) -> Self:
        """Return the record of a worker that begins to boot."""
        return cls(slot, plan, now, reason, deadline=now + plan.boot)

    @property
    def is_live(self) -> bool:
        return self.state in LIVE

    def is_fresh(self, plan: Plan) -> bool:
        """Return whether it is live, of the generation of `plan`, and not retiring."""
        return self.is_live and self.plan.generation == plan.generation and not self.is_retiring

    def start_serving(self, now: float) -> None:
        self.state, self.ready_at = State.SERVING, now
        self.on_heartbeat(now)

    def on_heartbeat(self, at: float) -> None:
        """Move the deadline to `timeouts.heartbeat` after the last heartbeat."""
        self.last_heartbeat = max(self.last_heartbeat, at)
        self.deadline = self.last_heartbeat + self.plan.heartbeat

    def extend_after_stall(self, now: float, late_s: float) -> None:
        """Extend the deadline by the time in which no process ran; a heartbeat is expected from now on."""
        if self.state is State.SERVING:
            self.on_heartbeat(now)
        self.deadline = max(self.deadline, now + late_s)

    def drain(self, now: float, reason: ExitReason) -> None:
        """Allow the drain `timeouts.graceful`, and the lifespan shutdown half of `timeouts.kill`."""
        self.state, self.exit_reason = State.DRAINING, self.exit_reason or reason
        self.deadline = now + self.plan.graceful + self.plan.kill / 2

    def abort(self, now: float, reason: ExitReason) -> Signals:
        """Give the worker up in any state. Return the signal to send; KILL follows after half of `timeouts.kill`."""
        self.state, self.exit_reason = State.ABORTED, self.exit_reason or reason
        self.deadline = now + self.plan.kill / 2
        return SIGABRT

    def escalate(self, now: float) -> tuple[Signals, str]:
        """Move on after a missed deadline. Return the signal to send, and the reason.

        The time between ABRT and KILL is the other half of `timeouts.kill`.
        """
        self.exit_reason = self.exit_reason or TIMEOUT_EXIT_REASON.get(self.state)
        self.state, signum, reason = ON_DEADLINE[self.state]
        self.deadline = now + self.plan.kill / 2
        return signum, reason

    def is_newly_blocked(self, now: float) -> bool:
        """Return whether the last heartbeat has just become older than `timeouts.blocked`."""
        was_blocked, self.is_blocked = self.is_blocked, now - self.last_heartbeat >= self.plan.blocked
        return self.is_blocked and not was_blocked

    def has_settled(self, now: float) -> bool:
        """Return whether it has served for `reload.settle`."""
        return self.state is State.SERVING and now >= self.ready_at + self.plan.settle

    def next_changes(self, last_tick: float) -> Iterator[float]:
        """Yield the times when a check may find more than at `last_tick`, even if no message or heartbeat arrives."""
        yield self.deadline
        if self.state is State.SERVING:
            # A blocked worker is checked again: its loop may turn, and then block a second time.
            yield (last_tick if self.is_blocked else self.last_heartbeat) + self.plan.blocked
            yield self.ready_at + self.plan.settle

    def classify_exit(self, status: int) -> ExitReason:
        """Return why it exited. `status` is its exit code, or minus the signal that ended it."""
        if self.exit_reason:
            return self.exit_reason
        if self.state is State.BOOTING:
            return ExitReason.BOOT_FAILED
        return ExitReason.SIGNAL if status < 0 else ExitReason.CRASH

    def describe_exit(self, status: int) -> str:
        """Return the message about an unexpected exit: the reason that the worker sent, or else its exit status."""
        if status == wire.CUT_OFF and not self.failure:
            why = "the application closed it, as os.closerange() does; its error is on standard error"
            return f"worker {self.slot} lost its lifeline {UNEXPECTED_EXIT_TEXT[self.state]}: {why}"
        how = f"was ended by signal {-status}" if status < 0 else f"exited with code {status}"
        return self.failure or f"worker {self.slot} {how} {UNEXPECTED_EXIT_TEXT[self.state]}"
