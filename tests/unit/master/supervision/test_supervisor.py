"""The supervisor as stories: facts at their times, and exactly the steps that follow."""

from dataclasses import replace
from math import inf, nextafter
from signal import SIGABRT, SIGKILL

import pytest

from asgid.board import MAX_WORKERS, SLOTS
from asgid.errors import ExitCode
from asgid.master.supervision.lifecycle import ExitReason, Plan, StartReason, State
from asgid.master.supervision.steps import (
    BackingOff,
    Committed,
    Drain,
    Dump,
    Quit,
    ReloadStarted,
    RolledBack,
    Signal,
    Spawn,
    Step,
    Superseded,
    WorkerExited,
    WorkerReady,
)
from asgid.master.supervision.supervisor import Supervisor
from tests.settings import plan_of

INITIAL, RELOAD, CRASH = StartReason.INITIAL, StartReason.RELOAD, StartReason.CRASH


def plan(generation: int, wanted: int = 2, *, surge: int = 1, settle: float = 1.0, blocked: float = inf) -> Plan:
    """Return a plan with boot 60, heartbeat 30, graceful 30 and kill 5 seconds."""
    return plan_of(generation, wanted, surge=surge, settle=settle, blocked=blocked)


def serving(first: Plan) -> Supervisor:
    """Return a supervisor with workers that became ready at 0 s: those of `first`, in the slots from 0 on."""
    supervisor = Supervisor()
    supervisor.reload(first, 0.0)
    for slot in range(first.wanted):
        supervisor.ready(slot, 0.0)
    assert states(supervisor) == dict.fromkeys(range(first.wanted), (first.generation, State.SERVING))
    return supervisor


def states(supervisor: Supervisor) -> dict[int, tuple[int, State]]:
    return {slot: (worker.plan.generation, worker.state) for slot, worker in sorted(supervisor.workers.items())}


def drain(slot: int, generation: int, reason: ExitReason, *, is_booting: bool = False) -> Drain:
    return Drain(slot, generation, reason, 30.0, is_booting)


def backing_off(now: float) -> BackingOff:
    """Return the first delay, a tenth of a second, as the difference of two times that are not exact in binary."""
    return BackingOff(now + 0.1 - now, 1)


def earlier(time: float) -> float:
    return nextafter(time, -inf)


# Upgrade


def test_the_time_of_an_exec_counts_against_no_worker():
    """No deadline is due at once, however long it took: the new program logs no `master was stalled`."""
    supervisor = serving(plan(1, blocked=2.0))
    supervisor.tick(20.0, {0: 20.0, 1: 20.0})
    supervisor.recycle(0, 20.0)
    resumed = Supervisor.resume(supervisor.state(), 90.0)

    assert resumed.next_deadline() > 90.0
    assert resumed.tick(90.1, {0: 20.0, 1: 20.0}) == []


# TERM to a worker


def test_a_worker_that_is_sent_term_is_replaced_at_once_without_a_failure():
    """It drains by itself; another one starts beside it, and its exit delays nothing."""
    supervisor = serving(plan(1))
    supervisor.tick(5.0, {0: 5.0, 1: 5.0})

    assert supervisor.leaving(0, 5.0) == [drain(0, 1, ExitReason.RECYCLE), Spawn(2, 1, StartReason.RECYCLE)]
    assert supervisor.leaving(0, 5.1) == []
    assert supervisor.exited(0, 0, 6.0) == [WorkerExited(0, 1, ExitReason.RECYCLE, 0, "")]
    assert supervisor.backoff.failures == 0


def test_a_worker_that_sends_itself_term_before_it_has_settled_has_failed():
    """An application that does so at its start is started again with growing delays."""
    supervisor = serving(plan(1))

    assert supervisor.leaving(0, earlier(1.0)) == []
    assert [WorkerExited, BackingOff] == [type(step) for step in supervisor.exited(0, 0, 1.0)]


def test_a_worker_that_is_sent_term_does_not_change_a_stop():
    """TERM to the process group: the stop has begun when the worker reports that it leaves."""
    supervisor = serving(plan(1))
    supervisor.stop(5.0)

    assert supervisor.leaving(0, 5.0) == []
    assert supervisor.workers[0].exit_reason is ExitReason.SHUTDOWN


# The start


