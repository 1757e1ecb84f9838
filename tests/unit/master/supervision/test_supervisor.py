"""The supervisor, told as stories: facts at their times, and exactly the steps that answer them."""

from dataclasses import replace
from math import inf, nextafter
from signal import SIGABRT, SIGKILL

import pytest

from asgid.board import MAX_WORKERS, SLOTS
from asgid.errors import ExitCode
from asgid.master.supervision.lifecycle import ExitReason, Plan, StartReason, State
from asgid.master.supervision.steps import (
    Began,
    Committed,
    Drain,
    Dump,
    Left,
    Quit,
    RolledBack,
    Served,
    Signal,
    Spawn,
    Step,
    Superseded,
    Waiting,
)
from asgid.master.supervision.supervisor import Supervisor

INITIAL, RELOAD, CRASH = StartReason.INITIAL, StartReason.RELOAD, StartReason.CRASH


def plan(generation: int, wanted: int = 2, *, surge: int = 1, settle: float = 1.0, blocked: float = inf) -> Plan:
    """Return a plan with boot 60, heartbeat 30, graceful 30 and kill 5 seconds."""
    return Plan(generation, wanted, surge, settle, blocked=blocked)


def serving(first: Plan) -> Supervisor:
    """Return a supervisor whose workers of `first`, in the slots from 0 on, all got ready at 0 s."""
    supervisor = Supervisor()
    supervisor.reload(first, 0.0)
    for slot in range(first.wanted):
        supervisor.ready(slot, 0.0)
    assert states(supervisor) == dict.fromkeys(range(first.wanted), (first.generation, State.SERVING))
    return supervisor


def states(supervisor: Supervisor) -> dict[int, tuple[int, State]]:
    return {slot: (worker.plan.generation, worker.state) for slot, worker in sorted(supervisor.workers.items())}


def drain(slot: int, generation: int, why: ExitReason, *, is_booting: bool = False) -> Drain:
    return Drain(slot, generation, why, 30.0, is_booting)


def waiting(now: float) -> Waiting:
    """Return the first delay, a tenth of a second, as the difference of two times that are not exact in binary."""
    return Waiting(now + 0.1 - now, 1)


def later(time: float) -> float:
    return nextafter(time, inf)


def earlier(time: float) -> float:
    return nextafter(time, -inf)


# A program in another one's place


def test_no_worker_is_judged_by_the_time_in_which_programs_change():
    """Nothing is due at once, whatever passed meanwhile or long ago: the new program logs no `stood still`."""
    supervisor = serving(plan(1, blocked=2.0))
    supervisor.tick(20.0, {0: 20.0, 1: 20.0})
    supervisor.recycle(0, 20.0)
    successor = Supervisor.resume(supervisor.standing(), 90.0)

    assert successor.next_deadline() > 90.0
    assert successor.tick(90.1, {0: 20.0, 1: 20.0}) == []


# TERM to a worker, from an operator


def test_a_worker_that_is_sent_term_is_replaced_at_once_and_no_failure():
    """It drains by itself; another one starts beside it, and its end delays nothing."""
    supervisor = serving(plan(1))
    supervisor.tick(5.0, {0: 5.0, 1: 5.0})

    assert supervisor.leaves(0, 5.0) == [drain(0, 1, ExitReason.RECYCLE), Spawn(2, 1, StartReason.RECYCLE)]
    assert supervisor.leaves(0, 5.1) == []
    assert supervisor.exited(0, 0, 6.0) == [Left(0, 1, ExitReason.RECYCLE, 0, "")]
    assert supervisor.backoff.failures == 0


def test_a_worker_that_sends_itself_term_as_soon_as_it_serves_fails():
    """It has not settled: an application that does so at its start is started ever more slowly."""
    supervisor = serving(plan(1))

    assert supervisor.leaves(0, earlier(1.0)) == []
    assert [Left, Waiting] == [type(step) for step in supervisor.exited(0, 0, 1.0)]


def test_no_stop_is_changed_by_a_worker_that_was_sent_term_too():
    """TERM to the whole process group: the master has begun the stop, and the worker says that it leaves."""
    supervisor = serving(plan(1))
    supervisor.stop(5.0)

    assert supervisor.leaves(0, 5.0) == []
    assert supervisor.workers[0].leaving is ExitReason.SHUTDOWN


# The start


def test_the_first_worker_is_tried_alone_and_the_others_follow_when_it_serves():
    """A start is a reload from nothing: one canary, which need not settle, for there is nothing to protect."""
    supervisor = Supervisor()

    assert supervisor.reload(plan(1, 3), 0.0) == [Began(1), Spawn(0, 1, INITIAL)]
    assert supervisor.tick(5.0, {}) == []
    assert supervisor.ready(0, 5.5) == [Served(0, 1, 5.5), Committed(1), Spawn(1, 1, INITIAL), Spawn(2, 1, INITIAL)]
    assert supervisor.ready(2, 6.0) == [Served(2, 1, 0.5)]
    assert supervisor.ready(1, 6.5) == [Served(1, 1, 1.0)]
    assert supervisor.tick(8.0, {0: 8.0, 1: 8.0, 2: 8.0}) == []


