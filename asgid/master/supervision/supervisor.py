"""All workers: facts go in, `reconcile` compares what runs with what is wanted, and steps come out.

Boot, crash, scale, recycle, reload, roll-back and stop are one comparison. The roll-out says how many workers of which
plan there should be; here is decided who comes, who goes, and when.

Five invariants, held by a property test over random facts: draining never takes SERVING below wanted; a spawn never
takes live above wanted + surge, nor a slot that the board has not; a quiet world converges to `wanted` fresh workers of
one generation; a stop empties the house. And: at most two generations live at once.

Every method takes the fact and the time, and returns steps. Nothing here reads a clock, forks, signals or logs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from signal import SIGKILL
from typing import Self

from asgid.board import SLOTS
from asgid.errors import ExitCode
from asgid.master.replace.handover import Standing
from asgid.master.supervision.backoff import Backoff
from asgid.master.supervision.lifecycle import ExitReason, Plan, StartReason, State, Worker
from asgid.master.supervision.rollout import Rollout
from asgid.master.supervision.steps import (
    Drain,
    Dump,
    Left,
    Quit,
    RolledBack,
    Served,
    Signal,
    Spawn,
    Step,
    UpgradeRefused,
    Waiting,
)
from asgid.master.supervision.upgrade import Succession

#: Why a worker is not trusted any more.
GARBLED = "something else than its messages came on its lifeline"


#: So long Python takes to start at most, where one program becomes the other.
EXEC_S = 1.0


class Supervisor:
    """The decisions of the master. `workers` holds every process that was not reaped yet, by slot."""

    def __init__(self) -> None:
        self.workers: dict[int, Worker] = {}
        self.rollout = Rollout()
        self.is_stopping = False
        self.exit_code = ExitCode.OK
        self.backoff = Backoff()
        self.judged = float("-inf")  # the time of the last tick
        self.owed: list[StartReason] = []  # why the next starts for the committed plan come
        self.starts = Counter(dict.fromkeys(StartReason, 0))
        self.exits = Counter(dict.fromkeys(ExitReason, 0))
        self.succession = Succession()

    @classmethod
    def resume(cls, standing: Standing, now: float) -> Self:
        """Return the supervisor of a program that has taken another's place; the same workers live.

        No worker is judged by the time in which one program became the other.
        """
        supervisor = cls()
        supervisor.judged = now
        supervisor.rollout, supervisor.backoff = Rollout(standing.committed), standing.backoff
        supervisor.workers = {worker.slot: worker for worker in standing.workers}
        supervisor.stood_still(now, EXEC_S)
        supervisor.owed = list(standing.owed)
        supervisor.starts.update(standing.starts)
        supervisor.exits.update(standing.exits)
        return supervisor

    def standing(self) -> Standing:
        """Return what the next program needs to know; only called where nothing is under way."""
        committed = self.rollout.committed
        if committed is None or self.rollout.is_under_way:
            raise AssertionError(f"it cannot give way with {self.rollout}")
        workers = tuple(self.workers.values())
        return Standing(committed, workers, self.backoff, tuple(self.owed), dict(self.starts), dict(self.exits))

    # Facts

    def reload(self, plan: Plan, now: float) -> list[Step]:
        """A new configuration is valid and its listeners are bound; the first one starts the server."""
        return [*self.rollout.offer(plan), *self.reconcile(now)]

    def ready(self, slot: int, now: float) -> list[Step]:
        """A worker says that it accepts connections; said twice, or by one that is to leave, it changes nothing."""
        worker = self.workers.get(slot)
        if worker is None or worker.state is not State.BOOTING:
            return []
        worker.serve(now)
        return [Served(slot, worker.plan.generation, now - worker.born), *self.reconcile(now)]

    def failed(self, slot: int, reason: str, now: float) -> list[Step]:
        """A worker cannot boot, and its end follows; or it serves, and has lost what it needs: then it is replaced."""
        worker = self.workers.get(slot)
        if worker is None:
            return []
        worker.failure = reason
        return self._replace(worker, reason, now) if worker.state is State.SERVING else []

    def garbled(self, slot: int, now: float) -> list[Step]:
        """A worker's lifeline carries what no worker sends: no message passes there for certain any more.

        One that boots could never say that it is ready.
        """
        worker, reason = self.workers.get(slot), f"worker {slot} was replaced: {GARBLED}"
        if worker is None or not worker.is_live:
            return []
        if worker.state is State.SERVING:
            return self._replace(worker, reason, now)
        signal = Signal(slot, worker.plan.generation, worker.abort(now, ExitReason.BOOT_FAILED), GARBLED)
        return [signal, *self._failure(worker, reason, now), *self.reconcile(now)]

    def _replace(self, worker: Worker, reason: str, now: float) -> list[Step]:
        """Have another worker in the place of one that failed and still serves, and only then let it go."""
        if worker.leaving:
            return []
        worker.is_retiring, worker.leaving = True, ExitReason.CRASH
        return [*self._failure(worker, reason, now), *self.reconcile(now)]

    def exited(self, slot: int, status: int, now: float) -> list[Step]:
        """A worker was reaped: `status` is its exit code, or minus the signal that ended it."""
        worker = self.workers.pop(slot)
        why = worker.exit_reason(status)
        self.exits[why] += 1
        failure = self._failure(worker, worker.problem(status), now) if worker.leaving is None else []
        # What a signal ended has its stack in the line of its end, for its verdict may have come before that.
        has_verdict = status >= 0 and any(isinstance(step, RolledBack) for step in failure)
        left = Left(slot, worker.plan.generation, why, status, worker.failure, has_verdict)
        return [left, *failure, *self.reconcile(now)]

    def recycle(self, slot: int, now: float) -> list[Step]:
        """A worker has served its time: replace it first, then let it go."""
        if (worker := self.workers.get(slot)) and worker.is_live:
            worker.is_retiring = True
            self.owed.append(StartReason.RECYCLE)
        return self.reconcile(now)

    def leaves(self, slot: int, now: float) -> list[Step]:
        """A worker drains because an operator sent it TERM: that is a wish, so another one starts at once.

        One that has not settled counts as failed when it is gone. An application that sends TERM to itself at its start
        would else be started without a pause, forever.
        """
        worker = self.workers.get(slot)
        if worker is None or not worker.has_settled(now):
            return []
        if self.rollout.committed and worker.is_fresh(self.rollout.committed):
            self.owed.append(StartReason.RECYCLE)
        worker.drain(now, ExitReason.RECYCLE)
        return [_drain(worker, is_booting=False), *self.reconcile(now)]

    def scale(self, change: int, now: float) -> list[Step]:
        """More or fewer workers (at least one, MAX_WORKERS at most), until the next reload."""
        if self.rollout.is_paused:
            return []
        before = self.rollout.wanted
        self.rollout.scale(change)
        self.owed += [StartReason.SCALE] * (self.rollout.wanted - before)
        return self.reconcile(now)

    def pause(self, now: float) -> list[Step]:
        """Let all workers go, and keep the sockets; the next reload brings workers back."""
        if self.rollout.committed is None or self.is_stopping:  # nobody serves yet, or nobody will
            return []
        return [*self.rollout.pause(), *self.reconcile(now)]

    def upgrade(self, now: float) -> list[Step]:
        """Replace the program: the one that is on disk now is tried first."""
        if self.rollout.committed is None or self.is_stopping:
            return [UpgradeRefused("a stop came first" if self.is_stopping else "nobody serves yet")]
        return [*self.succession.ask(), *self.reconcile(now)]

    def tried(self, problem: str, now: float) -> list[Step]:
        """The trial of the new program has ended, with `problem` or well; or the program could not be executed."""
        return [*self.succession.ended(problem), *self.reconcile(now)]

    def stop(self, now: float) -> list[Step]:
        """Let all workers go, and end; from any state."""
        steps = self._begin_to_stop(now)
        for worker in self.workers.values():
            if worker.state is State.DRAINING:  # told already, but with more patience for idle connections
                worker.deadline = min(worker.deadline, now + worker.plan.graceful + worker.plan.kill / 2)
                worker.leaving = ExitReason.SHUTDOWN
                steps.append(_drain(worker, is_booting=False))
        return steps + self.reconcile(now)

    def stop_now(self, now: float) -> list[Step]:
        """End every worker at once."""
        steps = self._begin_to_stop(now)
        for worker in self.workers.values():
            worker.state, worker.leaving = State.KILLED, worker.leaving or ExitReason.SHUTDOWN
            worker.deadline = now + worker.plan.kill
            steps.append(Signal(worker.slot, worker.plan.generation, SIGKILL, "stop at once"))
        return steps + self.reconcile(now)

    def _begin_to_stop(self, now: float) -> list[Step]:
        self.is_stopping = True
        steps: list[Step] = [*self.rollout.abandon()]
        if self.rollout.committed:
            steps += self.succession.stop(now, self.rollout.committed)
        return steps

    def stood_still(self, now: float, late_s: float) -> None:
        """The master itself was not let run until `late_s` after a deadline: nobody is judged by that time."""
        for worker in self.workers.values():
            worker.forgive(now, late_s)

    def tick(self, now: float, beats: Mapping[int, float]) -> list[Step]:
        """Time has passed; `beats` tells by slot when each event loop last turned. Read every message before this."""
        self.judged = now
        steps: list[Step] = []
        for worker in list(self.workers.values()):
            if worker.state is State.SERVING:
                worker.heard(beats.get(worker.slot, worker.beat))
                if worker.falls_silent(now):
                    steps.append(Dump(worker.slot, worker.plan.generation, now - worker.beat))
            if now >= worker.deadline:
                steps += self._overdue(worker, now)
        if self.rollout.committed:
            steps += self.succession.tick(now, self.rollout.committed)
        return steps + self.reconcile(now)

    def next_deadline(self) -> float:
        """Return when `tick` is next worth calling; `inf` is never. What has passed since the last tick is due now."""
        times = [time for worker in self.workers.values() for time in worker.changes(self.judged)]
        times += [self.backoff.until, self.succession.deadline]
        # What is past and still here (a settled worker, a delay that is over) waits for nothing.
        return min((time for time in times if time > self.judged), default=float("inf"))

    # The comparison

    def reconcile(self, now: float) -> list[Step]:
        """Return the steps that close the gap between what runs and what is wanted."""
        steps: list[Step] = []
        # A drain can make room for a spawn, a spawn can complete a roll: compare until nothing is left to say.
        while more := [*self._advance(now), *self._spawns(now), *self._drains(now)]:
            steps += more
        if self.is_stopping and not self.workers and not self.succession.has_process:
            steps.append(Quit(self.exit_code))
        if self.rollout.committed and not (self.rollout.is_under_way or self.is_stopping):
            steps += self.succession.quiet(now, self.rollout.committed)
        return steps

    @property
    def wanted(self) -> int:
        """How many workers must go on serving whatever changes."""
        return 0 if self.is_stopping else self.rollout.wanted

    @property
    def unready(self) -> str:
        """Why nobody should be sent here; "" where at least one worker serves, and no stop has begun."""
        if self.is_stopping:
            return "a stop has begun"
        is_served = any(worker.state is State.SERVING for worker in self.workers.values())
        return "" if is_served else "no worker is ready"

    def desired(self) -> list[tuple[Plan, int]]:
        """Return how many workers of which plan there should be."""
        return [] if self.is_stopping else self.rollout.desired()

    def live(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.is_live]

    def fresh(self, plan: Plan) -> list[Worker]:
        """Return the live workers of this plan's generation that are to stay."""
        return [worker for worker in self.workers.values() if worker.is_fresh(plan)]

    def missing(self) -> int:
        """Return how many workers are wanted and not there."""
        return sum(max(0, number - len(self.fresh(plan))) for plan, number in self.desired())

    def _advance(self, now: float) -> Iterator[Step]:
        """Move the roll-out on, as far as the workers let it."""
        live = self.live()
        self.rollout.settle(live, now)
        if committed := self.rollout.commit(live):
            # At a start only the first is there, and the others follow; at a reload nobody is missing.
            self.owed = [StartReason.INITIAL] * self.missing()
            yield committed
        if not self.is_stopping and (began := self.rollout.begin(live)):
            self.backoff = Backoff()  # a reload is how an operator mends what fails: it starts at once
            yield began

    def _spawns(self, now: float) -> Iterator[Step]:
        surge = max((plan.surge for plan, _ in self.desired()), default=0)
        # Who drains has a slot too: where all are taken, a start waits until one of them is gone.
        room = min(self.wanted + surge - len(self.live()), SLOTS - len(self.workers))
        for plan, number in self.desired():
            for _ in range(min(number - len(self.fresh(plan)), room)):
                # A target is not held back: if it fails, it is rolled back and not tried again.
                if plan is not self.rollout.target and not self.backoff.lets_start(self.fresh(plan), now):
                    break
                room -= 1
                yield self._spawn(plan, now)

    def _spawn(self, plan: Plan, now: float) -> Spawn:
        slot = next(number for number in count() if number not in self.workers)
        why = self._start_reason(plan)
        self.workers[slot] = Worker.forked(slot, plan, now, why)
        self.starts[why] += 1
        return Spawn(slot, plan.generation, why)

    def _start_reason(self, plan: Plan) -> StartReason:
        if plan is self.rollout.target:
            return StartReason.RELOAD if self.rollout.committed else StartReason.INITIAL
        return self.owed.pop(0) if self.owed else StartReason.SCALE

    def _drains(self, now: float) -> Iterator[Step]:
        live = self.live()
        spare = min(sum(worker.state is State.SERVING for worker in live) - self.wanted, self.rollout.may_leave(live))
        for worker in self._leavers():
            if worker.state is State.SERVING:
                if spare <= 0:
                    continue
                spare -= 1
            is_booting = worker.state is State.BOOTING
            worker.drain(now, self._drain_reason(worker))
            yield _drain(worker, is_booting=is_booting)

    def _leavers(self) -> list[Worker]:
        """Return who is to go: stale ones, oldest first; then those beyond the number, first who does not serve yet."""
        staying: set[int] = set()
        surplus: list[Worker] = []
        for plan, number in self.desired():
            fresh = sorted(self.fresh(plan), key=lambda worker: (worker.state is not State.SERVING, worker.born))
            staying |= {worker.slot for worker in fresh}
            surplus += reversed(fresh[number:])
        stale = [worker for worker in self.live() if worker.slot not in staying]
        return sorted(stale, key=lambda worker: worker.born) + surplus

    def _drain_reason(self, worker: Worker) -> ExitReason:
        if self.is_stopping:
            return ExitReason.SHUTDOWN
        if worker.is_retiring:
            return ExitReason.RECYCLE
        current = self.rollout.current
        is_current = current is not None and worker.plan.generation == current.generation
        return ExitReason.SCALE if is_current else ExitReason.RELOAD

    # What goes wrong

    def _overdue(self, worker: Worker, now: float) -> Iterator[Step]:
        was_live = worker.is_live
        signum, why = worker.outlive(now)
        yield Signal(worker.slot, worker.plan.generation, signum, why)
        if was_live:
            yield from self._failure(worker, f"worker {worker.slot} was {why}", now)

    def _failure(self, worker: Worker, reason: str, now: float) -> list[Step]:
        """Roll back what the worker belongs to if that is not committed yet; else take care with the next starts."""
        if self.is_stopping:
            return []
        if rolled_back := self.rollout.failed(worker.plan, reason):
            if self.rollout.committed is None:
                self.is_stopping, self.exit_code = True, ExitCode.NO_WORKER
            else:  # what was swapped already is brought back
                self.owed = [StartReason.RELOAD] * self.missing()
            return [rolled_back]
        self.owed.append(StartReason.CRASH)
        if self.backoff.failed(now):
            return [Waiting(self.backoff.until - now, self.backoff.failures)]
        return []


def _drain(worker: Worker, *, is_booting: bool) -> Drain:
    if worker.leaving is None:
        raise AssertionError(f"worker {worker.slot} drains in state {worker.state} without a reason")
    return Drain(worker.slot, worker.plan.generation, worker.leaving, worker.plan.graceful, is_booting)