def test_at_a_start_the_first_worker_boots_alone_and_the_others_follow_when_it_serves():
    """A start is a reload without an older generation, so its canary need not settle."""
    supervisor = Supervisor()

    assert supervisor.reload(plan(1, 3), 0.0) == [ReloadStarted(1), Spawn(0, 1, INITIAL)]
    assert supervisor.tick(5.0, {}) == []
    assert supervisor.ready(0, 5.5) == [
        WorkerReady(0, 1, 5.5),
        Committed(1),
        Spawn(1, 1, INITIAL),
        Spawn(2, 1, INITIAL),
    ]
    assert supervisor.ready(2, 6.0) == [WorkerReady(2, 1, 0.5)]
    assert supervisor.ready(1, 6.5) == [WorkerReady(1, 1, 1.0)]
    assert supervisor.tick(8.0, {0: 8.0, 1: 8.0, 2: 8.0}) == []


def test_a_start_fails_if_the_first_worker_exits():
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    steps = supervisor.exited(0, 1, 0.5)

    assert steps == [
        WorkerExited(0, 1, ExitReason.BOOT_FAILED, 1, "", is_decisive=True),
        RolledBack(1, "worker 0 exited with code 1 while it booted"),
        Quit(ExitCode.NO_WORKER),
    ]


def test_the_reason_that_a_worker_sends_is_the_reason_of_the_roll_back():
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    assert supervisor.failed(0, "no module named shop", 0.0) == []
    steps = supervisor.exited(0, 3, 0.5)

    assert steps == [
        WorkerExited(0, 1, ExitReason.BOOT_FAILED, 3, "no module named shop", is_decisive=True),
        RolledBack(1, "no module named shop"),
        Quit(ExitCode.NO_WORKER),
    ]


def test_a_start_fails_if_the_first_worker_is_not_ready_in_time():
    """The worker is aborted; the master waits until it is reaped."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    why = "not ready within timeouts.boot"

    assert supervisor.tick(59.9, {}) == []
    assert supervisor.tick(60.0, {}) == [Signal(0, 1, SIGABRT, why), RolledBack(1, f"worker 0 was {why}")]
    assert supervisor.exited(0, -6, 60.1) == [
        WorkerExited(0, 1, ExitReason.BOOT_TIMEOUT, -6, "", is_decisive=True),
        Quit(ExitCode.NO_WORKER),
    ]


# Crashes


@pytest.mark.parametrize(
    ("status", "why"), [(-11, ExitReason.SIGNAL), (1, ExitReason.CRASH), (0, ExitReason.CRASH), (70, ExitReason.CRASH)]
)
def test_a_worker_that_exits_unexpectedly_is_replaced_after_a_delay(status, why):
    supervisor = serving(plan(1))

    assert supervisor.exited(1, status, 10.0) == [WorkerExited(1, 1, why, status, ""), backing_off(10.0)]
    assert supervisor.tick(10.05, {}) == []
    assert supervisor.tick(10.1, {}) == [Spawn(1, 1, CRASH)]
    assert supervisor.starts[CRASH] == 1
    assert supervisor.exits[why] == 1


@pytest.mark.parametrize("failure", ["", "its lifespan ended"], ids=["an invalid message", "a failure"])
def test_a_serving_worker_that_has_failed_is_replaced_before_it_drains(failure):
    """It may still serve some requests, and none is dropped. No later message on its lifeline is trusted."""
    supervisor = serving(plan(1))

    def fail() -> list[Step]:
        return supervisor.failed(0, failure, 10.0) if failure else supervisor.invalid_message(0, 10.0)

    assert fail() == [backing_off(10.0)]
    assert fail() == []
    assert supervisor.tick(10.1, {0: 10.1, 1: 10.1}) == [Spawn(2, 1, CRASH)]
    assert supervisor.ready(2, 10.5) == [WorkerReady(2, 1, 10.5 - 10.1), drain(0, 1, ExitReason.CRASH)]
    assert supervisor.exited(0, 0, 11.0) == [WorkerExited(0, 1, ExitReason.CRASH, 0, failure)]
    assert supervisor.exits[ExitReason.CRASH] == 1
    assert supervisor.tick(12.0, {1: 12.0, 2: 12.0}) == []


def test_a_booting_worker_with_an_invalid_message_is_aborted():
    """It could not report that it is ready."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    why = "its lifeline carried an invalid message"

    assert supervisor.invalid_message(0, 1.0) == [
        Signal(0, 1, SIGABRT, why),
        RolledBack(1, f"worker 0 was replaced: {why}"),
    ]
    assert supervisor.exited(0, -6, 1.5) == [
        WorkerExited(0, 1, ExitReason.BOOT_FAILED, -6, "", is_decisive=True),
        Quit(ExitCode.NO_WORKER),
    ]


def test_a_canary_with_an_invalid_message_is_rolled_back():
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.5)
    why = "worker 2 was replaced: its lifeline carried an invalid message"

    assert supervisor.invalid_message(2, 10.6) == [RolledBack(2, why), drain(2, 2, ExitReason.CRASH)]