def test_a_start_whose_first_worker_dies_is_the_end():
    """Where no worker ever became ready the exit code says so."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    steps = supervisor.exited(0, 1, 0.5)

    assert steps == [
        Left(0, 1, ExitReason.BOOT_FAILED, 1, "", has_verdict=True),
        RolledBack(1, "worker 0 exited with code 1 while it booted"),
        Quit(ExitCode.NO_WORKER),
    ]


def test_a_worker_that_says_why_it_cannot_boot_is_quoted():
    """The reason of the roll-back is the worker's own, where it gave one."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    assert supervisor.failed(0, "no module named shop", 0.0) == []
    steps = supervisor.exited(0, 3, 0.5)

    assert steps == [
        Left(0, 1, ExitReason.BOOT_FAILED, 3, "no module named shop", has_verdict=True),
        RolledBack(1, "no module named shop"),
        Quit(ExitCode.NO_WORKER),
    ]


def test_a_start_whose_first_worker_never_gets_ready_is_the_end_after_it_has_gone():
    """The boot timeout aborts it; the master waits until it is reaped."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    why = "not ready within timeouts.boot"

    assert supervisor.tick(59.9, {}) == []
    assert supervisor.tick(60.0, {}) == [Signal(0, 1, SIGABRT, why), RolledBack(1, f"worker 0 was {why}")]
    assert supervisor.exited(0, -6, 60.1) == [
        Left(0, 1, ExitReason.BOOT_TIMEOUT, -6, ""),
        Quit(ExitCode.NO_WORKER),
    ]


# Crashes


@pytest.mark.parametrize(
    ("status", "why"), [(-11, ExitReason.SIGNAL), (1, ExitReason.CRASH), (0, ExitReason.CRASH), (70, ExitReason.CRASH)]
)
def test_a_worker_that_goes_untold_is_replaced_after_a_moment(status, why):
    """Whatever its exit code, 0 too: nobody told it to leave."""
    supervisor = serving(plan(1))

    assert supervisor.exited(1, status, 10.0) == [Left(1, 1, why, status, ""), waiting(10.0)]
    assert supervisor.tick(10.05, {}) == []
    assert supervisor.tick(10.1, {}) == [Spawn(1, 1, CRASH)]
    assert supervisor.starts[CRASH] == 1
    assert supervisor.exits[why] == 1


def test_a_worker_whose_lifeline_is_garbled_is_replaced_before_it_goes():
    """No message passes there for certain any more. It serves until its replacement does, and counts as a failure."""
    supervisor = serving(plan(1))

    assert supervisor.garbled(0, 10.0) == [waiting(10.0)]
    assert supervisor.garbled(0, 10.0) == []
    assert supervisor.tick(10.1, {0: 10.1, 1: 10.1}) == [Spawn(2, 1, CRASH)]
    assert supervisor.ready(2, 10.5) == [Served(2, 1, 10.5 - 10.1), drain(0, 1, ExitReason.CRASH)]
    assert supervisor.exited(0, 0, 11.0) == [Left(0, 1, ExitReason.CRASH, 0, "")]
    assert supervisor.exits[ExitReason.CRASH] == 1
    assert supervisor.tick(12.0, {1: 12.0, 2: 12.0}) == []


def test_a_worker_that_fails_while_it_serves_is_replaced_before_it_goes():
    """Such as one whose application has lost its lifespan: it may still serve some requests, and nothing is dropped."""
    supervisor = serving(plan(1))

    assert supervisor.failed(0, "its lifespan ended", 10.0) == [waiting(10.0)]
    assert supervisor.failed(0, "its lifespan ended", 10.0) == []
    assert supervisor.tick(10.1, {0: 10.1, 1: 10.1}) == [Spawn(2, 1, CRASH)]
    assert supervisor.ready(2, 10.5) == [Served(2, 1, 10.5 - 10.1), drain(0, 1, ExitReason.CRASH)]
    assert supervisor.exited(0, 0, 11.0) == [Left(0, 1, ExitReason.CRASH, 0, "its lifespan ended")]


def test_a_worker_whose_lifeline_is_garbled_while_it_boots_is_aborted():
    """It could not say that it is ready."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    why = "something else than its messages came on its lifeline"

    assert supervisor.garbled(0, 1.0) == [
        Signal(0, 1, SIGABRT, why),
        RolledBack(1, f"worker 0 was replaced: {why}"),
    ]
    assert supervisor.exited(0, -6, 1.5) == [
        Left(0, 1, ExitReason.BOOT_FAILED, -6, ""),
        Quit(ExitCode.NO_WORKER),
    ]


