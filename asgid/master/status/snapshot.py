"""What the master knows at one moment, as a value: the metrics and the status page read this, and the board."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOOT_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker as an operator sees it."""

    slot: int
    pid: int
    generation: int
    state: str  #: booting | ready | draining
    age_s: float


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How the last reload ended."""

    verdict: str  #: committed | rolled_back | invalid_config | superseded
    reason: str  #: why, where it did not commit; one line
    generation: int  #: the one it tried to bring
    at: float  #: Unix time


@dataclass(frozen=True, slots=True)
class ListenerBacklog:
    """A listening socket and its queue of completed connections that no worker has taken yet."""

    name: str
    backlog_limit: int
    backlog: int


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What the kernel says of a process."""

    cpu_s: float  #: user and system time
    threads: int
    virtual_bytes: int
    resident_bytes: int
    open_fds: int | None  #: None where it does not say, as of one that has ended


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The master's knowledge. Counter mappings hold every label value of the contract from the start, with 0."""

    now_ns: int  #: CLOCK_MONOTONIC, as the heartbeats on the board
    started: float  #: Unix time
    uptime_s: float
    generation: int  #: the committed one
    desired: int  #: workers wanted
    backing_off: int  #: workers wanted and not started, because starts fail
    is_ready: bool  #: whether somebody can be served
    stopping: bool
    reloading: bool
    workers: Sequence[WorkerStatus]
    listeners: Sequence[ListenerBacklog]
    slots: tuple[int, ...]  #: every slot that ever held a worker
    starts: Mapping[str, int]  #: by reason
    exits: Mapping[str, int]  #: by reason
    reloads: Mapping[str, int]  #: by result
    last_reload: ReloadResult | None
    last_success: float  #: Unix time of the last commit; the start counts
    boots: tuple[int, ...]  #: boots that came to `ready`, by bucket of BOOT_BUCKETS_S, +Inf last, not cumulative
    boots_sum_s: float
    master: ProcessUsage | None
    max_fds: int  #: descriptors that the master may open
    processes: Mapping[int, ProcessUsage]  #: of workers, by slot
    cpu_s: Mapping[int, float]  #: by slot, over all workers that ever were in it
    loop: str  #: uvloop or asyncio