def test_simultaneous_crashes_are_one_failure():
    supervisor = serving(plan(1, 3))

    assert supervisor.exited(0, -9, 10.0) == [WorkerExited(0, 1, ExitReason.SIGNAL, -9, ""), backing_off(10.0)]
    assert supervisor.exited(1, -9, 10.0) == [WorkerExited(1, 1, ExitReason.SIGNAL, -9, "")]
    assert supervisor.exited(2, -9, 10.05) == [WorkerExited(2, 1, ExitReason.SIGNAL, -9, "")]
    assert supervisor.backoff.failures == 1


def test_after_a_failure_one_worker_starts_and_the_others_wait_until_it_has_settled():
    """A broken application is not started in every slot at once."""
    supervisor = serving(plan(1, 3))
    for slot in range(3):
        supervisor.exited(slot, -9, 10.0)

    assert supervisor.tick(10.5, {}) == [Spawn(0, 1, CRASH)]
    assert supervisor.tick(11.0, {}) == []
    assert supervisor.ready(0, 11.0) == [WorkerReady(0, 1, 0.5)]
    assert supervisor.tick(11.75, {0: 11.75}) == []
    assert supervisor.tick(12.0, {0: 12.0}) == [Spawn(1, 1, CRASH), Spawn(2, 1, CRASH)]
    assert supervisor.starts[CRASH] == 3
    assert supervisor.pending_starts == []


def test_each_trial_that_fails_doubles_the_delay():
    supervisor, now, delays = serving(plan(1, 1)), 10.0, []
    for _ in range(4):
        steps = supervisor.exited(0, 1, now)
        delays += [step.delay_s for step in steps if isinstance(step, BackingOff)]
        now = supervisor.next_deadline()

        assert supervisor.tick(now, {}) == [Spawn(0, 1, CRASH)]

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8])


# Reload


def test_a_reload_with_surge_one_replaces_one_worker_after_the_other():
    """Canary, settle, roll, commit. At least `wanted` serve, and at most one more is live."""
    supervisor = serving(plan(1))

    assert supervisor.reload(plan(2), 10.0) == [ReloadStarted(2), Spawn(2, 2, RELOAD)]
    assert supervisor.ready(2, 10.5) == [WorkerReady(2, 2, 0.5)]
    assert supervisor.tick(11.25, {}) == []
    assert supervisor.tick(11.5, {}) == [drain(0, 1, ExitReason.RELOAD), Spawn(3, 2, RELOAD)]
    assert supervisor.exited(0, 0, 11.6) == [WorkerExited(0, 1, ExitReason.RELOAD, 0, "")]
    assert supervisor.ready(3, 12.0) == [WorkerReady(3, 2, 0.5), drain(1, 1, ExitReason.RELOAD), Committed(2)]
    assert supervisor.exited(1, 0, 12.5) == [WorkerExited(1, 1, ExitReason.RELOAD, 0, "")]
    assert states(supervisor) == {2: (2, State.SERVING), 3: (2, State.SERVING)}
    assert supervisor.starts[CRASH] == 0


def test_a_reload_with_surge_two_replaces_two_workers_at_a_time():
    """The canary still starts alone; after it two more than `wanted` may be live."""
    supervisor = serving(plan(1, 3, surge=2))

    assert supervisor.reload(plan(2, 3, surge=2), 10.0) == [ReloadStarted(2), Spawn(3, 2, RELOAD)]
    assert supervisor.ready(3, 10.0) == [WorkerReady(3, 2, 0.0)]
    assert supervisor.tick(11.0, {}) == [Spawn(4, 2, RELOAD), drain(0, 1, ExitReason.RELOAD), Spawn(5, 2, RELOAD)]
    assert supervisor.ready(5, 11.5) == [WorkerReady(5, 2, 0.5)]
    assert supervisor.ready(4, 12.0) == [
        WorkerReady(4, 2, 1.0),
        drain(1, 1, ExitReason.RELOAD),
        drain(2, 1, ExitReason.RELOAD),
        Committed(2),
    ]


