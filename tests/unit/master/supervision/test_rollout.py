"""The progress of plans: pending, tried, rolled out, committed; and how many workers of each should run."""

from dataclasses import replace

import pytest

from asgid.board import MAX_WORKERS
from asgid.master.supervision.lifecycle import Plan, StartReason, WorkerRecord
from asgid.master.supervision.rollout import Rollout
from asgid.master.supervision.steps import Committed, ReloadStarted, RolledBack, Superseded
from tests.settings import plan_of

OLD, NEW, NEXT = plan_of(1, 2), plan_of(2, 3), plan_of(3, 1)
ROLL = Rollout(OLD, NEW, has_settled=True)


def booting(plan: Plan) -> WorkerRecord:
    return WorkerRecord.forked(0, plan, 0.0, StartReason.INITIAL)


def serving(plan: Plan, since: float = 0.0) -> WorkerRecord:
    worker = booting(plan)
    worker.start_serving(since)
    return worker


def retiring(plan: Plan) -> WorkerRecord:
    worker = serving(plan)
    worker.is_retiring = True
    return worker


# What should run

STAGES = {
    # the plans, how many workers must keep serving, how many of which plan should run
    "no plan": (Rollout(), 0, []),
    "a start": (Rollout(None, NEW), 0, [(NEW, 1)]),
    "committed": (Rollout(OLD), 2, [(OLD, 2)]),
    "one is pending": (Rollout(OLD, pending=NEW), 2, [(OLD, 2)]),
    "a canary": (Rollout(OLD, NEW), 2, [(OLD, 2), (NEW, 1)]),
    "a roll": (ROLL, 3, [(NEW, 3)]),
    "a roll, and one is pending": (replace(ROLL, pending=NEXT), 3, [(NEW, 3)]),
    "rolled back": (Rollout(OLD, has_settled=True), 2, [(OLD, 2)]),
}


@pytest.mark.parametrize(("rollout", "wanted", "desired"), STAGES.values(), ids=STAGES.keys())
def test_each_stage_has_a_desired_number_of_workers_of_each_plan(rollout, wanted, desired):
    """Until its canary has settled a target has one worker, beside the committed ones; then its own number counts."""
    assert (wanted, desired) == (rollout.wanted, rollout.desired())


def test_a_pending_plan_is_a_reload_in_progress():
    """An upgrade waits for it."""
    stages = [Rollout(), Rollout(OLD), Rollout(OLD, NEW), Rollout(OLD, pending=NEW), Rollout(None, NEW)]

    assert [False, False, True, True, True] == [rollout.is_in_progress for rollout in stages]


MAX_DRAINS = {
    # the plans, the live workers, how many of them may be drained
    "committed": (Rollout(OLD), [serving(OLD)] * 2, 2),
    "a canary": (Rollout(OLD, NEW), [*[serving(OLD)] * 2, serving(NEW)], 3),
    "a roll": (ROLL, [*[serving(OLD)] * 2, serving(NEW)], 1),
    "a roll, and one boots": (ROLL, [*[serving(OLD)] * 2, serving(NEW), booting(NEW)], 1),
    "a roll, with room for all": (replace(ROLL, target=replace(NEW, surge=3)), [*[serving(OLD)] * 2, serving(NEW)], 0),
    "a roll, and the last boots": (ROLL, [serving(OLD), *[serving(NEW)] * 2, booting(NEW)], 0),
    "a roll, and all serve": (ROLL, [serving(OLD), *[serving(NEW)] * 3], 4),
    "a roll, and one is retiring": (ROLL, [serving(OLD), *[serving(NEW)] * 2, retiring(NEW)], 1),
}


@pytest.mark.parametrize(("rollout", "live", "number"), MAX_DRAINS.values(), ids=MAX_DRAINS.keys())
def test_old_workers_stay_as_far_as_the_surge_allows_until_all_new_ones_serve(rollout, live, number):
    """A roll-back needs them: their code may not be on disk any more."""
    assert number == rollout.max_drains(live)


# Progress

CANARIES = {
    # the plans, the live workers, whether the canary has settled at 11 s
    "a start, it boots": (Rollout(None, NEW), [booting(NEW)], False),
    "a start, it serves": (Rollout(None, NEW), [serving(NEW, 11.0)], True),
    "it boots": (Rollout(OLD, NEW), [serving(OLD), booting(NEW)], False),
    "it serves": (Rollout(OLD, NEW), [serving(OLD), serving(NEW, 10.5)], False),
    "it serves for a second": (Rollout(OLD, NEW), [serving(OLD), serving(NEW, 10.0)], True),
    "it is retiring": (Rollout(OLD, NEW), [serving(OLD), retiring(NEW)], False),
    "it has exited": (Rollout(OLD, NEW), [serving(OLD)], False),
    "it has settled before": (ROLL, [serving(OLD), booting(NEW)], True),
}


@pytest.mark.parametrize(("rollout", "live", "has_settled"), CANARIES.values(), ids=CANARIES.keys())
def test_a_canary_has_settled_when_it_has_served_for_the_settle_time(rollout, live, has_settled):
    """At a start, as soon as it serves: no older generation needs protection."""
    it = replace(rollout)
    it.settle(live, 11.0)

    assert has_settled is it.has_settled


