"""The supervisor's answers to a fact, as values: steps for the loop to carry out, and reports for it to log.

Frozen dataclasses here have no slots: with both, Python keeps two classes for each one (2.5 KB).
"""

from dataclasses import dataclass
from signal import Signals
from typing import TypeAlias

from asgid.errors import ExitCode
from asgid.master.supervision.lifecycle import ExitReason, StartReason


@dataclass(frozen=True)
class Spawn:
    slot: int
    generation: int
    reason: StartReason


@dataclass(frozen=True)
class Drain:
    slot: int
    generation: int
    reason: ExitReason
    grace_s: float
    is_booting: bool  #: it does not read its lifeline yet, so it is sent TERM


@dataclass(frozen=True)
class Signal:
    slot: int
    generation: int
    signum: Signals
    reason: str


@dataclass(frozen=True)
class Dump:
    """Ask a blocked worker for its stack. The worker goes on."""

    slot: int
    generation: int
    silent_s: float


@dataclass(frozen=True)
class StartTrial:
    """Run the program that is on disk now beside this one, and see whether it starts."""


@dataclass(frozen=True)
class SignalTrial:
    """Send a signal to the trial of the new program: its result is not wanted any more."""

    signum: Signals
    reason: str


@dataclass(frozen=True)
class ExecNewProgram:
    """Execute the new program in this process.

    Repeated at every comparison while it holds: a fact that arrives before the step is carried out may withdraw it.
    """


@dataclass(frozen=True)
class Quit:
    """Every worker has exited, and none is wanted."""

    code: ExitCode


@dataclass(frozen=True)
class WorkerReady:
    """Report: a worker became ready."""

    slot: int
    generation: int
    boot_s: float


@dataclass(frozen=True)
class WorkerExited:
    """Report: a worker has exited. `status` is its exit code, or minus the signal that ended it."""

    slot: int
    generation: int
    reason: ExitReason
    status: int
    failure: str
    is_decisive: bool = False  #: it made a start or a reload fail; the report of that failure shows its stack


@dataclass(frozen=True)
class BackingOff:
    """Report: starts fail; the next one follows after `delay_s`."""

    delay_s: float
    failures: int


@dataclass(frozen=True)
class ReloadStarted:
    """Report: the change to this generation has started."""

    generation: int


@dataclass(frozen=True)
class Committed:
    """Report: this generation serves, and no other does."""

    generation: int


@dataclass(frozen=True)
class RolledBack:
    """Report: this generation failed; the one before it goes on."""

    generation: int
    reason: str


@dataclass(frozen=True)
class Superseded:
    """Report: a newer configuration replaced this generation before it served."""

    generation: int


@dataclass(frozen=True)
class UpgradeRefused:
    """Report: the running program goes on."""

    reason: str


Step: TypeAlias = (
    Spawn
    | Drain
    | Signal
    | Dump
    | StartTrial
    | SignalTrial
    | ExecNewProgram
    | Quit
    | WorkerReady
    | WorkerExited
    | BackingOff
    | ReloadStarted
    | Committed
    | RolledBack
    | Superseded
    | UpgradeRefused
)
