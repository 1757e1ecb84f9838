"""Plans on their way: they wait, are tried, rolled out and committed; and how many workers of which there should be."""

from dataclasses import replace

import pytest

from asgid.board import MAX_WORKERS
from asgid.master.supervision.lifecycle import Plan, StartReason, Worker
from asgid.master.supervision.rollout import Rollout
from asgid.master.supervision.steps import Began, Committed, RolledBack, Superseded

OLD, NEW, NEXT = Plan(1, 2), Plan(2, 3), Plan(3, 1)
ROLL = Rollout(OLD, NEW, has_settled=True)


def booting(plan: Plan) -> Worker:
    return Worker.forked(0, plan, 0.0, StartReason.INITIAL)


def serving(plan: Plan, since: float = 0.0) -> Worker:
    worker = booting(plan)
    worker.serve(since)
    return worker


def retiring(plan: Plan) -> Worker:
    worker = serving(plan)
    worker.is_retiring = True
    return worker


# What there should be

STAGES = {
    # the plans by their stage, how many must go on serving, how many there should be of which
    "nothing yet": (Rollout(), 0, []),
    "a start": (Rollout(None, NEW), 0, [(NEW, 1)]),
    "in force": (Rollout(OLD), 2, [(OLD, 2)]),
    "one waits": (Rollout(OLD, pending=NEW), 2, [(OLD, 2)]),
    "a canary": (Rollout(OLD, NEW), 2, [(OLD, 2), (NEW, 1)]),
    "a roll": (ROLL, 3, [(NEW, 3)]),
    "a roll, and one waits": (replace(ROLL, pending=NEXT), 3, [(NEW, 3)]),
    "rolled back": (Rollout(OLD, has_settled=True), 2, [(OLD, 2)]),
}


@pytest.mark.parametrize(("rollout", "wanted", "desired"), STAGES.values(), ids=STAGES.keys())
def test_each_stage_says_how_many_workers_of_which_plan_there_should_be(rollout, wanted, desired):
    """Until its canary has settled a plan has one, beside all of those before it; then its own number counts."""
    assert (wanted, desired) == (rollout.wanted, rollout.desired())


def test_what_waits_is_under_way_too():
    """A server whose program is to be replaced waits for it."""
    stages = [Rollout(), Rollout(OLD), Rollout(OLD, NEW), Rollout(OLD, pending=NEW), Rollout(None, NEW)]

    assert [False, False, True, True, True] == [rollout.is_under_way for rollout in stages]


LEAVING = {
    # the plans, who is live, how many of them may leave
    "in force": (Rollout(OLD), [serving(OLD)] * 2, 2),
    "a canary": (Rollout(OLD, NEW), [*[serving(OLD)] * 2, serving(NEW)], 3),
    "a roll": (ROLL, [*[serving(OLD)] * 2, serving(NEW)], 1),
    "a roll, and one boots": (ROLL, [*[serving(OLD)] * 2, serving(NEW), booting(NEW)], 1),
    "a roll, with room for all": (replace(ROLL, target=replace(NEW, surge=3)), [*[serving(OLD)] * 2, serving(NEW)], 0),
    "a roll, and the last boots": (ROLL, [serving(OLD), *[serving(NEW)] * 2, booting(NEW)], 0),
    "a roll, and all serve": (ROLL, [serving(OLD), *[serving(NEW)] * 3], 4),
    "a roll, and one is to be replaced": (ROLL, [serving(OLD), *[serving(NEW)] * 2, retiring(NEW)], 1),
}


@pytest.mark.parametrize(("rollout", "live", "number"), LEAVING.values(), ids=LEAVING.keys())
def test_as_many_old_workers_stay_as_there_is_room_for_until_all_new_ones_serve(rollout, live, number):
    """For a roll-back: the code that they hold may not be on disk any more."""
    assert number == rollout.may_leave(live)


# How the workers fare

CANARIES = {
    # the plans, who is live, whether the canary has settled at 11 s
    "a start, it boots": (Rollout(None, NEW), [booting(NEW)], False),
    "a start, it serves": (Rollout(None, NEW), [serving(NEW, 11.0)], True),
    "it boots": (Rollout(OLD, NEW), [serving(OLD), booting(NEW)], False),
    "it serves": (Rollout(OLD, NEW), [serving(OLD), serving(NEW, 10.5)], False),
    "it serves for a second": (Rollout(OLD, NEW), [serving(OLD), serving(NEW, 10.0)], True),
    "it is to be replaced": (Rollout(OLD, NEW), [serving(OLD), retiring(NEW)], False),
    "it is gone": (Rollout(OLD, NEW), [serving(OLD)], False),
    "once settled, whoever comes later": (ROLL, [serving(OLD), booting(NEW)], True),
}


@pytest.mark.parametrize(("rollout", "live", "has_settled"), CANARIES.values(), ids=CANARIES.keys())
def test_a_canary_has_settled_when_it_has_served_for_a_while(rollout, live, has_settled):
    """At a start, as soon as it serves: there is nothing to protect."""
    it = replace(rollout)
    it.settle(live, 11.0)

    assert has_settled is it.has_settled