def test_a_canary_whose_lifeline_is_garbled_is_rolled_back():
    """What was committed serves on."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.5)
    why = "worker 2 was replaced: something else than its messages came on its lifeline"

    assert supervisor.garbled(2, 10.6) == [RolledBack(2, why), drain(2, 2, ExitReason.CRASH)]


def test_simultaneous_crashes_are_one_failure():
    """Three workers killed in one instant are one event: one delay, not three."""
    supervisor = serving(plan(1, 3))

    assert supervisor.exited(0, -9, 10.0) == [
        Left(0, 1, ExitReason.SIGNAL, -9, ""),
        waiting(10.0),
    ]
    assert supervisor.exited(1, -9, 10.0) == [Left(1, 1, ExitReason.SIGNAL, -9, "")]
    assert supervisor.exited(2, -9, 10.05) == [Left(2, 1, ExitReason.SIGNAL, -9, "")]
    assert supervisor.backoff.failures == 1


def test_after_a_failure_one_start_is_a_trial_and_the_others_wait_until_it_has_settled():
    """A broken application is not started in every slot at once."""
    supervisor = serving(plan(1, 3))
    for slot in range(3):
        supervisor.exited(slot, -9, 10.0)

    assert supervisor.tick(10.5, {}) == [Spawn(0, 1, CRASH)]
    assert supervisor.tick(11.0, {}) == []
    assert supervisor.ready(0, 11.0) == [Served(0, 1, 0.5)]
    assert supervisor.tick(11.75, {0: 11.75}) == []
    assert supervisor.tick(12.0, {0: 12.0}) == [Spawn(1, 1, CRASH), Spawn(2, 1, CRASH)]
    assert supervisor.starts[CRASH] == 3
    assert supervisor.owed == []


def test_each_trial_that_fails_doubles_the_delay():
    """The delays are said as they are begun."""
    supervisor, now, delays = serving(plan(1, 1)), 10.0, []
    for _ in range(4):
        steps = supervisor.exited(0, 1, now)
        delays += [step.delay_s for step in steps if isinstance(step, Waiting)]
        now = supervisor.next_deadline()

        assert supervisor.tick(now, {}) == [Spawn(0, 1, CRASH)]

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8])


# Reload


def test_a_reload_with_surge_one_replaces_one_worker_after_the_other():
    """Canary, settle, roll the oldest first, commit; never fewer than wanted serve, never more than one above live."""
    supervisor = serving(plan(1))

    assert supervisor.reload(plan(2), 10.0) == [Began(2), Spawn(2, 2, RELOAD)]
    assert supervisor.ready(2, 10.5) == [Served(2, 2, 0.5)]
    assert supervisor.tick(11.25, {}) == []
    assert supervisor.tick(11.5, {}) == [drain(0, 1, ExitReason.RELOAD), Spawn(3, 2, RELOAD)]
    assert supervisor.exited(0, 0, 11.6) == [Left(0, 1, ExitReason.RELOAD, 0, "")]
    assert supervisor.ready(3, 12.0) == [Served(3, 2, 0.5), drain(1, 1, ExitReason.RELOAD), Committed(2)]
    assert supervisor.exited(1, 0, 12.5) == [Left(1, 1, ExitReason.RELOAD, 0, "")]
    assert states(supervisor) == {2: (2, State.SERVING), 3: (2, State.SERVING)}
    assert supervisor.starts[CRASH] == 0


def test_a_reload_with_surge_two_replaces_two_workers_at_a_time():
    """The canary still comes alone; then two above the number may live."""
    supervisor = serving(plan(1, 3, surge=2))

    assert supervisor.reload(plan(2, 3, surge=2), 10.0) == [Began(2), Spawn(3, 2, RELOAD)]
    assert supervisor.ready(3, 10.0) == [Served(3, 2, 0.0)]
    assert supervisor.tick(11.0, {}) == [Spawn(4, 2, RELOAD), drain(0, 1, ExitReason.RELOAD), Spawn(5, 2, RELOAD)]
    assert supervisor.ready(5, 11.5) == [Served(5, 2, 0.5)]
    assert supervisor.ready(4, 12.0) == [
        Served(4, 2, 1.0),
        drain(1, 1, ExitReason.RELOAD),
        drain(2, 1, ExitReason.RELOAD),
        Committed(2),
    ]


def test_with_room_for_all_no_old_worker_goes_before_all_new_ones_serve():
    """So a roll-back has nothing to bring back: the very processes that served go on."""
    supervisor = serving(plan(1, 3, surge=3))
    before = dict(supervisor.workers)
    supervisor.reload(plan(2, 3, surge=3), 10.0)
    supervisor.ready(3, 10.0)

    assert supervisor.tick(11.0, {}) == [Spawn(4, 2, RELOAD), Spawn(5, 2, RELOAD)]
    assert supervisor.ready(4, 11.5) == [Served(4, 2, 0.5)]
    assert supervisor.exited(5, 3, 12.0) == [
        Left(5, 2, ExitReason.BOOT_FAILED, 3, "", has_verdict=True),
        RolledBack(2, "worker 5 exited with code 3 while it booted"),
        drain(3, 2, ExitReason.RELOAD),
        drain(4, 2, ExitReason.RELOAD),
    ]
    assert {slot: supervisor.workers[slot] for slot in before} == before


def test_a_reload_to_fewer_workers_lets_those_go_that_are_too_many():
    """They need not wait for the roll: they make the room that it needs."""
    supervisor = serving(plan(1, 4))
    supervisor.reload(plan(2, 2), 10.0)
    supervisor.ready(4, 10.0)

    assert supervisor.tick(11.0, {}) == [
        drain(0, 1, ExitReason.RELOAD),
        drain(1, 1, ExitReason.RELOAD),
        drain(2, 1, ExitReason.RELOAD),
        Spawn(5, 2, RELOAD),
    ]


def test_without_a_settle_time_the_roll_begins_when_the_canary_serves():
    """Zero seconds are over at once."""
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1, settle=0.0), 10.0)

    assert supervisor.ready(1, 10.5) == [Served(1, 2, 0.5), drain(0, 1, ExitReason.RELOAD), Committed(2)]


def test_a_canary_that_dies_is_the_end_of_the_reload_and_of_nothing_else():
    """The old generation stays exactly as it was, and the next start is not held back."""
    supervisor = serving(plan(1))
    before = dict(supervisor.workers)
    supervisor.reload(plan(2), 10.0)
    assert supervisor.failed(2, "no module named shop", 10.0) == []

    assert supervisor.exited(2, 3, 10.5) == [
        Left(2, 2, ExitReason.BOOT_FAILED, 3, "no module named shop", has_verdict=True),
        RolledBack(2, "no module named shop"),
    ]
    assert supervisor.tick(20.0, {0: 20.0, 1: 20.0}) == []
    assert supervisor.workers == before
    assert supervisor.rollout.target is None
    assert supervisor.reload(plan(3), 30.0) == [Began(3), Spawn(2, 3, RELOAD)]


def test_a_canary_that_never_gets_ready_is_aborted_and_the_old_generation_keeps_serving():
    """Its boot timeout is its own plan's."""
    supervisor = serving(plan(1))
    supervisor.reload(Plan(2, 2, boot=5.0, blocked=inf), 10.0)
    why = "not ready within timeouts.boot"

    assert supervisor.tick(14.5, {}) == []
    assert supervisor.tick(15.0, {}) == [Signal(2, 2, SIGABRT, why), RolledBack(2, f"worker 2 was {why}")]
    assert supervisor.exited(2, -6, 15.5) == [Left(2, 2, ExitReason.BOOT_TIMEOUT, -6, "")]
    assert states(supervisor) == {0: (1, State.SERVING), 1: (1, State.SERVING)}


