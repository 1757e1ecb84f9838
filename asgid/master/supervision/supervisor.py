"""All workers: facts go in, `reconcile` compares the workers that run with those that are wanted, and steps come out.

Boot, crash, scale, recycle, reload, roll-back and stop are one comparison. The rollout decides how many workers of
which plan should run; this module decides which worker starts or drains, and when.

A property test checks five invariants over random facts. Draining never takes SERVING below wanted. A spawn never takes
live above wanted + surge, nor a slot beyond the board. Without new facts the workers converge to `wanted` fresh ones of
one generation. A stop ends every worker. At most two generations are live.

Every method takes a fact and the time, and returns steps. Nothing here reads a clock, forks, sends signals or logs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from signal import SIGKILL
from typing import Self

from asgid.board import SLOTS
from asgid.errors import ExitCode
from asgid.master.supervision.backoff import Backoff
from asgid.master.supervision.lifecycle import ExitReason, Plan, StartReason, State, WorkerRecord
from asgid.master.supervision.rollout import Rollout
from asgid.master.supervision.state import SupervisorState
from asgid.master.supervision.steps import (
    BackingOff,
    Drain,
    Dump,
    Quit,
    RolledBack,
    Signal,
    Spawn,
    Step,
    UpgradeRefused,
    WorkerExited,
    WorkerReady,
)
from asgid.master.supervision.upgrade import Upgrade

#: Why a worker with an invalid message on its lifeline is replaced.
INVALID_MESSAGE = "its lifeline carried an invalid message"
#: The longest time that one program needs to become the next: an exec, and the start of Python.
MAX_EXEC_S = 1.0


class Supervisor:
    """The decisions of the master. `workers` holds every process that is not reaped yet, by slot."""

    def __init__(self) -> None:
        self.workers: dict[int, WorkerRecord] = {}
        self.rollout = Rollout()
        self.is_stopping = False
        self.exit_code = ExitCode.OK
        self.backoff = Backoff()
        self.last_tick = float("-inf")
        self.pending_starts: list[StartReason] = []  # the reasons of the next starts for the committed plan
        self.starts = Counter(dict.fromkeys(StartReason, 0))
        self.exits = Counter(dict.fromkeys(ExitReason, 0))
        self.upgrade = Upgrade()

    @classmethod
    def resume(cls, state: SupervisorState, now: float) -> Self:
        """Return the supervisor of a new program, over the workers that the old one started.

        The time of the exec counts against no worker.
        """
        supervisor = cls()
        supervisor.last_tick = now
        supervisor.rollout, supervisor.backoff = Rollout(state.committed), state.backoff
        supervisor.workers = {worker.slot: worker for worker in state.workers}
        supervisor.on_stall(now, MAX_EXEC_S)
        supervisor.pending_starts = list(state.pending_starts)
        supervisor.starts.update(state.starts)
        supervisor.exits.update(state.exits)
        return supervisor

    def state(self) -> SupervisorState:
        """Return the state for the next program. Call it only when no reload is in progress."""
        committed = self.rollout.committed
        if committed is None or self.rollout.is_in_progress:
            raise AssertionError(f"no handover is possible during {self.rollout}")
        workers = tuple(self.workers.values())
        pending_starts, starts, exits = tuple(self.pending_starts), dict(self.starts), dict(self.exits)
        return SupervisorState(committed, workers, self.backoff, pending_starts, starts, exits)

    # Facts

    def reload(self, plan: Plan, now: float) -> list[Step]:
        """A new configuration is valid and its listeners are bound. The first one starts the server."""
        return [*self.rollout.offer(plan), *self.reconcile(now)]

    def ready(self, slot: int, now: float) -> list[Step]:
        """A worker has sent `ready`. The message changes nothing if it comes again, or from a worker that drains."""
        worker = self.workers.get(slot)
        if worker is None or worker.state is not State.BOOTING:
            return []
        worker.start_serving(now)
        return [WorkerReady(slot, worker.plan.generation, now - worker.started_at), *self.reconcile(now)]

    def failed(self, slot: int, reason: str, now: float) -> list[Step]:
        """A worker cannot boot, and will exit; or it serves and has lost its application, so it is replaced."""
        worker = self.workers.get(slot)
        if worker is None:
            return []
        worker.failure = reason
        return self._replace(worker, reason, now) if worker.state is State.SERVING else []

    def invalid_message(self, slot: int, now: float) -> list[Step]:
        """The lifeline of a worker carried bytes that no worker sends, so no later message on it is trusted.

        A worker that boots is aborted, because it could not report that it is ready. One that serves is replaced.
        """
        worker, reason = self.workers.get(slot), f"worker {slot} was replaced: {INVALID_MESSAGE}"
        if worker is None or not worker.is_live:
            return []
        if worker.state is State.SERVING:
            return self._replace(worker, reason, now)
        signum = worker.abort(now, ExitReason.BOOT_FAILED)
        signal = Signal(slot, worker.plan.generation, signum, INVALID_MESSAGE)
        return [signal, *self._failure(worker, reason, now), *self.reconcile(now)]

    def _replace(self, worker: WorkerRecord, reason: str, now: float) -> list[Step]:
        """Start the replacement of a worker that failed but still serves; the worker drains once that one serves."""
        if worker.exit_reason:
            return []
        worker.is_retiring, worker.exit_reason = True, ExitReason.CRASH
        return [*self._failure(worker, reason, now), *self.reconcile(now)]

    def exited(self, slot: int, status: int, now: float) -> list[Step]:
        """A worker was reaped. `status` is its exit code, or minus the signal that ended it."""
        worker = self.workers.pop(slot)
        reason = worker.classify_exit(status)
        self.exits[reason] += 1
        failure = self._failure(worker, worker.describe_exit(status), now) if worker.exit_reason is None else []
        # A start that fails is reported after this exit. A reload that failed by a deadline or a signal was reported
        # before: then the line of this exit has the stack.
        is_failed_start = self.exit_code is ExitCode.NO_WORKER
        is_decisive = is_failed_start or (status >= 0 and any(isinstance(step, RolledBack) for step in failure))
        report = WorkerExited(slot, worker.plan.generation, reason, status, worker.failure, is_decisive)
        return [report, *failure, *self.reconcile(now)]

    def recycle(self, slot: int, now: float) -> list[Step]:
        """A worker is due for recycling: start its replacement first, then drain it."""
        if (worker := self.workers.get(slot)) and worker.is_live:
            worker.is_retiring = True
            self.pending_starts.append(StartReason.RECYCLE)
        return self.reconcile(now)

    def leaving(self, slot: int, now: float) -> list[Step]:
        """A worker drains because it received TERM, which an operator may send: start another one at once.

        A worker that has not settled counts as failed when it exits. Otherwise an application that sends TERM to
        itself at its start would be started again without a delay, forever.
        """
        worker = self.workers.get(slot)
        if worker is None or not worker.has_settled(now):
            return []
        if self.rollout.committed and worker.is_fresh(self.rollout.committed):
            self.pending_starts.append(StartReason.RECYCLE)
        worker.drain(now, ExitReason.RECYCLE)
        return [self._drain_step(worker, is_booting=False), *self.reconcile(now)]

    def scale(self, change: int, now: float) -> list[Step]:
        """Change the number of workers, from 1 to MAX_WORKERS, until the next reload."""
        if self.rollout.is_paused:
            return []
        before = self.rollout.wanted
        self.rollout.scale(change)
        self.pending_starts += [StartReason.SCALE] * (self.rollout.wanted - before)
        return self.reconcile(now)

    def pause(self, now: float) -> list[Step]:
        """Drain all workers and keep the sockets. The next reload starts workers again."""
        if self.rollout.committed is None or self.is_stopping:
            return []
        return [*self.rollout.pause(), *self.reconcile(now)]

    def start_upgrade(self, now: float) -> list[Step]:
        """Replace the program by the one that is on disk now; its trial runs first."""
        if self.rollout.committed is None or self.is_stopping:
            return [UpgradeRefused("a stop came first" if self.is_stopping else "no worker is ready yet")]
        return [*self.upgrade.request(), *self.reconcile(now)]

    def trial_ended(self, problem: str, now: float) -> list[Step]:
        """The trial of the new program has exited, or the exec failed. `problem` is "" after success."""
        return [*self.upgrade.trial_ended(problem), *self.reconcile(now)]

    def stop(self, now: float) -> list[Step]:
        """Drain all workers, in any state, and quit."""
        steps = self._start_stop(now)
        for worker in self.workers.values():
            # A worker that drains for a reload keeps idle connections open for longer than at a stop: send Drain again.
            if worker.state is State.DRAINING:
                worker.deadline = min(worker.deadline, now + worker.plan.graceful + worker.plan.kill / 2)
                steps.append(self._drain_step(worker, is_booting=False))
        return steps + self.reconcile(now)

    def stop_now(self, now: float) -> list[Step]:
        """Kill every worker."""
        steps = self._start_stop(now)
        for worker in self.workers.values():
            worker.state, worker.exit_reason = State.KILLED, worker.exit_reason or ExitReason.SHUTDOWN
            worker.deadline = now + worker.plan.kill
            steps.append(Signal(worker.slot, worker.plan.generation, SIGKILL, "stop at once"))
        return steps + self.reconcile(now)

    def _start_stop(self, now: float) -> list[Step]:
        self.is_stopping = True
        steps: list[Step] = [*self.rollout.abandon()]
        if self.rollout.committed:
            steps += self.upgrade.stop(now, self.rollout.committed)
        return steps

    def on_stall(self, now: float, late_s: float) -> None:
        """The master itself did not run until `late_s` after a deadline. That time counts against no worker."""
        for worker in self.workers.values():
            worker.extend_after_stall(now, late_s)

    def tick(self, now: float, heartbeats: Mapping[int, float]) -> list[Step]:
        """Time has passed. `heartbeats` holds by slot when each event loop last turned.

        Pass on every message that has arrived before calling this.
        """
        self.last_tick = now
        steps: list[Step] = []
        for worker in list(self.workers.values()):
            if worker.state is State.SERVING:
                worker.on_heartbeat(heartbeats.get(worker.slot, worker.last_heartbeat))
                if worker.is_newly_blocked(now):
                    steps.append(Dump(worker.slot, worker.plan.generation, now - worker.last_heartbeat))
            if now >= worker.deadline:
                steps += self._escalate(worker, now)
        if self.rollout.committed:
            steps += self.upgrade.tick(now, self.rollout.committed)
        return steps + self.reconcile(now)

    def next_deadline(self) -> float:
        """Return when to call `tick` next; `inf` is never. A time since the last tick may have passed: it is due."""
        times = [time for worker in self.workers.values() for time in worker.next_changes(self.last_tick)]
        times += [self.backoff.until, self.upgrade.deadline]
        # A time before the last tick (a worker that has settled, a delay that is over) was handled by it.
        return min((time for time in times if time > self.last_tick), default=float("inf"))

    # The comparison

    def reconcile(self, now: float) -> list[Step]:
        """Return the steps from the workers that run to the workers that are wanted."""
        steps: list[Step] = []
        # A drain can make room for a spawn, and a spawn can complete a roll: compare until no step is left.
        while more := [*self._advance(now), *self._spawns(now), *self._drains(now)]:
            steps += more
        if self.is_stopping and not self.workers and not self.upgrade.has_process:
            steps.append(Quit(self.exit_code))
        if self.rollout.committed and not (self.rollout.is_in_progress or self.is_stopping):
            steps += self.upgrade.when_idle(now, self.rollout.committed)
        return steps

    @property
    def wanted(self) -> int:
        """How many workers must keep serving during any change."""
        return 0 if self.is_stopping else self.rollout.wanted

    @property
    def unready(self) -> str:
        """Why /readyz fails; "" if a worker serves and no stop has begun."""
        if self.is_stopping:
            return "a stop has begun"
        is_served = any(worker.state is State.SERVING for worker in self.workers.values())
        return "" if is_served else "no worker is ready"

    def desired(self) -> list[tuple[Plan, int]]:
        """Return how many workers of which plan should run."""
        return [] if self.is_stopping else self.rollout.desired()

    def live(self) -> list[WorkerRecord]:
        return [worker for worker in self.workers.values() if worker.is_live]

    def fresh(self, plan: Plan) -> list[WorkerRecord]:
        """Return the live workers of this plan's generation that are not retiring."""
        return [worker for worker in self.workers.values() if worker.is_fresh(plan)]

    def missing(self) -> int:
        """Return how many workers are wanted and do not run."""
        return sum(max(0, number - len(self.fresh(plan))) for plan, number in self.desired())

    def _advance(self, now: float) -> Iterator[Step]:
        """Move the rollout on, as far as the workers allow."""
        live = self.live()
        self.rollout.settle(live, now)
        if committed := self.rollout.commit(live):
            # After a start only the canary runs, and the others are missing; after a reload none is.
            self.pending_starts = [StartReason.INITIAL] * self.missing()
            yield committed
        if not self.is_stopping and (started := self.rollout.start_pending(live)):
            self.backoff = Backoff()  # a reload is how an operator fixes a failing application: start at once
            yield started

    def _spawns(self, now: float) -> Iterator[Step]:
        surge = max((plan.surge for plan, _ in self.desired()), default=0)
        # A worker that drains keeps its slot. If all slots are taken, a start waits until one of them has exited.
        room = min(self.wanted + surge - len(self.live()), SLOTS - len(self.workers))
        for plan, number in self.desired():
            for _ in range(min(number - len(self.fresh(plan)), room)):
                # The back-off does not delay a target: if the target fails, it is rolled back and not tried again.
                if plan is not self.rollout.target and not self.backoff.allows_start(self.fresh(plan), now):
                    break
                room -= 1
                yield self._spawn(plan, now)

    def _spawn(self, plan: Plan, now: float) -> Spawn:
        slot = next(number for number in count() if number not in self.workers)
        reason = self._start_reason(plan)
        self.workers[slot] = WorkerRecord.forked(slot, plan, now, reason)
        self.starts[reason] += 1
        return Spawn(slot, plan.generation, reason)

    def _start_reason(self, plan: Plan) -> StartReason:
        if plan is self.rollout.target:
            return StartReason.RELOAD if self.rollout.committed else StartReason.INITIAL
        return self.pending_starts.pop(0) if self.pending_starts else StartReason.SCALE

    def _drains(self, now: float) -> Iterator[Step]:
        live = self.live()
        serving = sum(worker.state is State.SERVING for worker in live)
        spare = min(serving - self.wanted, self.rollout.max_drains(live))
        for worker in self._unwanted():
            if worker.state is State.SERVING:
                if spare <= 0:
                    continue
                spare -= 1
            is_booting = worker.state is State.BOOTING
            worker.drain(now, self._drain_reason(worker))
            yield self._drain_step(worker, is_booting=is_booting)

    def _unwanted(self) -> list[WorkerRecord]:
        """Return the live workers to drain: the stale ones, oldest first; then the surplus, booting ones first."""
        staying: set[int] = set()
        surplus: list[WorkerRecord] = []
        for plan, number in self.desired():
            fresh = sorted(self.fresh(plan), key=lambda worker: (worker.state is not State.SERVING, worker.started_at))
            staying |= {worker.slot for worker in fresh}
            surplus += reversed(fresh[number:])
        stale = [worker for worker in self.live() if worker.slot not in staying]
        return sorted(stale, key=lambda worker: worker.started_at) + surplus

    def _drain_step(self, worker: WorkerRecord, *, is_booting: bool) -> Drain:
        reason = ExitReason.SHUTDOWN if self.is_stopping else worker.exit_reason
        if reason is None:
            raise AssertionError(f"worker {worker.slot} drains in state {worker.state} without a reason")
        return Drain(worker.slot, worker.plan.generation, reason, worker.plan.graceful, is_booting)

    def _drain_reason(self, worker: WorkerRecord) -> ExitReason:
        if self.is_stopping:
            return ExitReason.SHUTDOWN
        if worker.is_retiring:
            return ExitReason.RECYCLE
        current = self.rollout.current
        is_current = current is not None and worker.plan.generation == current.generation
        return ExitReason.SCALE if is_current else ExitReason.RELOAD

    # Failures

    def _escalate(self, worker: WorkerRecord, now: float) -> Iterator[Step]:
        was_live = worker.is_live
        signum, reason = worker.escalate(now)
        yield Signal(worker.slot, worker.plan.generation, signum, reason)
        if was_live:
            yield from self._failure(worker, f"worker {worker.slot} was {reason}", now)

    def _failure(self, worker: WorkerRecord, reason: str, now: float) -> list[Step]:
        """Roll back the plan of the worker if it is the target; otherwise delay the next starts."""
        if self.is_stopping:
            return []
        if rolled_back := self.rollout.on_failure(worker.plan, reason):
            if self.rollout.committed is None:
                self.is_stopping, self.exit_code = True, ExitCode.NO_WORKER
            else:  # start the workers of the old generation again that the roll has drained
                self.pending_starts = [StartReason.RELOAD] * self.missing()
            return [rolled_back]
        self.pending_starts.append(StartReason.CRASH)
        if self.backoff.failed(now):
            return [BackingOff(self.backoff.until - now, self.backoff.failures)]
        return []