def test_with_a_surge_of_wanted_no_old_worker_drains_before_all_new_ones_serve():
    """So a roll-back starts no worker: the old ones still run."""
    supervisor = serving(plan(1, 3, surge=3))
    before = dict(supervisor.workers)
    supervisor.reload(plan(2, 3, surge=3), 10.0)
    supervisor.ready(3, 10.0)

    assert supervisor.tick(11.0, {}) == [Spawn(4, 2, RELOAD), Spawn(5, 2, RELOAD)]
    assert supervisor.ready(4, 11.5) == [WorkerReady(4, 2, 0.5)]
    assert supervisor.exited(5, 3, 12.0) == [
        WorkerExited(5, 2, ExitReason.BOOT_FAILED, 3, "", is_decisive=True),
        RolledBack(2, "worker 5 exited with code 3 while it booted"),
        drain(3, 2, ExitReason.RELOAD),
        drain(4, 2, ExitReason.RELOAD),
    ]
    assert {slot: supervisor.workers[slot] for slot in before} == before


def test_a_reload_to_fewer_workers_drains_the_surplus_at_once():
    supervisor = serving(plan(1, 4))
    supervisor.reload(plan(2, 2), 10.0)
    supervisor.ready(4, 10.0)

    assert supervisor.tick(11.0, {}) == [
        drain(0, 1, ExitReason.RELOAD),
        drain(1, 1, ExitReason.RELOAD),
        drain(2, 1, ExitReason.RELOAD),
        Spawn(5, 2, RELOAD),
    ]


def test_without_a_settle_time_the_roll_starts_when_the_canary_serves():
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1, settle=0.0), 10.0)

    assert supervisor.ready(1, 10.5) == [WorkerReady(1, 2, 0.5), drain(0, 1, ExitReason.RELOAD), Committed(2)]


def test_a_canary_that_exits_ends_the_reload_and_changes_nothing_else():
    supervisor = serving(plan(1))
    before = dict(supervisor.workers)
    supervisor.reload(plan(2), 10.0)
    assert supervisor.failed(2, "no module named shop", 10.0) == []

    assert supervisor.exited(2, 3, 10.5) == [
        WorkerExited(2, 2, ExitReason.BOOT_FAILED, 3, "no module named shop", is_decisive=True),
        RolledBack(2, "no module named shop"),
    ]
    assert supervisor.tick(20.0, {0: 20.0, 1: 20.0}) == []
    assert supervisor.workers == before
    assert supervisor.rollout.target is None
    assert supervisor.reload(plan(3), 30.0) == [ReloadStarted(3), Spawn(2, 3, RELOAD)]


def test_a_canary_that_is_not_ready_in_time_is_aborted_and_the_old_generation_goes_on():
    """The boot timeout is that of the new plan."""
    supervisor = serving(plan(1))
    supervisor.reload(plan_of(2, 2, boot=5.0, blocked=inf), 10.0)
    why = "not ready within timeouts.boot"

    assert supervisor.tick(14.5, {}) == []
    assert supervisor.tick(15.0, {}) == [Signal(2, 2, SIGABRT, why), RolledBack(2, f"worker 2 was {why}")]
    assert supervisor.exited(2, -6, 15.5) == [WorkerExited(2, 2, ExitReason.BOOT_TIMEOUT, -6, "")]
    assert states(supervisor) == {0: (1, State.SERVING), 1: (1, State.SERVING)}


def test_a_canary_that_exits_before_it_has_settled_is_rolled_back():
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.5)

    assert supervisor.exited(2, -11, 11.25) == [
        WorkerExited(2, 2, ExitReason.SIGNAL, -11, ""),
        RolledBack(2, "worker 2 was ended by signal 11 while it served"),
    ]
    assert supervisor.tick(12.0, {}) == []
    assert states(supervisor) == {0: (1, State.SERVING), 1: (1, State.SERVING)}


def test_a_worker_that_exits_during_the_roll_brings_the_old_generation_back():
    """Drained old workers are started again; new ones drain when those serve."""
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
        WorkerExited(3, 2, ExitReason.BOOT_FAILED, 1, "", is_decisive=True),
        RolledBack(2, "worker 3 exited with code 1 while it booted"),
    ]
    assert steps[2:] == [Spawn(3, 1, RELOAD)]
    assert supervisor.ready(3, 12.0) == [WorkerReady(3, 1, 0.5), drain(2, 2, ExitReason.RELOAD)]


def test_an_old_worker_that_crashes_beside_the_canary_is_replaced_from_the_old_plan():
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)

    assert supervisor.exited(0, -9, 10.25) == [WorkerExited(0, 1, ExitReason.SIGNAL, -9, ""), backing_off(10.25)]
    assert supervisor.tick(10.5, {}) == [Spawn(0, 1, CRASH)]
    assert supervisor.ready(2, 10.75) == [WorkerReady(2, 2, 0.75)]
    assert supervisor.ready(0, 11.0) == [WorkerReady(0, 1, 0.5)]
    assert supervisor.rollout.target == plan(2)


