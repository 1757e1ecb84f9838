"""The master's record of past events: starts, boots, exits and reloads, for the metrics and the status page.

It passes to the next program when the master is replaced in place. This file reads no clock.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

BOOT_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class ReloadResult:
    """How a reload ended."""

    verdict: str  #: committed | rolled_back | invalid_config | superseded
    reason: str  #: one line; "" after a commit
    generation: int  #: the new generation of this reload
    at: float  #: Unix time


@dataclass(slots=True)
class StatusHistory:
    """Events since the start of the first program."""

    started_monotonic: float
    started_at: float  #: Unix time of the same moment
    last_success: float  #: Unix time of the last commit; the start counts as one
    slots: set[int] = field(default_factory=set)  #: every slot that ever had a worker
    reloads: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("committed", "rolled_back", "invalid_config", "superseded"), 0)
    )
    last_reload: ReloadResult | None = None
    #: Successful boots by bucket of BOOT_BUCKETS_S, +Inf last, not cumulative.
    boots: list[int] = field(default_factory=lambda: [0] * (len(BOOT_BUCKETS_S) + 1))
    boots_sum_s: float = 0.0
    exited_cpu_s: dict[int, float] = field(default_factory=dict)  #: by slot, of workers that have exited
    #: By slot and cell of the board: the number to add to the cell, see `asgid/master/workers/ledger.py`.
    corrections: dict[int, dict[int, int]] = field(default_factory=dict)

    def record_start(self, slot: int) -> None:
        self.slots.add(slot)

    def record_boot(self, boot_s: float) -> None:
        self.boots[bisect_left(BOOT_BUCKETS_S, boot_s)] += 1
        self.boots_sum_s += boot_s

    def record_exit(self, slot: int, cpu_s: float) -> None:
        self.exited_cpu_s[slot] = self.exited_cpu_s.get(slot, 0.0) + cpu_s

    def record_reload(self, result: ReloadResult) -> None:
        self.reloads[result.verdict] += 1
        self.last_reload = result
        if result.verdict == "committed":
            self.last_success = result.at