COMMITS = {
    # the plans, the live workers, the generation that is committed
    "committed": (Rollout(OLD), [serving(OLD)] * 2, None),
    "a canary": (Rollout(OLD, NEW), [serving(OLD), serving(NEW)], None),
    "a start": (Rollout(None, NEW, has_settled=True), [serving(NEW)], 2),
    "a canary, and no old one is left": (Rollout(OLD, NEW), [serving(NEW)] * 3, None),
    "an old one is left": (ROLL, [serving(OLD), *[serving(NEW)] * 3], None),
    "one boots": (ROLL, [*[serving(NEW)] * 2, booting(NEW)], None),
    "one is retiring": (ROLL, [*[serving(NEW)] * 3, retiring(NEW)], None),
    "all serve": (ROLL, [serving(NEW)] * 3, 2),
}


@pytest.mark.parametrize(("rollout", "live", "generation"), COMMITS.values(), ids=COMMITS.keys())
def test_a_plan_is_committed_when_all_its_workers_serve_and_no_other_is_live(rollout, live, generation):
    """At a start the first worker is enough, and the others follow."""
    it = replace(rollout)

    assert it.commit(live) == (Committed(generation) if generation else None)
    assert it.plans == ([NEW] if generation else rollout.plans)


BEGINNINGS = {
    # the plans, the live workers, whether the pending plan may start
    "none is pending": (Rollout(OLD), [serving(OLD)], False),
    "a start": (Rollout(pending=NEXT), [], True),
    "one generation is live": (Rollout(OLD, pending=NEXT), [serving(OLD), retiring(OLD)], True),
    "no worker is live": (Rollout(OLD, pending=NEXT), [], True),
    "another generation is live": (Rollout(OLD, pending=NEXT), [serving(OLD), serving(NEW)], False),
    "another is tried": (Rollout(OLD, NEW, NEXT), [serving(OLD)], False),
    "another is rolled out": (replace(ROLL, pending=NEXT), [serving(NEW)], False),
}


@pytest.mark.parametrize(("rollout", "live", "starts"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_a_pending_plan_starts_when_only_the_committed_generation_is_live(rollout, live, starts):
    """So at most two are live. Its own canary has not settled, even if the last one had."""
    it = replace(rollout, has_settled=True)

    assert it.start_pending(live) == (ReloadStarted(3) if starts else None)
    assert it == (Rollout(rollout.committed, NEXT) if starts else replace(rollout, has_settled=True))


def test_a_worker_that_fails_ends_the_rollout_of_its_own_plan():
    """The committed plan counts again, and the pending one still waits."""
    it = replace(ROLL, pending=NEXT)

    assert it.on_failure(OLD, "it died") is None
    assert it.target == NEW
    assert it.on_failure(NEW, "it died") == RolledBack(2, "it died")
    assert it.current == OLD
    assert it.plans == [OLD, NEXT]
    assert it.on_failure(NEW, "so did another") is None


# Requests of the operator


def test_an_offered_plan_is_pending():
    it = Rollout(OLD)

    assert it.offer(NEW) == []
    assert it == Rollout(OLD, pending=NEW)


def test_the_newest_plan_supersedes_the_canary_and_the_pending_plan():
    """But not a plan that is rolled out: part of the old generation has exited already."""
    tried, rolled = Rollout(OLD, NEW), replace(ROLL)

    assert tried.offer(NEXT) == [Superseded(2)]
    assert tried.offer(plan_of(4, 1)) == [Superseded(3)]
    assert tried == Rollout(OLD, pending=plan_of(4, 1))
    assert rolled.offer(NEXT) == []
    assert rolled == replace(ROLL, pending=NEXT)


def test_an_abandoned_reload_is_reported_and_an_abandoned_start_is_not():
    start, reload = Rollout(None, NEW), replace(ROLL, pending=NEXT)

    assert start.abandon() == []
    assert reload.abandon() == [Superseded(3), Superseded(2)]
    assert (start.plans, reload.plans) == ([], [OLD])


def test_scaling_changes_the_committed_plan_and_the_target():
    """Not a pending plan, which has a number of its own. The number stays from 1 to MAX_WORKERS."""
    it = Rollout(OLD, NEW, NEXT)
    it.scale(+1)

    assert [plan.wanted for plan in it.plans] == [3, 4, 1]

    for _ in range(4):
        it.scale(-1)

    assert [plan.wanted for plan in it.plans] == [1, 1, 1]

    it.scale(+1000)

    assert [plan.wanted for plan in it.plans] == [MAX_WORKERS, MAX_WORKERS, 1]


def test_a_pause_wants_no_worker_until_the_next_plan():
    """It drops the reload in progress; the next plan starts with a canary."""
    it = Rollout(OLD, NEW)

    assert it.pause() == [Superseded(2)]
    assert it.is_paused
    assert it.desired() == [(replace(OLD, wanted=0), 0)]

    it.offer(NEXT)
    it.start_pending([])

    assert it.desired() == [(replace(OLD, wanted=0), 0), (NEXT, 1)]