def test_a_canary_that_dies_before_it_has_settled_is_rolled_back():
    """That it said ready is not enough: it must stay well for the settle time."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.5)

    assert supervisor.exited(2, -11, 11.25) == [
        Left(2, 2, ExitReason.SIGNAL, -11, ""),
        RolledBack(2, "worker 2 was ended by signal 11 while it served"),
    ]
    assert supervisor.tick(12.0, {}) == []
    assert states(supervisor) == {0: (1, State.SERVING), 1: (1, State.SERVING)}


def test_a_worker_that_dies_during_the_roll_brings_the_old_generation_back():
    """What the roll had drained already is started again under the old plan; what is new leaves when that serves."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.0)
    supervisor.tick(11.0, {})
    assert states(supervisor) == {
        0: (1, State.DRAINING),
        1: (1, State.SERVING),
        2: (2, State.SERVING),
        3: (2, State.BOOTING),
    }

    steps = supervisor.exited(3, 1, 11.5)

    assert steps[:2] == [
        Left(3, 2, ExitReason.BOOT_FAILED, 1, "", has_verdict=True),
        RolledBack(2, "worker 3 exited with code 1 while it booted"),
    ]
    assert [type(step) for step in steps[2:]] == [Spawn]
    assert supervisor.ready(3, 12.0) == [Served(3, 1, 0.5), drain(2, 2, ExitReason.RELOAD)]


def test_an_old_worker_that_crashes_during_the_canary_phase_is_replaced_from_the_old_plan():
    """Nobody knows yet whether the new generation is any good; it is not rolled back for what the old one did."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)

    assert supervisor.exited(0, -9, 10.25) == [Left(0, 1, ExitReason.SIGNAL, -9, ""), waiting(10.25)]
    assert supervisor.tick(10.5, {}) == [Spawn(0, 1, CRASH)]
    assert supervisor.ready(2, 10.75) == [Served(2, 2, 0.75)]
    assert supervisor.ready(0, 11.0) == [Served(0, 1, 0.5)]
    assert supervisor.rollout.target == plan(2)


def test_a_reload_during_the_canary_phase_begins_anew_at_once():
    """Only a canary runs for the superseded generation; it is let go before it serves."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)

    assert supervisor.reload(plan(3), 10.5) == [
        Superseded(2),
        drain(2, 2, ExitReason.RELOAD, is_booting=True),
        Began(3),
        Spawn(3, 3, RELOAD),
    ]
    assert supervisor.exited(2, -15, 10.6) == [Left(2, 2, ExitReason.RELOAD, -15, "")]
    assert supervisor.rollout.target == plan(3), "the end of a superseded canary says nothing about its successor"


