"""The supervisor under random facts: its invariants hold whatever the workers and the operator do."""

from collections.abc import Callable, Sequence
from math import inf
from signal import SIGKILL
from typing import TypeVar

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from asgid.errors import ExitCode
from asgid.master.replace.handover import Handover, decode, encode
from asgid.master.status.history import StatusHistory
from asgid.master.supervision.lifecycle import State, WorkerRecord
from asgid.master.supervision.steps import (
    Committed,
    Drain,
    Dump,
    ExecNewProgram,
    Quit,
    ReloadStarted,
    RolledBack,
    Signal,
    SignalTrial,
    Spawn,
    StartTrial,
    Step,
    Superseded,
)
from asgid.master.supervision.supervisor import MAX_EXEC_S, Supervisor
from tests.settings import plan_of

#: Steps of a world; each takes three bytes: the event, a worker or another choice, and one more.
STEPS, STEP_BYTES = 60, 3
SLOTS = 12
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _a_small_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that random worlds fill: MAX_WORKERS fit, but not with the largest surge, nor with every draining worker."""
    monkeypatch.setattr("asgid.master.supervision.supervisor.SLOTS", SLOTS)
    monkeypatch.setattr("asgid.master.supervision.rollout.MAX_WORKERS", 7)


class World:
    """Workers that drain, fail, hang or crash at random. `processes` holds the generation of each process, by slot."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.supervisor = Supervisor()
        self.processes: dict[int, int] = {}
        self.results: dict[int, type] = {}
        self.newest = 0
        self.last_committed = 0  # the generation that was committed last
        self.has_trial = False
        self.is_exec_requested = False
        self.code: ExitCode | None = None
        self.carry_out(self.plan(2))

    def begin(self, *, serves: int, upgrades: int) -> None:
        """Half of the worlds begin with serving workers, as a server spends most of its life, and some with a trial."""
        while serves and (worker := self.pick(0, State.BOOTING)):
            self.carry_out(self.supervisor.ready(worker.slot, self.now))
        if upgrades:
            self.usr2(0, 0)

    # The shell

    def plan(self, wanted: int, surge: int = 1) -> list[Step]:
        self.newest += 1
        plan = plan_of(self.newest, wanted, surge=surge, settle=1.0, boot=20.0, heartbeat=10.0, graceful=8.0, kill=2.0)
        return self.supervisor.reload(plan, self.now)

    def carry_out(self, steps: list[Step]) -> None:
        """Carry the steps out as the loop does, and check each of them."""
        for step in steps:
            match step:
                case Spawn(slot, generation):
                    assert slot not in self.processes, "a spawn takes a free slot"
                    assert slot < SLOTS, "a spawn takes a slot of the board"
                    self.processes[slot] = generation
                case Drain(slot, generation) | Signal(slot, generation) | Dump(slot, generation):
                    assert self.processes.get(slot) == generation, "each step is for a worker that runs"
                case Committed(generation) | RolledBack(generation) | Superseded(generation):
                    self.report(generation, step)
                case ReloadStarted(generation):
                    assert generation not in self.results
                case StartTrial():
                    assert not self.has_trial, "one trial runs at a time"
                    self.has_trial = True
                case SignalTrial():
                    assert self.has_trial, "each signal is for a trial that runs"
                case Quit(code):
                    assert not self.processes, "the master quits after its last worker"
                    assert not self.has_trial
                    self.code = code
        self.is_exec_requested = any(isinstance(step, ExecNewProgram) for step in steps)
        self.check(steps)

    def report(self, generation: int, result: Step) -> None:
        assert generation not in self.results, "a reload ends once"
        self.results[generation] = type(result)
        if isinstance(result, Committed):
            self.last_committed = generation

    def check(self, steps: list[Step]) -> None:
        supervisor = self.supervisor
        live = supervisor.live()
        serving = [worker for worker in live if worker.state is State.SERVING]
        if any(isinstance(step, Drain) and not step.is_booting for step in steps):
            assert len(serving) >= supervisor.wanted, "draining never takes SERVING below wanted"
        if any(isinstance(step, Spawn) for step in steps):
            surge = max(plan.surge for plan, _ in supervisor.desired())
            assert len(live) <= supervisor.wanted + surge, "a spawn never takes live above wanted + surge"
        assert len({worker.plan.generation for worker in live}) <= 2, "at most two generations live at once"

    def pick(self, number: int, *states: State) -> WorkerRecord | None:
        found = [worker for worker in self.supervisor.workers.values() if worker.state in states]
        return found[number % len(found)] if found else None

    def exit(self, worker: WorkerRecord, status: int) -> None:
        del self.processes[worker.slot]
        self.carry_out(self.supervisor.exited(worker.slot, status, self.now))

    def is_over(self) -> bool:
        return self.code is not None

    # What may happen: each method takes two bytes

    def time_passes(self, seconds: int, beating: int) -> None:
        self.now += choose(seconds, (0.05, 0.4, 1.1, 3.0, 9.0, 21.0, 70.0))
        heartbeats = dict.fromkeys(self.processes, self.now) if beating % 2 else {}
        self.carry_out(self.supervisor.tick(self.now, heartbeats))

    def a_worker_gets_ready(self, number: int, _: int) -> None:
        if worker := self.pick(number, State.BOOTING):
            self.carry_out(self.supervisor.ready(worker.slot, self.now))

    def a_worker_sends_ready_late_or_twice(self, number: int, _: int) -> None:
        if worker := self.pick(number, State.SERVING, State.DRAINING, State.ABORTED, State.KILLED):
            state = worker.state
            self.carry_out(self.supervisor.ready(worker.slot, self.now))
            assert worker.state is state

    def a_worker_crashes(self, number: int, status: int) -> None:
        if worker := self.pick(number, *State):
            self.exit(worker, choose(status, (0, 1, 3, -9, -11)))

    def a_worker_sends_an_invalid_message(self, number: int, _: int) -> None:
        if worker := self.pick(number, *State):
            self.carry_out(self.supervisor.invalid_message(worker.slot, self.now))

    def a_worker_exits_as_told(self, number: int, _: int) -> None:
        if worker := self.pick(number, State.DRAINING, State.ABORTED, State.KILLED):
            self.exit(worker, 0)

    def hup(self, wanted: int, surge: int) -> None:
        self.carry_out(self.plan(wanted % 5 + 1, surge % 9 + 1))

    def ttin_or_ttou(self, change: int, _: int) -> None:
        self.carry_out(self.supervisor.scale(choose(change, (-1, 1)), self.now))

    def a_worker_is_recycled(self, number: int, _: int) -> None:
        if worker := self.pick(number, State.SERVING):
            self.carry_out(self.supervisor.recycle(worker.slot, self.now))

    def an_operator_sends_term_to_a_worker(self, number: int, _: int) -> None:
        if (worker := self.pick(number, State.SERVING)) and (steps := self.supervisor.leaving(worker.slot, self.now)):
            assert isinstance(steps[0], Drain), "it drains already, whatever the number of serving workers is"
            self.carry_out(steps[1:])

    def winch(self, _: int, __: int) -> None:
        self.carry_out(self.supervisor.pause(self.now))

    def term(self, impatience: int, _: int) -> None:
        """Rarely, because a world that ends in its second step tests little."""
        if impatience % 10 == 8:
            self.carry_out(self.supervisor.stop(self.now))
        elif impatience % 10 == 9:
            self.carry_out(self.supervisor.stop_now(self.now))

    def usr2(self, _: int, __: int) -> None:
        self.carry_out(self.supervisor.start_upgrade(self.now))

    def the_trial_ends(self, problem: int, _: int) -> None:
        self.has_trial = False
        self.carry_out(self.supervisor.trial_ended(choose(problem, ("", "", "it cannot read the file")), self.now))

    def the_program_is_replaced(self, wanted: int, works: int) -> None:
        """The same workers run on under a supervisor that was read from a handover; a reload follows."""
        if not works % 2:
            self.carry_out(self.supervisor.trial_ended("exec failed", self.now))
            return
        left = Handover(
            "", self.newest, self.supervisor.state(), (), (), StatusHistory(0.0, 0.0, 0.0), 3, None, None, {}
        )
        before, self.supervisor = self.supervisor, Supervisor.resume(decode(encode(left)).supervisor, self.now)
        self.is_exec_requested = False
        before.on_stall(self.now, MAX_EXEC_S)
        assert self.supervisor.workers == before.workers
        assert (self.supervisor.starts, self.supervisor.exits) == (before.starts, before.exits)
        self.carry_out(self.plan(wanted % 5 + 1))

    def term_and_workers_ignore_all_but_kill(self, impatience: int, _: int) -> None:
        """A stop ends within graceful + kill, also during a reload or an upgrade."""
        if impatience % 6 < 5:
            return
        started, limit = self.now, 8.0 + 2.0
        self.carry_out(self.supervisor.stop(self.now))
        while not self.is_over():
            self.now = self.supervisor.next_deadline()
            assert self.now - started <= limit + 1e-6, "a stop ends in time"  # a sum of floats is inexact
            steps = self.supervisor.tick(self.now, dict.fromkeys(self.processes, self.now))
            self.carry_out(steps)
            for step in steps:
                if isinstance(step, Signal) and step.signum == SIGKILL:
                    self.exit(self.supervisor.workers[step.slot], -SIGKILL)
                elif isinstance(step, SignalTrial) and step.signum == SIGKILL:
                    self.the_trial_ends(0, 0)

    def events(self) -> list[Callable[[int, int], None]]:
        """Return the methods for all that may happen next."""
        found = [self.time_passes, self.a_worker_gets_ready, self.a_worker_sends_ready_late_or_twice]
        found += [self.a_worker_crashes, self.a_worker_sends_an_invalid_message, self.a_worker_exits_as_told]
        found += [self.ttin_or_ttou, self.a_worker_is_recycled, self.an_operator_sends_term_to_a_worker]
        found += [self.term, self.usr2]
        if not self.supervisor.is_stopping:
            found += [self.hup, self.winch, self.term_and_workers_ignore_all_but_kill]
        if self.has_trial:
            found.append(self.the_trial_ends)
        if self.is_exec_requested:
            found.append(self.the_program_is_replaced)
        return found

    # Invariants

    def check_invariants(self) -> None:
        """Check the records; each worker has a deadline that the loop wakes for, or that has passed already."""
        committed = self.supervisor.rollout.committed
        assert self.last_committed == (committed.generation if committed else 0), "a roll-back leaves the one before"
        workers = self.supervisor.workers
        assert self.processes == {slot: worker.plan.generation for slot, worker in workers.items()}
        deadlines = [worker.deadline for worker in workers.values() if worker.deadline > self.now]
        if deadlines:
            assert max(deadlines) < inf
            assert self.supervisor.next_deadline() <= min(deadlines)

    def converge(self) -> None:
        """Without new facts the workers converge: to the number wanted of one generation, or to none."""
        for _ in range(400):
            if self.is_over():
                break
            if self.has_trial:
                self.the_trial_ends(0, 0)
            if self.is_exec_requested:
                self.carry_out(self.supervisor.trial_ended("the test ends", self.now))
            for slot, worker in list(self.supervisor.workers.items()):
                if worker.state is State.BOOTING:
                    self.carry_out(self.supervisor.ready(slot, self.now))
                elif worker.state is not State.SERVING and self.supervisor.workers.get(slot) is worker:
                    self.exit(worker, 0)
            self.now += 0.5
            self.carry_out(self.supervisor.tick(self.now, dict.fromkeys(self.processes, self.now)))
        supervisor = self.supervisor
        if supervisor.is_stopping:
            assert not self.processes
            assert self.code is not None
            return
        committed = supervisor.rollout.committed
        assert committed is not None
        assert not supervisor.rollout.is_in_progress
        assert not self.has_trial
        states = [(worker.plan.generation, worker.state) for worker in supervisor.workers.values()]
        assert states == [(committed.generation, State.SERVING)] * committed.wanted
        # Each generation has had its result.
        assert set(self.results) == set(range(1, self.newest + 1))
        assert self.results[committed.generation] is Committed


