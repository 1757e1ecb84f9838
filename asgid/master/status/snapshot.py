"""The state of the service at one moment, as a value; the metrics and the status page read it beside the board."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asgid.master.status.history import StatusHistory
from asgid.master.workers.process_state import ProcessUsage


@dataclass(frozen=True)
class WorkerStatus:
    """One worker as an operator sees it."""

    slot: int
    pid: int
    generation: int
    state: str  #: booting | ready | draining
    age_s: float


@dataclass(frozen=True)
class ListenerBacklog:
    """The queue of a listening socket: completed connections that no worker has accepted yet."""

    name: str
    backlog_limit: int
    backlog: int


@dataclass(frozen=True)
class Snapshot:
    """The state of the service. Mappings of counters hold every label value from the start, with 0."""

    now_ns: int  #: CLOCK_MONOTONIC, the clock of the heartbeats on the board
    history: StatusHistory  #: the events before it
    uptime_s: float
    generation: int  #: the committed one
    desired: int  #: wanted workers
    backing_off: int  #: wanted workers that wait for their start, because starts fail
    is_ready: bool  #: whether a request can be served
    stopping: bool
    reloading: bool
    workers: Sequence[WorkerStatus]
    listeners: Sequence[ListenerBacklog]
    starts: Mapping[str, int]  #: by reason
    exits: Mapping[str, int]  #: by reason
    master: ProcessUsage | None
    max_fds: int  #: limit of open descriptors of the master
    processes: Mapping[int, ProcessUsage]  #: of workers, by slot
    cpu_s: Mapping[int, float]  #: by slot, of all workers that ever were in the slot
    loop: str  #: uvloop or asyncio