def test_a_reload_during_the_roll_waits_for_the_commit_and_the_newest_wins():
    """Part of the old generation is gone already, and a third may not start beside two."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.0)
    supervisor.tick(11.0, {})
    supervisor.exited(0, 0, 11.1)

    assert supervisor.reload(plan(3), 11.2) == []
    assert supervisor.reload(plan(4), 11.3) == [Superseded(3)]
    assert supervisor.ready(3, 12.0) == [
        Served(3, 2, 1.0),
        drain(1, 1, ExitReason.RELOAD),
        Committed(2),
        Began(4),
        Spawn(0, 4, RELOAD),
    ]


def test_a_reload_that_waits_begins_after_a_roll_back_too():
    """The roll-back leaves two generations; the next begins when the failed one has left."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.0)
    supervisor.tick(11.0, {})
    supervisor.reload(plan(3), 11.2)
    supervisor.exited(3, 1, 11.5)

    assert supervisor.rollout.target is None
    assert supervisor.rollout.pending == plan(3)
    assert supervisor.ready(3, 12.0) == [
        Served(3, 1, 0.5),
        drain(2, 2, ExitReason.RELOAD),
        Began(3),
        Spawn(4, 3, RELOAD),
    ]


def test_a_reload_to_more_workers_grows_before_it_lets_anybody_go():
    """After the canary has settled the new number counts."""
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 3), 10.0)
    supervisor.ready(1, 10.0)

    assert supervisor.tick(11.0, {}) == [Spawn(2, 2, RELOAD), Spawn(3, 2, RELOAD)]
    assert supervisor.ready(2, 11.5) == [Served(2, 2, 0.5)]
    assert supervisor.ready(3, 12.0) == [Served(3, 2, 1.0), drain(0, 1, ExitReason.RELOAD), Committed(2)]


def test_a_reload_to_fewer_workers_ends_with_one_step():
    """The canary is all that is wanted: the whole old generation may go."""
    supervisor = serving(plan(1, 3))

    assert supervisor.reload(plan(2, 1), 10.0) == [Began(2), Spawn(3, 2, RELOAD)]

    supervisor.ready(3, 10.0)

    assert supervisor.tick(11.0, {}) == [
        *(drain(slot, 1, ExitReason.RELOAD) for slot in range(3)),
        Committed(2),
    ]


def test_a_reload_forgets_the_failures_before_it():
    """It is how an operator mends what fails, so its canary and what follows start at once."""
    supervisor = serving(plan(1, 1))
    for now in (10.0, 20.0, 30.0):
        supervisor.exited(0, 1, now)
        supervisor.tick(now + 5, {})
    assert supervisor.backoff.failures == 3

    supervisor.reload(plan(2, 1), 40.0)

    assert supervisor.backoff.failures == 0


# Scale, recycle, pause


def test_ready_is_whoever_has_a_worker_that_serves_and_no_stop_ahead():
    """From the first ready until a stop, but for the moments in which nobody is left."""
    supervisor = Supervisor()
    supervisor.reload(plan(1, 1), 0.0)

    assert supervisor.unready == "no worker is ready"

    supervisor.ready(0, 1.0)

    assert supervisor.unready == ""

    supervisor.exited(0, 1, 2.0)

    assert supervisor.unready == "no worker is ready"

    supervisor.tick(3.0, {})
    supervisor.ready(0, 3.0)
    supervisor.stop(4.0)

    assert supervisor.unready == "a stop has begun"


def test_scaling_adds_a_worker_and_takes_the_youngest_away():
    """TTIN and TTOU; their starts are counted as such."""
    supervisor = serving(plan(1))

    assert supervisor.scale(+1, 10.0) == [Spawn(2, 1, StartReason.SCALE)]
    assert supervisor.ready(2, 10.5) == [Served(2, 1, 0.5)]
    assert supervisor.scale(-1, 11.0) == [drain(2, 1, ExitReason.SCALE)]


def test_no_more_are_scaled_to_than_a_file_may_want():
    """A TTIN that brings nobody is owed nothing: the start after a crash is counted as that."""
    supervisor = serving(plan(1, MAX_WORKERS - 1))

    assert supervisor.scale(+1, 10.0) == [Spawn(MAX_WORKERS - 1, 1, StartReason.SCALE)]
    assert [supervisor.scale(+1, 10.0) for _ in range(2)] == [[], []]

    supervisor.ready(MAX_WORKERS - 1, 10.0)
    supervisor.exited(7, -SIGKILL, 12.0)

    assert supervisor.tick(13.0, {}) == [Spawn(7, 1, CRASH)]


