"""A snapshot of the service, collected from the supervisor, the history and the kernel."""

import os
import resource
import time
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec

from asgid.master.net.bound_socket import BoundSocket
from asgid.master.status.history import StatusHistory
from asgid.master.status.snapshot import ListenerBacklog, Snapshot, WorkerStatus
from asgid.master.supervision.lifecycle import State
from asgid.master.supervision.supervisor import Supervisor
from asgid.master.workers.process_state import ProcessUsage
from asgid.master.workers.spawn import Child
from asgid.master.workers.usage import process_usage

_STATES = {State.BOOTING: "booting", State.SERVING: "ready"}  # a worker in any other state is draining


def collect(
    history: StatusHistory,
    supervisor: Supervisor,
    children: Mapping[int, Child],
    listeners: Iterable[BoundSocket],
    now: float,
) -> Snapshot:
    """Return the state at `now`. It asks the kernel about each worker."""
    rollout = supervisor.rollout
    processes = {slot: usage for slot, child in children.items() if (usage := process_usage(child.pid))}
    return Snapshot(
        now_ns=time.monotonic_ns(),
        history=history,
        uptime_s=now - history.started_monotonic,
        generation=_generation(supervisor),
        desired=supervisor.wanted,
        backing_off=0 if supervisor.backoff.is_over(now) else supervisor.missing(),
        is_ready=not supervisor.unready,
        stopping=supervisor.is_stopping,
        reloading=rollout.committed is not None and rollout.target is not None,
        workers=[
            WorkerStatus(
                slot=slot,
                pid=children[slot].pid,
                generation=worker.plan.generation,
                state=_STATES.get(worker.state, "draining"),
                age_s=now - worker.started_at,
            )
            for slot, worker in sorted(supervisor.workers.items())
        ],
        listeners=_backlogs(listeners),
        starts={reason.value: number for reason, number in supervisor.starts.items()},
        exits={reason.value: number for reason, number in supervisor.exits.items()},
        master=process_usage(os.getpid()),
        max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        processes=processes,
        cpu_s=_cpu_s(history, processes),
        loop=_event_loop(),
    )


def status_line(history: StatusHistory, supervisor: Supervisor) -> str:
    """Return the line that `systemctl status` shows."""
    serving = sum(worker.state is State.SERVING for worker in supervisor.workers.values())
    line = f"{serving}/{supervisor.wanted} workers ready, generation {_generation(supervisor)}"
    if last := history.last_reload:
        line += f", last reload {last.verdict}"
        line += f": {last.reason}" if last.reason else ""
    return line


def _cpu_s(history: StatusHistory, processes: Mapping[int, ProcessUsage]) -> dict[int, float]:
    """Return the processor time of each slot: that of its past workers and of the present one."""
    return {
        slot: history.exited_cpu_s.get(slot, 0.0) + (processes[slot].cpu_s if slot in processes else 0.0)
        for slot in history.slots
    }


def _backlogs(listeners: Iterable[BoundSocket]) -> list[ListenerBacklog]:
    """Return one value for each name: if systemd passed several sockets under a name, their queues add up."""
    backlogs: dict[str, ListenerBacklog] = {}
    for bound in listeners:
        if queue := bound.queue():
            waiting, limit = queue
            known = backlogs.get(bound.name, ListenerBacklog(bound.name, 0, 0))
            backlogs[bound.name] = ListenerBacklog(bound.name, known.backlog_limit + limit, known.backlog + waiting)
    return list(backlogs.values())


def _generation(supervisor: Supervisor) -> int:
    return supervisor.rollout.committed.generation if supervisor.rollout.committed else 0


@cache
def _event_loop() -> str:
    return "uvloop" if find_spec("uvloop") else "asyncio"