def choose(number: int, choices: Sequence[T]) -> T:
    return choices[number % len(choices)]


@settings(max_examples=400)
@given(st.binary(min_size=STEPS * STEP_BYTES, max_size=STEPS * STEP_BYTES))
def test_the_invariants_hold_whatever_workers_and_operators_do(chances):
    """A failure prints its events. One draw for all of them takes a fifth of the time of a rule each."""
    world = World()
    world.begin(serves=chances[-1] % 2, upgrades=chances[-2] % 2)
    for at in range(0, len(chances), STEP_BYTES):
        event, number, other = chances[at : at + STEP_BYTES]
        happens = choose(event, world.events())
        note(f"{happens.__name__}({number}, {other})")
        happens(number, other)
        world.check_invariants()
        if world.is_over():
            break
    world.converge()


def test_a_stop_ends_within_graceful_and_kill_even_if_workers_ignore_every_signal():
    """Except KILL."""
    supervisor, now = Supervisor(), 0.0
    plan = plan_of(1, 3, graceful=8.0, kill=2.0)
    supervisor.reload(plan, now)
    while supervisor.missing() or len(supervisor.live()) < 3:
        for slot in list(supervisor.workers):
            supervisor.ready(slot, now)
    started = now
    supervisor.stop(now)
    steps: list[Step] = []
    while not any(isinstance(step, Quit) for step in steps):
        now = supervisor.next_deadline()
        steps = supervisor.tick(now, {})
        for step in list(steps):
            if isinstance(step, Signal) and step.signum == 9:
                steps += supervisor.exited(step.slot, -9, now)

    assert now - started <= plan.graceful + plan.kill
