"""The supervisor's part of a handover: the state that a new program continues from, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass

from asgid.master.supervision.backoff import Backoff
from asgid.master.supervision.lifecycle import ExitReason, Plan, StartReason, WorkerRecord


@dataclass(frozen=True)
class SupervisorState:
    """A supervisor between two reloads: a handover never happens during one."""

    committed: Plan
    workers: tuple[WorkerRecord, ...]
    backoff: Backoff
    pending_starts: tuple[StartReason, ...]
    starts: Mapping[StartReason, int]
    exits: Mapping[ExitReason, int]