def test_a_reload_beside_a_canary_supersedes_it_at_once():
    """Only a canary runs for the superseded generation, and it is drained before it serves."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)

    assert supervisor.reload(plan(3), 10.5) == [
        Superseded(2),
        drain(2, 2, ExitReason.RELOAD, is_booting=True),
        ReloadStarted(3),
        Spawn(3, 3, RELOAD),
    ]
    assert supervisor.exited(2, -15, 10.6) == [WorkerExited(2, 2, ExitReason.RELOAD, -15, "")]
    assert supervisor.rollout.target == plan(3), "the exit of a superseded canary is not a failure of the next plan"


def test_a_reload_during_the_roll_waits_for_the_commit_and_the_newest_wins():
    """Part of the old generation has exited already, and a third may not start beside two."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.0)
    supervisor.tick(11.0, {})
    supervisor.exited(0, 0, 11.1)

    assert supervisor.reload(plan(3), 11.2) == []
    assert supervisor.reload(plan(4), 11.3) == [Superseded(3)]
    assert supervisor.ready(3, 12.0) == [
        WorkerReady(3, 2, 1.0),
        drain(1, 1, ExitReason.RELOAD),
        Committed(2),
        ReloadStarted(4),
        Spawn(0, 4, RELOAD),
    ]


def test_a_pending_reload_starts_after_a_roll_back_too():
    """The roll-back leaves two generations; the next starts when the failed one has drained."""
    supervisor = serving(plan(1))
    supervisor.reload(plan(2), 10.0)
    supervisor.ready(2, 10.0)
    supervisor.tick(11.0, {})
    supervisor.reload(plan(3), 11.2)
    supervisor.exited(3, 1, 11.5)

    assert supervisor.rollout.target is None
    assert supervisor.rollout.pending == plan(3)
    assert supervisor.ready(3, 12.0) == [
        WorkerReady(3, 1, 0.5),
        drain(2, 2, ExitReason.RELOAD),
        ReloadStarted(3),
        Spawn(4, 3, RELOAD),
    ]


def test_a_reload_to_more_workers_starts_them_before_it_drains_an_old_one():
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 3), 10.0)
    supervisor.ready(1, 10.0)

    assert supervisor.tick(11.0, {}) == [Spawn(2, 2, RELOAD), Spawn(3, 2, RELOAD)]
    assert supervisor.ready(2, 11.5) == [WorkerReady(2, 2, 0.5)]
    assert supervisor.ready(3, 12.0) == [WorkerReady(3, 2, 1.0), drain(0, 1, ExitReason.RELOAD), Committed(2)]


def test_a_reload_to_one_worker_drains_all_old_ones_when_the_canary_has_settled():
    supervisor = serving(plan(1, 3))

    assert supervisor.reload(plan(2, 1), 10.0) == [ReloadStarted(2), Spawn(3, 2, RELOAD)]

    supervisor.ready(3, 10.0)

    assert supervisor.tick(11.0, {}) == [*(drain(slot, 1, ExitReason.RELOAD) for slot in range(3)), Committed(2)]


def test_a_reload_resets_the_failures_before_it():
    """It is how an operator fixes a failing application, so its workers start at once."""
    supervisor = serving(plan(1, 1))
    for now in (10.0, 20.0, 30.0):
        supervisor.exited(0, 1, now)
        supervisor.tick(now + 5, {})
    assert supervisor.backoff.failures == 3

    supervisor.reload(plan(2, 1), 40.0)

    assert supervisor.backoff.failures == 0


# Scale, recycle, pause


def test_the_server_is_ready_while_a_worker_serves_and_no_stop_has_begun():
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


def test_scaling_up_starts_a_worker_and_scaling_down_drains_the_youngest():
    supervisor = serving(plan(1))

    assert supervisor.scale(+1, 10.0) == [Spawn(2, 1, StartReason.SCALE)]
    assert supervisor.ready(2, 10.5) == [WorkerReady(2, 1, 0.5)]
    assert supervisor.scale(-1, 11.0) == [drain(2, 1, ExitReason.SCALE)]


def test_scaling_up_ends_at_max_workers():
    """A TTIN without effect leaves no pending start: the start after a crash counts as that."""
    supervisor = serving(plan(1, MAX_WORKERS - 1))

    assert supervisor.scale(+1, 10.0) == [Spawn(MAX_WORKERS - 1, 1, StartReason.SCALE)]
    assert [supervisor.scale(+1, 10.0) for _ in range(2)] == [[], []]

    supervisor.ready(MAX_WORKERS - 1, 10.0)
    supervisor.exited(7, -SIGKILL, 12.0)

    assert supervisor.tick(13.0, {}) == [Spawn(7, 1, CRASH)]


