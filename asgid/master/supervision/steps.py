"""What the supervisor answers to a fact: steps for the loop to carry out, reports for it to log. Only values."""

from dataclasses import dataclass
from signal import Signals
from typing import TypeAlias

from asgid.errors import ExitCode
from asgid.master.supervision.lifecycle import ExitReason, StartReason


@dataclass(frozen=True, slots=True)
class Spawn:
    slot: int
    generation: int
    why: StartReason


@dataclass(frozen=True, slots=True)
class Drain:
    slot: int
    generation: int
    why: ExitReason
    grace_s: float
    is_booting: bool  #: it cannot read the wire yet: TERM tells it


@dataclass(frozen=True, slots=True)
class Signal:
    slot: int
    generation: int
    signum: Signals
    why: str


@dataclass(frozen=True, slots=True)
class Dump:
    """Ask a silent worker for its stack; nothing is ended."""

    slot: int
    generation: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class TrySuccessor:
    """Run the program that is on disk now beside this one, to see whether it would do."""


@dataclass(frozen=True, slots=True)
class EndTrial:
    """Signal the trial of the new program: nobody waits for its outcome any more."""

    signum: Signals
    why: str


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Execute the new program in this one's place.

    Repeated at every comparison while it holds: a fact that arrives before it is carried out may withdraw it.
    """


@dataclass(frozen=True, slots=True)
class Quit:
    """Every worker is gone and none is wanted."""

    code: ExitCode


@dataclass(frozen=True, slots=True)
class Served:
    """Report: a worker became ready."""

    slot: int
    generation: int
    boot_s: float


@dataclass(frozen=True, slots=True)
class Left:
    """Report: a worker is gone. `status` is its exit code, or minus the signal that ended it."""

    slot: int
    generation: int
    why: ExitReason
    status: int
    failure: str
    has_verdict: bool = False  #: it decided a start or a reload: that report shows what led to the failure


@dataclass(frozen=True, slots=True)
class Waiting:
    """Report: starts fail; the next comes after `delay_s`."""

    delay_s: float
    failures: int


@dataclass(frozen=True, slots=True)
class Began:
    """Report: the transition to this generation has begun."""

    generation: int


@dataclass(frozen=True, slots=True)
class Committed:
    """Report: this generation is the one that serves, and the only one."""

    generation: int


@dataclass(frozen=True, slots=True)
class RolledBack:
    """Report: this generation failed; the one before it serves on."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """Report: a newer configuration took this generation's place before it served."""

    generation: int


@dataclass(frozen=True, slots=True)
class UpgradeRefused:
    """Report: this program goes on."""

    reason: str


Step: TypeAlias = (
    Spawn
    | Drain
    | Signal
    | Dump
    | TrySuccessor
    | EndTrial
    | GiveWay
    | Quit
    | Served
    | Left
    | Waiting
    | Began
    | Committed
    | RolledBack
    | Superseded
    | UpgradeRefused
)
