"""The state of the service at one moment, as a value; the metrics and the status page read it beside the board."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asgid.master.workers.process_state import ProcessUsage

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
    """How a reload ended."""

    verdict: str  #: committed | rolled_back | invalid_config | superseded
    reason: str  #: one line; "" after a commit
    generation: int  #: the new generation of this reload
    at: float  #: Unix time


@dataclass(frozen=True, slots=True)
class ListenerBacklog:
    """The queue of a listening socket: completed connections that no worker has accepted yet."""

    name: str
    backlog_limit: int
    backlog: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the service. Mappings of counters hold every label value from the start, with 0."""

    now_ns: int  #: CLOCK_MONOTONIC, the clock of the heartbeats on the board
    started_at: float  #: Unix time
    uptime_s: float
    generation: int  #: the committed one
    desired: int  #: wanted workers
    backing_off: int  #: wanted workers that wait for their start, because starts fail
    is_ready: bool  #: whether a request can be served
    stopping: bool
    reloading: bool
    workers: Sequence[WorkerStatus]
    listeners: Sequence[ListenerBacklog]
    slots: tuple[int, ...]  #: every slot that ever had a worker
    starts: Mapping[str, int]  #: by reason
    exits: Mapping[str, int]  #: by reason
    reloads: Mapping[str, int]  #: by result
    last_reload: ReloadResult | None
    last_success: float  #: Unix time of the last commit; the start counts as one
    boots: tuple[int, ...]  #: successful boots by bucket of BOOT_BUCKETS_S, +Inf last, not cumulative
    boots_sum_s: float
    master: ProcessUsage | None
    max_fds: int  #: limit of open descriptors of the master
    processes: Mapping[int, ProcessUsage]  #: of workers, by slot
    cpu_s: Mapping[int, float]  #: by slot, of all workers that ever were in the slot
    loop: str  #: uvloop or asyncio