def test_a_start_waits_for_a_slot_where_all_are_taken():
    """Reloads of as many workers as may be, under a long grace: who drains keeps its slot until it is gone."""
    now, most = 0.0, Plan(1, MAX_WORKERS, surge=MAX_WORKERS, settle=0.0, graceful=3600.0)
    supervisor = serving(most)
    for generation in (2, 3):
        steps = supervisor.reload(replace(most, generation=generation), now)
        while started := [step.slot for step in steps if isinstance(step, Spawn)]:
            steps = [step for slot in started for step in supervisor.ready(slot, now)]

    assert max(supervisor.workers) == SLOTS - 1
    assert supervisor.rollout.is_under_way

    supervisor.exited(0, 0, now)

    assert 0 in supervisor.workers, "the slot is taken by the one that waited for it"


def test_a_worker_too_many_that_does_not_serve_yet_goes_before_one_that_does():
    """What boots costs nothing to let go."""
    supervisor = serving(plan(1))
    supervisor.scale(+1, 10.0)

    assert supervisor.scale(-1, 10.5) == [drain(2, 1, ExitReason.SCALE, is_booting=True)]


def test_the_last_worker_is_not_scaled_away():
    """However often TTOU comes."""
    supervisor = serving(plan(1))

    assert supervisor.scale(-1, 10.0) == [drain(1, 1, ExitReason.SCALE)]
    assert [supervisor.scale(-1, 10.0) for _ in range(3)] == [[], [], []]
    assert supervisor.wanted == 1


def test_a_recycled_worker_is_replaced_before_it_goes():
    """Said again while the replacement boots, it changes nothing."""
    supervisor = serving(plan(1))

    assert supervisor.recycle(0, 10.0) == [Spawn(2, 1, StartReason.RECYCLE)]
    assert supervisor.recycle(0, 10.25) == []
    assert supervisor.ready(2, 10.5) == [Served(2, 1, 0.5), drain(0, 1, ExitReason.RECYCLE)]
    assert supervisor.exited(0, 0, 10.75) == [Left(0, 1, ExitReason.RECYCLE, 0, "")]
    assert supervisor.recycle(0, 11.0) == [], "nobody is there"


def test_workers_that_are_recycled_together_are_replaced_one_after_the_other():
    """Surge holds here too."""
    supervisor = serving(plan(1))
    supervisor.recycle(0, 10.0)

    assert supervisor.recycle(1, 10.0) == []
    assert supervisor.ready(2, 10.5) == [
        Served(2, 1, 0.5),
        drain(0, 1, ExitReason.RECYCLE),
        Spawn(3, 1, StartReason.RECYCLE),
    ]


def test_a_pause_lets_all_workers_go_and_a_reload_brings_them_back():
    """Nothing of the old generation comes back for it; the canary is tried first, as ever."""
    supervisor = serving(plan(1))

    assert supervisor.pause(10.0) == [drain(1, 1, ExitReason.SCALE), drain(0, 1, ExitReason.SCALE)]

    supervisor.exited(0, 0, 10.5)
    supervisor.exited(1, 0, 10.5)

    assert supervisor.tick(100.0, {}) == []
    assert supervisor.next_deadline() == inf
    assert supervisor.reload(plan(2), 110.0) == [Began(2), Spawn(0, 2, RELOAD)]
    assert supervisor.ready(0, 110.0) == [Served(0, 2, 0.0)]
    assert supervisor.tick(111.0, {}) == [Spawn(1, 2, RELOAD)]
    assert supervisor.ready(1, 112.0) == [Served(1, 2, 1.0), Committed(2)]


def test_a_reload_that_fails_after_a_pause_leaves_the_house_empty():
    """There was nobody to go back to, and the next reload is free to begin."""
    supervisor = serving(plan(1, 1))
    supervisor.pause(10.0)
    supervisor.exited(0, 0, 10.5)
    supervisor.reload(plan(2, 1), 11.0)

    assert supervisor.exited(0, 1, 11.5) == [
        Left(0, 2, ExitReason.BOOT_FAILED, 1, "", has_verdict=True),
        RolledBack(2, "worker 0 exited with code 1 while it booted"),
    ]
    assert supervisor.reload(plan(3, 1), 12.0) == [Began(3), Spawn(0, 3, RELOAD)]


def test_a_pause_supersedes_the_reload_that_is_under_way():
    """Its canary goes with the others."""
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1), 10.0)
    steps = supervisor.pause(10.5)

    assert steps[0] == Superseded(2)
    assert {(step.slot, step.is_booting) for step in steps[1:] if isinstance(step, Drain)} == {(0, False), (1, True)}
    assert len(steps) == 3
    assert supervisor.live() == []


def test_a_pause_before_anybody_serves_changes_nothing():
    """Nor does one after a stop."""
    supervisor = Supervisor()
    supervisor.reload(plan(1, 1), 0.0)

    assert supervisor.pause(0.1) == []
    assert supervisor.ready(0, 0.5) == [Served(0, 1, 0.5), Committed(1)]

    supervisor.stop(1.0)

    assert supervisor.pause(1.1) == []


def test_one_fewer_starts_nobody_in_a_pause():
    """Only a reload ends it."""
    supervisor = serving(plan(1))
    supervisor.pause(10.0)

    assert supervisor.scale(-1, 11.0) == []