COMMITS = {
    # the plans, who is live, the generation that is committed
    "in force": (Rollout(OLD), [serving(OLD)] * 2, None),
    "a canary": (Rollout(OLD, NEW), [serving(OLD), serving(NEW)], None),
    "a start": (Rollout(None, NEW, has_settled=True), [serving(NEW)], 2),
    "a canary, and nobody else is left": (Rollout(OLD, NEW), [serving(NEW)] * 3, None),
    "an old one is left": (ROLL, [serving(OLD), *[serving(NEW)] * 3], None),
    "one boots": (ROLL, [*[serving(NEW)] * 2, booting(NEW)], None),
    "one is to be replaced": (ROLL, [*[serving(NEW)] * 3, retiring(NEW)], None),
    "all serve": (ROLL, [serving(NEW)] * 3, 2),
}


@pytest.mark.parametrize(("rollout", "live", "generation"), COMMITS.values(), ids=COMMITS.keys())
def test_a_plan_is_committed_when_all_of_it_serves_and_nothing_else_is_live(rollout, live, generation):
    """A start with the first that serves: the others follow."""
    it = replace(rollout)

    assert it.commit(live) == (Committed(generation) if generation else None)
    assert it.plans == ([NEW] if generation else rollout.plans)


BEGINNINGS = {
    # the plans, who is live, whether what waits may begin
    "nothing waits": (Rollout(OLD), [serving(OLD)], False),
    "a start": (Rollout(pending=NEXT), [], True),
    "one generation is live": (Rollout(OLD, pending=NEXT), [serving(OLD), retiring(OLD)], True),
    "nobody is live": (Rollout(OLD, pending=NEXT), [], True),
    "another still leaves": (Rollout(OLD, pending=NEXT), [serving(OLD), serving(NEW)], False),
    "another is tried": (Rollout(OLD, NEW, NEXT), [serving(OLD)], False),
    "another is rolled out": (replace(ROLL, pending=NEXT), [serving(NEW)], False),
}


@pytest.mark.parametrize(("rollout", "live", "begins"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_what_waits_begins_when_only_the_committed_generation_is_live(rollout, live, begins):
    """So that at most two live at once. Its own canary has not settled, whatever the last one did."""
    it = replace(rollout, has_settled=True)

    assert it.begin(live) == (Began(3) if begins else None)
    assert it == (Rollout(rollout.committed, NEXT) if begins else replace(rollout, has_settled=True))


def test_a_worker_that_fails_ends_the_roll_out_of_its_own_plan():
    """What was committed before is in force again; what waits goes on waiting."""
    it = replace(ROLL, pending=NEXT)

    assert it.failed(OLD, "it died") is None
    assert it.target == NEW
    assert it.failed(NEW, "it died") == RolledBack(2, "it died")
    assert it.current == OLD
    assert it.plans == [OLD, NEXT]
    assert it.failed(NEW, "so did another") is None


# What the operator says


def test_a_plan_that_is_offered_waits():
    """Whether it may begin is another question."""
    it = Rollout(OLD)

    assert it.offer(NEW) == []
    assert it == Rollout(OLD, pending=NEW)


def test_the_newest_plan_supersedes_the_canary_and_what_waits():
    """But not one that is rolled out already: part of the old generation is gone."""
    tried, rolled = Rollout(OLD, NEW), replace(ROLL)

    assert tried.offer(NEXT) == [Superseded(2)]
    assert tried.offer(Plan(4, 1)) == [Superseded(3)]
    assert tried == Rollout(OLD, pending=Plan(4, 1))
    assert rolled.offer(NEXT) == []
    assert rolled == replace(ROLL, pending=NEXT)


def test_what_is_given_up_has_its_verdict_but_for_a_start():
    """A start is no reload."""
    start, reload = Rollout(None, NEW), replace(ROLL, pending=NEXT)

    assert start.abandon() == []
    assert reload.abandon() == [Superseded(3), Superseded(2)]
    assert (start.plans, reload.plans) == ([], [OLD])


def test_scaling_counts_for_what_serves_and_for_what_is_rolled_out():
    """Not for a plan that waits: it brings its own number. The last worker stays,
    and no more come than a file may want.
    """
    it = Rollout(OLD, NEW, NEXT)
    it.scale(+1)

    assert [plan.wanted for plan in it.plans] == [3, 4, 1]

    for _ in range(4):
        it.scale(-1)

    assert [plan.wanted for plan in it.plans] == [1, 1, 1]

    it.scale(+1000)

    assert [plan.wanted for plan in it.plans] == [MAX_WORKERS, MAX_WORKERS, 1]


def test_a_pause_wants_nobody_until_the_next_plan():
    """It gives up what is under way; the canary of the next comes as ever."""
    it = Rollout(OLD, NEW)

    assert it.pause() == [Superseded(2)]
    assert it.is_paused
    assert it.desired() == [(replace(OLD, wanted=0), 0)]

    it.offer(NEXT)
    it.begin([])

    assert it.desired() == [(replace(OLD, wanted=0), 0), (NEXT, 1)]
