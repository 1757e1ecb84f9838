"""The supervisor under random facts: the invariants of the house hold whatever the workers and the operator do."""

from signal import SIGKILL

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from asgid.errors import ExitCode
from asgid.master.replace.handover import Handover, decode, encode
from asgid.master.status.history import StatusHistory
from asgid.master.supervision.lifecycle import Plan, State, Worker
from asgid.master.supervision.steps import (
    Began,
    Committed,
    Drain,
    Dump,
    EndTrial,
    GiveWay,
    Quit,
    RolledBack,
    Signal,
    Spawn,
    Step,
    Superseded,
    TrySuccessor,
)
from asgid.master.supervision.supervisor import EXEC_S, Supervisor

settings.register_profile("supervisor", max_examples=300, stateful_step_count=60, deadline=None)
settings.load_profile("supervisor")

PICK = st.integers(min_value=0, max_value=1000)
SLOTS = 12


@pytest.fixture(autouse=True)
def _a_small_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that random worlds fill: as many workers as may be wanted fit, but not with the largest surge, nor with all
    who drain.
    """
    monkeypatch.setattr("asgid.master.supervision.supervisor.SLOTS", SLOTS)
    monkeypatch.setattr("asgid.master.supervision.rollout.MAX_WORKERS", 7)


class World(RuleBasedStateMachine):
    """Processes that obey, fail, hang or crash at random; `processes` is what the kernel would know."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.supervisor = Supervisor()
        self.processes: dict[int, int] = {}  # slot -> generation
        self.verdicts: dict[int, type] = {}
        self.newest = 0
        self.in_force = 0  # the generation that had the last verdict "committed"
        self.has_trial = False
        self.is_to_give_way = False
        self.code: ExitCode | None = None
        self.tell(self.plan(2))

    @initialize(serves=st.booleans(), upgrades=st.booleans())
    def begin(self, serves: bool, upgrades: bool) -> None:  # noqa: FBT001 - Hypothesis gives arguments by name
        """Half of the worlds begin where most of a server's life is spent, and some where a new program is tried."""
        while serves and (worker := self.pick(0, State.BOOTING)):
            self.tell(self.supervisor.ready(worker.slot, self.now))
        if upgrades:
            self.usr2()

    # The shell

    def plan(self, wanted: int, surge: int = 1) -> list[Step]:
        self.newest += 1
        plan = Plan(self.newest, wanted, surge, settle=1.0, boot=20.0, heartbeat=10.0, graceful=8.0, kill=2.0)
        return self.supervisor.reload(plan, self.now)

    def tell(self, steps: list[Step]) -> None:
        """Carry the steps out as the loop does, and hold them to what they may be."""
        for step in steps:
            match step:
                case Spawn(slot, generation):
                    assert slot not in self.processes, "a spawn takes no slot that is not free"
                    assert slot < SLOTS, "a spawn takes no slot that the board has not"
                    self.processes[slot] = generation
                case Drain(slot, generation) | Signal(slot, generation) | Dump(slot, generation):
                    assert self.processes.get(slot) == generation, "no step addresses a worker that is not there"
                case Committed(generation) | RolledBack(generation) | Superseded(generation):
                    self.end(generation, step)
                case Began(generation):
                    assert generation not in self.verdicts
                case TrySuccessor():
                    assert not self.has_trial, "one new program is tried at a time"
                    self.has_trial = True
                case EndTrial():
                    assert self.has_trial, "no step addresses a trial that is not there"
                case Quit(code):
                    assert not self.processes, "the end comes when the house is empty"
                    assert not self.has_trial
                    self.code = code
        self.is_to_give_way = any(isinstance(step, GiveWay) for step in steps)
        self.judge(steps)

    def end(self, generation: int, verdict: Step) -> None:
        assert generation not in self.verdicts, "a transition ends once"
        self.verdicts[generation] = type(verdict)
        if isinstance(verdict, Committed):
            self.in_force = generation

    def judge(self, steps: list[Step]) -> None:
        supervisor = self.supervisor
        live = supervisor.live()
        serving = [worker for worker in live if worker.state is State.SERVING]
        if any(isinstance(step, Drain) and not step.is_booting for step in steps):
            assert len(serving) >= supervisor.wanted, "draining never takes SERVING below wanted"
        if any(isinstance(step, Spawn) for step in steps):
            surge = max(plan.surge for plan, _ in supervisor.desired())
            assert len(live) <= supervisor.wanted + surge, "a spawn never takes live above wanted + surge"
        assert len({worker.plan.generation for worker in live}) <= 2, "at most two generations live at once"

    def pick(self, number: int, *states: State) -> Worker | None:
        found = [worker for worker in self.supervisor.workers.values() if worker.state in states]
        return found[number % len(found)] if found else None

    def gone(self, worker: Worker, status: int) -> None:
        del self.processes[worker.slot]
        self.tell(self.supervisor.exited(worker.slot, status, self.now))

    def is_over(self) -> bool:
        return self.code is not None

    # What may happen

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK)
    def a_worker_gets_ready(self, number: int) -> None:
        if worker := self.pick(number, State.BOOTING):
            self.tell(self.supervisor.ready(worker.slot, self.now))

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK)
    def a_worker_says_ready_late_or_twice(self, number: int) -> None:
        if worker := self.pick(number, State.SERVING, State.DRAINING, State.ABORTED, State.KILLED):
            state = worker.state
            self.tell(self.supervisor.ready(worker.slot, self.now))
            assert worker.state is state

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK, status=st.sampled_from([0, 1, 3, -9, -11]))
    def a_worker_crashes(self, number: int, status: int) -> None:
        if worker := self.pick(number, *State):
            self.gone(worker, status)

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK)
    def a_worker_writes_garbage(self, number: int) -> None:
        if worker := self.pick(number, *State):
            self.tell(self.supervisor.garbled(worker.slot, self.now))

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK)
    def a_worker_leaves_as_told(self, number: int) -> None:
        if worker := self.pick(number, State.DRAINING, State.ABORTED, State.KILLED):
            self.gone(worker, 0)

    @rule(seconds=st.sampled_from([0.05, 0.4, 1.1, 3.0, 9.0, 21.0, 70.0]), beating=st.booleans())
    def time_passes(self, seconds: float, beating: bool) -> None:  # noqa: FBT001 - Hypothesis gives arguments by name
        self.now += seconds
        if self.is_over():
            return
        beats = dict.fromkeys(self.processes, self.now) if beating else {}
        self.tell(self.supervisor.tick(self.now, beats))

    @precondition(lambda self: not self.is_over() and not self.supervisor.is_stopping)
    @rule(wanted=st.integers(1, 5), surge=st.integers(1, 9))
    def hup(self, wanted: int, surge: int) -> None:
        self.tell(self.plan(wanted, surge))

    @precondition(lambda self: not self.is_over())
    @rule(change=st.sampled_from([-1, 1]))
    def ttin_or_ttou(self, change: int) -> None:
        self.tell(self.supervisor.scale(change, self.now))

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK)
    def a_worker_is_recycled(self, number: int) -> None:
        if worker := self.pick(number, State.SERVING):
            self.tell(self.supervisor.recycle(worker.slot, self.now))

    @precondition(lambda self: not self.is_over())
    @rule(number=PICK)
    def an_operator_sends_term_to_a_worker(self, number: int) -> None:
        if (worker := self.pick(number, State.SERVING)) and (steps := self.supervisor.leaves(worker.slot, self.now)):
            assert isinstance(steps[0], Drain), "it has begun to drain already, whatever that does to the number"
            self.tell(steps[1:])

    @precondition(lambda self: not self.is_over() and not self.supervisor.is_stopping)
    @rule()
    def winch(self) -> None:
        self.tell(self.supervisor.pause(self.now))

    @precondition(lambda self: not self.is_over())
    @rule(impatience=st.integers(0, 9))
    def term(self, impatience: int) -> None:
        """Now and then: a world that ends in its second step shows little."""
        if impatience == 8:
            self.tell(self.supervisor.stop(self.now))
        elif impatience == 9:
            self.tell(self.supervisor.stop_now(self.now))

    @precondition(lambda self: not self.is_over())
    @rule()
    def usr2(self) -> None:
        self.tell(self.supervisor.upgrade(self.now))

    @precondition(lambda self: self.has_trial)
    @rule(problem=st.sampled_from(["", "", "it cannot read the file"]))
    def the_trial_ends(self, problem: str) -> None:
        self.has_trial = False
        self.tell(self.supervisor.tried(problem, self.now))

    @precondition(lambda self: self.is_to_give_way)
    @rule(wanted=st.integers(1, 5), works=st.booleans())
    def the_program_is_replaced(self, wanted: int, works: bool) -> None:  # noqa: FBT001 - as above
        """The same workers live on under a supervisor that has read everything from a handover, and reloads."""
        if not works:
            self.tell(self.supervisor.tried("it cannot be executed", self.now))
            return
        left = Handover(
            "", self.newest, self.supervisor.standing(), (), (), StatusHistory(0.0, 0.0, 0.0), 3, None, None, {}
        )
        before, self.supervisor = self.supervisor, Supervisor.resume(decode(encode(left)).standing, self.now)
        self.is_to_give_way = False
        before.stood_still(self.now, EXEC_S)
        assert self.supervisor.workers == before.workers
        assert (self.supervisor.starts, self.supervisor.exits) == (before.starts, before.exits)
        self.tell(self.plan(wanted))

    @precondition(lambda self: not self.is_over() and not self.supervisor.is_stopping)
    @rule(impatience=st.integers(0, 5))
    def term_and_only_kill_is_heard(self, impatience: int) -> None:
        """Whatever was under way: a stop ends within graceful + kill."""
        if impatience < 5:
            return
        begun, most = self.now, 8.0 + 2.0
        self.tell(self.supervisor.stop(self.now))
        while not self.is_over():
            self.now = self.supervisor.next_deadline()
            assert self.now - begun <= most + 1e-6, "TERM always ends"  # the clock counts in binary fractions
            steps = self.supervisor.tick(self.now, dict.fromkeys(self.processes, self.now))
            self.tell(steps)
            for step in steps:
                if isinstance(step, Signal) and step.signum == SIGKILL:
                    self.gone(self.supervisor.workers[step.slot], -SIGKILL)
                elif isinstance(step, EndTrial) and step.signum == SIGKILL:
                    self.the_trial_ends("")

    # What must hold

    @invariant()
    def what_is_in_force_is_what_was_committed_last(self) -> None:
        """A roll-back leaves exactly the generation before it."""
        committed = self.supervisor.rollout.committed
        assert self.in_force == (committed.generation if committed else 0)

    @invariant()
    def the_supervisor_knows_every_process(self) -> None:
        assert self.processes == {slot: w.plan.generation for slot, w in self.supervisor.workers.items()}

    @invariant()
    def something_is_always_due(self) -> None:
        """No worker is ever without a deadline that the loop will wake for, or has passed already."""
        for worker in self.supervisor.workers.values():
            assert worker.deadline < float("inf")
            if worker.deadline > self.now:
                assert self.supervisor.next_deadline() <= worker.deadline

    def teardown(self) -> None:
        """When the world becomes quiet it converges: to what is wanted, to one generation, or to nothing."""
        for _ in range(400):
            if self.is_over():
                break
            if self.has_trial:
                self.the_trial_ends("")
            if self.is_to_give_way:
                self.tell(self.supervisor.tried("the world has become quiet", self.now))
            for slot, worker in list(self.supervisor.workers.items()):
                if worker.state is State.BOOTING:
                    self.tell(self.supervisor.ready(slot, self.now))
                elif worker.state is not State.SERVING and self.supervisor.workers.get(slot) is worker:
                    self.gone(worker, 0)
            self.now += 0.5
            self.tell(self.supervisor.tick(self.now, dict.fromkeys(self.processes, self.now)))
        supervisor = self.supervisor
        if supervisor.is_stopping:
            assert not self.processes
            assert self.code is not None
            return
        committed = supervisor.rollout.committed
        assert committed is not None
        assert not supervisor.rollout.is_under_way
        assert not self.has_trial
        states = [(worker.plan.generation, worker.state) for worker in supervisor.workers.values()]
        assert states == [(committed.generation, State.SERVING)] * committed.wanted
        # Each generation that was asked for has had its verdict.
        assert set(self.verdicts) == set(range(1, self.newest + 1))
        assert self.verdicts[committed.generation] is Committed


World.TestCase.settings = settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
TestWorld = World.TestCase


def test_a_stop_empties_the_house_within_graceful_and_kill_however_deaf_the_workers_are():
    """TERM always ends: workers that ignore every signal but KILL are gone within graceful + kill."""
    supervisor, now = Supervisor(), 0.0
    plan = Plan(1, 3, graceful=8.0, kill=2.0)
    supervisor.reload(plan, now)
    while supervisor.missing() or len(supervisor.live()) < 3:
        for slot in list(supervisor.workers):
            supervisor.ready(slot, now)
    begun = now
    supervisor.stop(now)
    steps: list[Step] = []
    while not any(isinstance(step, Quit) for step in steps):
        now = supervisor.next_deadline()
        steps = supervisor.tick(now, {})
        for step in list(steps):
            if isinstance(step, Signal) and step.signum == 9:
                steps += supervisor.exited(step.slot, -9, now)

    assert now - begun <= plan.graceful + plan.kill
