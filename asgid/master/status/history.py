"""The master's memory of what has happened, and its view of the workers, made into a Snapshot for whoever asks."""

import os
import resource
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from asgid.master.listeners import BoundSocket
from asgid.master.replace.handover import HistoryState
from asgid.master.status.snapshot import (
    BOOT_BUCKETS_S,
    ListenerBacklog,
    ProcessUsage,
    ReloadResult,
    Snapshot,
    WorkerStatus,
)
from asgid.master.supervision.lifecycle import State
from asgid.master.supervision.supervisor import Supervisor
from asgid.master.workers.spawn import Child
from asgid.master.workers.usage import look

_STATES = {State.BOOTING: "booting", State.SERVING: "ready"}  # all others are on their way out: draining


class StatusHistory:
    """Takes notes while the loop works, and answers from them."""

    def __init__(self, notes: HistoryState) -> None:
        self.state = notes
        self._loop = "uvloop" if find_spec("uvloop") else "asyncio"

    def record_start(self, slot: int) -> None:
        self.state.slots.add(slot)

    def record_boot(self, boot_s: float) -> None:
        self.state.boots[bisect_left(BOOT_BUCKETS_S, boot_s)] += 1
        self.state.boots_sum_s += boot_s

    def record_exit(self, slot: int, cpu_s: float) -> None:
        self.state.cpu_s[slot] = self.state.cpu_s.get(slot, 0.0) + cpu_s

    def record_reload(self, reload: ReloadResult) -> None:
        self.state.reloads[reload.verdict] += 1
        self.state.last_reload = reload
        if reload.verdict == "committed":
            self.state.last_success = reload.at

    def status_line(self, supervisor: Supervisor) -> str:
        """Return the one line that `systemctl status` shows."""
        serving = sum(worker.state is State.SERVING for worker in supervisor.workers.values())
        line = f"{serving}/{supervisor.wanted} workers ready, generation {_generation(supervisor)}"
        if last := self.state.last_reload:
            line += f", last reload {last.verdict}"
            line += f": {last.reason}" if last.reason else ""
        return line

    def snapshot(
        self, supervisor: Supervisor, children: Mapping[int, Child], listeners: Iterable[BoundSocket], now: float
    ) -> Snapshot:
        """Return what is known now; asks the kernel about each worker."""
        notes, rollout = self.state, supervisor.rollout
        processes, cpu_s = self._processes(children)
        return Snapshot(
            now_ns=time.monotonic_ns(),
            started=notes.began,
            uptime_s=now - notes.started,
            generation=_generation(supervisor),
            desired=supervisor.wanted,
            backing_off=0 if supervisor.backoff.may_start(now) else supervisor.missing(),
            is_ready=not supervisor.unready,
            stopping=supervisor.is_stopping,
            reloading=rollout.committed is not None and rollout.target is not None,
            workers=[
                WorkerStatus(
                    slot=slot,
                    pid=children[slot].pid,
                    generation=worker.plan.generation,
                    state=_STATES.get(worker.state, "draining"),
                    age_s=now - worker.born,
                )
                for slot, worker in sorted(supervisor.workers.items())
            ],
            listeners=_queues(listeners),
            slots=tuple(sorted(notes.slots)),
            starts={reason.value: number for reason, number in supervisor.starts.items()},
            exits={reason.value: number for reason, number in supervisor.exits.items()},
            reloads=dict(notes.reloads),
            last_reload=notes.last_reload,
            last_success=notes.last_success,
            boots=tuple(notes.boots),
            boots_sum_s=notes.boots_sum_s,
            master=look(os.getpid()),
            max_fds=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            processes=processes,
            cpu_s=cpu_s,
            loop=self._loop,
        )

    def _processes(self, children: Mapping[int, Child]) -> tuple[dict[int, ProcessUsage], dict[int, float]]:
        views: dict[int, ProcessUsage] = {}
        cpu_s = {slot: self.state.cpu_s.get(slot, 0.0) for slot in self.state.slots}
        for slot, child in children.items():
            if process := look(child.pid):
                views[slot] = process
                cpu_s[slot] += process.cpu_s
        return views, cpu_s


def _queues(helds: Iterable[BoundSocket]) -> list[ListenerBacklog]:
    """Return one view for each name: systemd may have passed several sockets under it, and what they hold adds up."""
    views: dict[str, ListenerBacklog] = {}
    for held in helds:
        if queue := held.queue():
            waiting, limit = queue
            known = views.get(held.name, ListenerBacklog(held.name, 0, 0))
            views[held.name] = ListenerBacklog(held.name, known.backlog_limit + limit, known.backlog + waiting)
    return list(views.values())


def _generation(supervisor: Supervisor) -> int:
    return supervisor.rollout.committed.generation if supervisor.rollout.committed else 0