def test_a_start_waits_for_a_slot_if_all_are_taken():
    """Reloads of MAX_WORKERS under a long grace: a worker that drains keeps its slot until it has exited."""
    now, first = 0.0, plan_of(1, MAX_WORKERS, surge=MAX_WORKERS, settle=0.0, graceful=3600.0)
    supervisor = serving(first)
    for generation in (2, 3):
        steps = supervisor.reload(replace(first, generation=generation), now)
        while started := [step.slot for step in steps if isinstance(step, Spawn)]:
            steps = [step for slot in started for step in supervisor.ready(slot, now)]

    assert max(supervisor.workers) == SLOTS - 1
    assert supervisor.rollout.is_in_progress

    supervisor.exited(0, 0, now)

    assert 0 in supervisor.workers, "the worker that waited has the slot"


def test_a_surplus_worker_that_boots_is_drained_before_one_that_serves():
    """A booting worker has no request to finish."""
    supervisor = serving(plan(1))
    supervisor.scale(+1, 10.0)

    assert supervisor.scale(-1, 10.5) == [drain(2, 1, ExitReason.SCALE, is_booting=True)]


def test_the_last_worker_is_not_scaled_away():
    supervisor = serving(plan(1))

    assert supervisor.scale(-1, 10.0) == [drain(1, 1, ExitReason.SCALE)]
    assert [supervisor.scale(-1, 10.0) for _ in range(3)] == [[], [], []]
    assert supervisor.wanted == 1


def test_a_recycled_worker_drains_when_its_replacement_serves():
    """A second request while the replacement boots changes nothing."""
    supervisor = serving(plan(1))

    assert supervisor.recycle(0, 10.0) == [Spawn(2, 1, StartReason.RECYCLE)]
    assert supervisor.recycle(0, 10.25) == []
    assert supervisor.ready(2, 10.5) == [WorkerReady(2, 1, 0.5), drain(0, 1, ExitReason.RECYCLE)]
    assert supervisor.exited(0, 0, 10.75) == [WorkerExited(0, 1, ExitReason.RECYCLE, 0, "")]
    assert supervisor.recycle(0, 11.0) == [], "the slot is empty"


def test_workers_that_are_recycled_together_are_replaced_one_after_the_other():
    supervisor = serving(plan(1))
    supervisor.recycle(0, 10.0)

    assert supervisor.recycle(1, 10.0) == []
    assert supervisor.ready(2, 10.5) == [
        WorkerReady(2, 1, 0.5),
        drain(0, 1, ExitReason.RECYCLE),
        Spawn(3, 1, StartReason.RECYCLE),
    ]


def test_a_pause_drains_all_workers_and_a_reload_starts_new_ones():
    """No worker of the old generation starts for it; the canary is tried first."""
    supervisor = serving(plan(1))

    assert supervisor.pause(10.0) == [drain(1, 1, ExitReason.SCALE), drain(0, 1, ExitReason.SCALE)]

    supervisor.exited(0, 0, 10.5)
    supervisor.exited(1, 0, 10.5)

    assert supervisor.tick(100.0, {}) == []
    assert supervisor.next_deadline() == inf
    assert supervisor.reload(plan(2), 110.0) == [ReloadStarted(2), Spawn(0, 2, RELOAD)]
    assert supervisor.ready(0, 110.0) == [WorkerReady(0, 2, 0.0)]
    assert supervisor.tick(111.0, {}) == [Spawn(1, 2, RELOAD)]
    assert supervisor.ready(1, 112.0) == [WorkerReady(1, 2, 1.0), Committed(2)]


def test_a_reload_that_fails_after_a_pause_leaves_no_worker():
    supervisor = serving(plan(1, 1))
    supervisor.pause(10.0)
    supervisor.exited(0, 0, 10.5)
    supervisor.reload(plan(2, 1), 11.0)

    assert supervisor.exited(0, 1, 11.5) == [
        WorkerExited(0, 2, ExitReason.BOOT_FAILED, 1, "", is_decisive=True),
        RolledBack(2, "worker 0 exited with code 1 while it booted"),
    ]
    assert supervisor.reload(plan(3, 1), 12.0) == [ReloadStarted(3), Spawn(0, 3, RELOAD)]


def test_a_pause_supersedes_the_reload_in_progress():
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1), 10.0)
    steps = supervisor.pause(10.5)

    assert steps[0] == Superseded(2)
    assert {(step.slot, step.is_booting) for step in steps[1:] if isinstance(step, Drain)} == {(0, False), (1, True)}
    assert len(steps) == 3
    assert supervisor.live() == []