# Stop


def test_a_stop_lets_every_worker_go_and_ends_with_the_last():
    """Exit code 0, and no replacement for anybody."""
    supervisor = serving(plan(1))

    assert supervisor.stop(10.0) == [drain(0, 1, ExitReason.SHUTDOWN), drain(1, 1, ExitReason.SHUTDOWN)]
    assert supervisor.exited(1, 0, 10.5) == [Left(1, 1, ExitReason.SHUTDOWN, 0, "")]
    assert supervisor.exited(0, -9, 11.0) == [Left(0, 1, ExitReason.SHUTDOWN, -9, ""), Quit(ExitCode.OK)]


def test_a_stop_while_the_first_worker_boots_is_obeyed_at_once():
    """It reads no wire yet; that it was told to go makes no failure of it."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)

    assert drain(0, 1, ExitReason.SHUTDOWN, is_booting=True) in supervisor.stop(0.1)
    assert supervisor.exited(0, -15, 0.2) == [Left(0, 1, ExitReason.SHUTDOWN, -15, ""), Quit(ExitCode.OK)]


def test_a_stop_while_no_worker_runs_ends_at_once():
    """In back-off nobody is waited for."""
    supervisor = serving(plan(1, 1))
    supervisor.exited(0, 1, 10.0)

    assert supervisor.stop(10.05) == [Quit(ExitCode.OK)]


def test_a_stop_during_the_canary_phase_supersedes_the_reload():
    """And what waited behind it."""
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1), 10.0)

    assert supervisor.stop(10.5) == [
        Superseded(2),
        drain(0, 1, ExitReason.SHUTDOWN),
        drain(1, 2, ExitReason.SHUTDOWN, is_booting=True),
    ]
    assert supervisor.exited(1, 1, 10.6) == [Left(1, 2, ExitReason.SHUTDOWN, 1, "")], "no roll-back after the stop"


def test_a_stop_during_the_roll_hurries_those_who_drain_already():
    """A worker that was told to leave for the reload is told again, for a stop is less patient with idle clients."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.0)
    supervisor.tick(11.0, {})
    supervisor.reload(plan(3), 11.5)
    steps = supervisor.stop(12.0)

    assert steps == [
        Superseded(3),
        Superseded(2),
        drain(0, 1, ExitReason.SHUTDOWN),
        drain(1, 1, ExitReason.SHUTDOWN),
        drain(2, 2, ExitReason.SHUTDOWN),
        drain(3, 2, ExitReason.SHUTDOWN, is_booting=True),
    ]
    assert supervisor.workers[0].deadline == 11.0 + 30.0 + 2.5, "a second order to leave gives no more time"


def test_a_second_stop_kills_whatever_is_left():
    """Nothing is waited for but the reaping."""
    supervisor = serving(plan(1))
    supervisor.stop(10.0)

    assert supervisor.stop_now(11.0) == [
        Signal(0, 1, SIGKILL, "stop at once"),
        Signal(1, 1, SIGKILL, "stop at once"),
    ]
    assert supervisor.exited(0, -9, 11.0) == [Left(0, 1, ExitReason.SHUTDOWN, -9, "")]
    assert supervisor.exited(1, -9, 11.0) == [Left(1, 1, ExitReason.SHUTDOWN, -9, ""), Quit(ExitCode.OK)]


def test_a_stop_of_a_start_that_failed_keeps_its_exit_code():
    """TERM while the aborted first worker is waited for does not turn a failure into success."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    supervisor.tick(60.0, {})
    supervisor.stop(60.1)

    assert supervisor.exited(0, -6, 60.2)[-1] == Quit(ExitCode.NO_WORKER)


# What outlives its time


def overdue(supervisor: Supervisor, since: float) -> list[tuple[float, list[Step]]]:
    """Return what happens to a worker that does nothing from `since` on, as (when, steps), the first three times."""
    story: list[tuple[float, list[Step]]] = []
    now = since
    while len(story) < 3:
        now = supervisor.next_deadline()
        if steps := supervisor.tick(now, {}):
            story.append((now, steps))
    return story


def test_a_worker_that_outlives_a_drain_is_aborted_then_killed_then_killed_again():
    """ABRT after the drain budget and half of the kill timeout, KILL after the other half, and no end of that."""
    supervisor = serving(plan(1, 1))
    supervisor.stop(10.0)

    assert overdue(supervisor, 10.0) == [
        (42.5, [Signal(0, 1, SIGABRT, "not gone within timeouts.graceful")]),
        (45.0, [Signal(0, 1, SIGKILL, "not gone after ABRT")]),
        (47.5, [Signal(0, 1, SIGKILL, "not gone after KILL")]),
    ]
    assert supervisor.exited(0, -9, 50.0)[0] == Left(0, 1, ExitReason.SHUTDOWN, -9, "")


def test_a_silent_worker_is_aborted_and_its_successor_does_not_wait_for_its_end():
    """It serves nobody any more, so it is no part of the number."""
    supervisor = serving(plan(1, 1))
    why = "silent for timeouts.heartbeat: its event loop stands still"

    assert supervisor.tick(29.9, {}) == []
    assert supervisor.tick(30.0, {}) == [Signal(0, 1, SIGABRT, why), waiting(30.0)]
    assert supervisor.tick(30.25, {}) == [Spawn(1, 1, CRASH)]
    assert supervisor.tick(32.5, {}) == [Signal(0, 1, SIGKILL, "not gone after ABRT")]
    assert supervisor.exited(0, -9, 33.0) == [Left(0, 1, ExitReason.BLOCKED, -9, "")]


def test_a_worker_that_boots_too_long_is_killed_where_abort_does_not_help():
    """After the roll-back it is still somebody's to end."""
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1), 10.0)
    supervisor.tick(70.0, {0: 70.0})

    assert supervisor.tick(72.5, {0: 72.5}) == [Signal(1, 2, SIGKILL, "not gone after ABRT")]