def test_a_pause_before_a_worker_serves_or_after_a_stop_changes_nothing():
    supervisor = Supervisor()
    supervisor.reload(plan(1, 1), 0.0)

    assert supervisor.pause(0.1) == []
    assert supervisor.ready(0, 0.5) == [WorkerReady(0, 1, 0.5), Committed(1)]

    supervisor.stop(1.0)

    assert supervisor.pause(1.1) == []


def test_scaling_starts_no_worker_in_a_pause():
    supervisor = serving(plan(1))
    supervisor.pause(10.0)

    assert supervisor.scale(-1, 11.0) == []


# Stop


def test_a_stop_drains_every_worker_and_ends_when_the_last_has_exited():
    """With exit code 0, and without a replacement for any of them."""
    supervisor = serving(plan(1))

    assert supervisor.stop(10.0) == [drain(0, 1, ExitReason.SHUTDOWN), drain(1, 1, ExitReason.SHUTDOWN)]
    assert supervisor.exited(1, 0, 10.5) == [WorkerExited(1, 1, ExitReason.SHUTDOWN, 0, "")]
    assert supervisor.exited(0, -9, 11.0) == [WorkerExited(0, 1, ExitReason.SHUTDOWN, -9, ""), Quit(ExitCode.OK)]


def test_a_stop_while_the_first_worker_boots_drains_it_at_once():
    """It does not read its lifeline yet; its exit by TERM is not a failure."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)

    assert drain(0, 1, ExitReason.SHUTDOWN, is_booting=True) in supervisor.stop(0.1)
    assert supervisor.exited(0, -15, 0.2) == [WorkerExited(0, 1, ExitReason.SHUTDOWN, -15, ""), Quit(ExitCode.OK)]


def test_a_stop_while_no_worker_runs_ends_at_once():
    supervisor = serving(plan(1, 1))
    supervisor.exited(0, 1, 10.0)

    assert supervisor.stop(10.05) == [Quit(ExitCode.OK)]


def test_a_stop_beside_a_canary_supersedes_the_reload():
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1), 10.0)

    assert supervisor.stop(10.5) == [
        Superseded(2),
        drain(0, 1, ExitReason.SHUTDOWN),
        drain(1, 2, ExitReason.SHUTDOWN, is_booting=True),
    ]
    assert supervisor.exited(1, 1, 10.6) == [WorkerExited(1, 2, ExitReason.SHUTDOWN, 1, "")], (
        "no roll-back after the stop"
    )


def test_a_stop_during_the_roll_tells_draining_workers_again():
    """A stop allows idle connections less time than a reload. The first exit reason stays."""
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
    assert supervisor.workers[0].deadline == 11.0 + 30.0 + 2.5, "a second Drain does not extend the deadline"
    assert supervisor.workers[0].exit_reason is ExitReason.RELOAD


def test_a_second_stop_kills_every_worker():
    supervisor = serving(plan(1))
    supervisor.stop(10.0)

    assert supervisor.stop_now(11.0) == [Signal(0, 1, SIGKILL, "stop at once"), Signal(1, 1, SIGKILL, "stop at once")]
    assert supervisor.exited(0, -9, 11.0) == [WorkerExited(0, 1, ExitReason.SHUTDOWN, -9, "")]
    assert supervisor.exited(1, -9, 11.0) == [WorkerExited(1, 1, ExitReason.SHUTDOWN, -9, ""), Quit(ExitCode.OK)]


def test_a_stop_after_a_failed_start_keeps_its_exit_code():
    """TERM while the aborted first worker still runs does not turn a failure into success."""
    supervisor = Supervisor()
    supervisor.reload(plan(1), 0.0)
    supervisor.tick(60.0, {})
    supervisor.stop(60.1)

    assert supervisor.exited(0, -6, 60.2)[-1] == Quit(ExitCode.NO_WORKER)


# Missed deadlines


def overdue(supervisor: Supervisor) -> list[tuple[float, list[Step]]]:
    """Return the first three steps that follow missed deadlines of a worker that does nothing, as (when, steps)."""
    story: list[tuple[float, list[Step]]] = []
    while len(story) < 3:
        now = supervisor.next_deadline()
        if steps := supervisor.tick(now, {}):
            story.append((now, steps))
    return story


def test_a_worker_that_does_not_drain_in_time_is_aborted_then_killed_then_killed_again():
    """ABRT after the drain budget and half of the kill timeout, KILL after the other half, and again."""
    supervisor = serving(plan(1, 1))
    supervisor.stop(10.0)

    assert overdue(supervisor) == [
        (42.5, [Signal(0, 1, SIGABRT, "still running after timeouts.graceful")]),
        (45.0, [Signal(0, 1, SIGKILL, "still running after ABRT")]),
        (47.5, [Signal(0, 1, SIGKILL, "still running after KILL")]),
    ]
    assert supervisor.exited(0, -9, 50.0)[0] == WorkerExited(0, 1, ExitReason.SHUTDOWN, -9, "")


def test_a_worker_without_heartbeats_is_aborted_and_replaced_before_it_exits():
    """It serves no client any more, so it does not count as live."""
    supervisor = serving(plan(1, 1))
    why = "without a heartbeat for timeouts.heartbeat: its event loop is blocked"

    assert supervisor.tick(29.9, {}) == []
    assert supervisor.tick(30.0, {}) == [Signal(0, 1, SIGABRT, why), backing_off(30.0)]
    assert supervisor.tick(30.25, {}) == [Spawn(1, 1, CRASH)]
    assert supervisor.tick(32.5, {}) == [Signal(0, 1, SIGKILL, "still running after ABRT")]
    assert supervisor.exited(0, -9, 33.0) == [WorkerExited(0, 1, ExitReason.BLOCKED, -9, "")]


def test_a_worker_that_boots_too_long_is_killed_if_it_outlives_abrt():
    supervisor = serving(plan(1, 1))
    supervisor.reload(plan(2, 1), 10.0)
    supervisor.tick(70.0, {0: 70.0})

    assert supervisor.tick(72.5, {0: 72.5}) == [Signal(1, 2, SIGKILL, "still running after ABRT")]


def test_a_blocked_worker_is_asked_for_its_stack_once():
    supervisor = serving(plan(1, 1, blocked=2.0))

    assert supervisor.tick(1.5, {}) == []
    assert supervisor.tick(2.0, {}) == [Dump(0, 1, 2.0)]
    assert supervisor.tick(3.0, {}) == []
    assert supervisor.tick(3.75, {0: 3.5}) == []
    assert supervisor.tick(5.75, {0: 3.5}) == [Dump(0, 1, 2.25)]


def test_the_master_wakes_for_a_worker_that_blocks_a_second_time():
    """After the first dump the worker is checked again every `timeouts.blocked`."""
    supervisor = serving(plan(1, 1, blocked=2.0))
    asked: list[Step] = []
    while (now := supervisor.next_deadline()) < 20.0:
        heartbeats = {0: 3.5 if now >= 3.5 else 0.0}  # it turns once, and blocks again
        asked += [step for step in supervisor.tick(now, heartbeats) if isinstance(step, Dump)]

    assert asked == [Dump(0, 1, 2.0), Dump(0, 1, 2.0)]


def test_a_worker_that_boots_or_drains_is_not_asked_for_its_stack():
    """Its loop may be blocked for good reasons, such as an import."""
    supervisor = serving(plan(1, 1, blocked=2.0))
    supervisor.scale(+1, 0.0)
    supervisor.stop(0.0)

    assert supervisor.tick(20.0, {}) == []


def test_a_master_that_was_stopped_aborts_no_healthy_worker():
    """The clock jumps, the heartbeats on the board are current, and a waiting `ready` is read first."""
    supervisor = serving(plan(1, blocked=2.0))
    supervisor.scale(+1, 1.0)
    supervisor.ready(2, 5000.0)

    assert supervisor.tick(5000.0, {0: 4999.5, 1: 4999.0, 2: 4999.5}) == []
    assert states(supervisor) == dict.fromkeys(range(3), (1, State.SERVING))


def test_ready_from_a_worker_that_does_not_boot_changes_nothing():
    supervisor = serving(plan(1))
    supervisor.scale(-1, 10.0)

    assert supervisor.ready(0, 10.0) == []
    assert supervisor.ready(1, 10.0) == []
    assert supervisor.ready(7, 10.0) == []
    assert states(supervisor) == {0: (1, State.SERVING), 1: (1, State.DRAINING)}


# The next deadline


def test_the_next_deadline_is_the_earliest_time_at_which_a_step_may_follow():
    """Boot timeout; end of settling; a blocked loop, then the heartbeat timeout; the delay; the drain."""
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


def test_a_deadline_that_passes_right_after_a_tick_is_still_due():
    """Otherwise the loop would sleep past it: after a crash of the only worker, forever."""
    supervisor = serving(plan(1, 1))
    supervisor.exited(0, 1, 10.0)
    until = supervisor.backoff.until
    supervisor.tick(earlier(until), {})

    assert supervisor.next_deadline() == until