def test_a_silence_is_asked_for_its_stack_once():
    """A beat ends the silence; the next one is another."""
    supervisor = serving(plan(1, 1, blocked=2.0))

    assert supervisor.tick(1.5, {}) == []
    assert supervisor.tick(2.0, {}) == [Dump(0, 1, 2.0)]
    assert supervisor.tick(3.0, {}) == []
    assert supervisor.tick(3.75, {0: 3.5}) == []
    assert supervisor.tick(5.75, {0: 3.5}) == [Dump(0, 1, 2.25)]


def test_a_second_silence_is_seen_where_nothing_else_wakes_the_master():
    """After the first it is looked at again, as often as it may be silent, until it is heard."""
    supervisor = serving(plan(1, 1, blocked=2.0))
    asked = []
    while (now := supervisor.next_deadline()) < 20.0:
        beats = {0: 3.5 if now >= 3.5 else 0.0}  # it goes on once, and stands still again
        asked += [step for step in supervisor.tick(now, beats) if isinstance(step, Dump)]

    assert asked == [Dump(0, 1, 2.0), Dump(0, 1, 2.0)]


def test_a_worker_that_boots_or_drains_is_not_asked_for_its_stack():
    """Its loop may stand still for good reasons: it imports, or it is on its way out."""
    supervisor = serving(plan(1, 1, blocked=2.0))
    supervisor.scale(+1, 0.0)
    supervisor.stop(0.0)

    assert supervisor.tick(20.0, {}) == []


def test_a_master_that_was_stopped_harms_no_healthy_worker():
    """The clock jumps, the beats on the board are current, and a ready that waited is read first."""
    supervisor = serving(plan(1, blocked=2.0))
    supervisor.scale(+1, 1.0)
    supervisor.ready(2, 5000.0)

    assert supervisor.tick(5000.0, {0: 4999.5, 1: 4999.0, 2: 4999.5}) == []
    assert states(supervisor) == dict.fromkeys(range(3), (1, State.SERVING))


def test_ready_twice_late_or_from_nobody_changes_nothing():
    """Only one that boots can become ready."""
    supervisor = serving(plan(1))
    supervisor.scale(-1, 10.0)

    assert supervisor.ready(0, 10.0) == []
    assert supervisor.ready(1, 10.0) == []
    assert supervisor.ready(7, 10.0) == []
    assert states(supervisor) == {0: (1, State.SERVING), 1: (1, State.DRAINING)}


# When to look again


def test_the_next_deadline_is_the_soonest_of_all_that_can_change_an_answer():
    """Boot timeout; the end of settling; silence, then the timeout of the heartbeat; the drain; the delay."""
    supervisor = Supervisor()

    assert supervisor.next_deadline() == inf

    supervisor.reload(plan(1, 1, blocked=2.0), 0.0)

    assert supervisor.next_deadline() == 60.0

    supervisor.ready(0, 10.0)

    assert supervisor.next_deadline() == 11.0

    supervisor.tick(11.0, {})

    assert supervisor.next_deadline() == 12.0

    supervisor.tick(12.0, {})

    assert supervisor.next_deadline() == 14.0

    supervisor.tick(38.5, {})

    assert supervisor.next_deadline() == 40.0

    supervisor.tick(13.0, {0: 12.5})

    assert supervisor.next_deadline() == 14.5

    supervisor.exited(0, 1, 14.0)

    assert supervisor.next_deadline() == pytest.approx(14.1)

    supervisor.tick(14.5, {})
    supervisor.stop(15.0)

    assert supervisor.next_deadline() == 15.0 + 30.0 + 2.5


def test_a_deadline_that_passes_between_the_tick_and_the_question_is_still_due():
    """Else the loop would sleep over it: after a crash of the only worker, for ever."""
    supervisor = serving(plan(1, 1))
    supervisor.exited(0, 1, 10.0)
    over = supervisor.backoff.until
    supervisor.tick(earlier(over), {})

    assert supervisor.next_deadline() == over
