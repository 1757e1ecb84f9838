"""An upgrade, told as a story: asked, tried, proven, replaced; and every way in which it does not come to that."""

from math import inf
from signal import SIGKILL, SIGTERM

import pytest

from asgid.master.supervision.lifecycle import Plan
from asgid.master.supervision.steps import EndTrial, GiveWay, TrySuccessor, UpgradeRefused
from asgid.master.supervision.upgrade import OVERDUE, STARTING_S, Stage, Succession

PLAN = Plan(1, 2, boot=60.0, graceful=20.0, kill=5.0)
BUDGET_S = 60.0 + 20.0 + 5.0 + STARTING_S


def tried(now: float = 100.0) -> Succession:
    """Return an upgrade whose trial runs since `now`."""
    it = Succession()
    assert list(it.ask()) == []
    assert list(it.quiet(now, PLAN)) == [TrySuccessor()]
    return it


def test_a_program_that_proves_well_takes_over_when_all_is_quiet():
    """It is said as long as it holds: a fact that comes first may take it back."""
    it = tried()

    assert list(it.quiet(101.0, PLAN)) == []
    assert it.has_process
    assert list(it.ended("")) == []
    assert list(it.quiet(102.0, PLAN)) == [GiveWay()]
    assert list(it.quiet(103.0, PLAN)) == [GiveWay()]
    assert it.deadline == inf


def test_a_program_that_fails_its_trial_is_refused_and_may_be_tried_again():
    """With its own words."""
    it = tried()

    assert list(it.ended("no module named shop")) == [UpgradeRefused("no module named shop")]
    assert list(it.quiet(102.0, PLAN)) == []
    assert list(it.ask()) == []
    assert list(it.quiet(103.0, PLAN)) == [TrySuccessor()]


def test_a_program_that_cannot_be_executed_is_refused():
    """After it had proven well: this program goes on."""
    it = tried()
    list(it.ended(""))

    assert list(it.ended("no such file")) == [UpgradeRefused("no such file")]
    assert it.stage is Stage.IDLE


def test_one_upgrade_is_under_way_at_a_time():
    """Whoever asks meanwhile is told, and the first goes on."""
    it = tried()

    assert list(it.ask()) == [UpgradeRefused("an upgrade is under way already")]
    assert it.stage is Stage.TRYING


def test_a_trial_without_end_is_ended():
    """TERM at its deadline, then KILL, and KILL again: half of the kill timeout each."""
    it = tried(100.0)

    assert it.deadline == 100.0 + BUDGET_S
    assert list(it.tick(99.0 + BUDGET_S, PLAN)) == []
    assert list(it.tick(100.0 + BUDGET_S, PLAN)) == [EndTrial(SIGTERM, "its trial did not come to an end")]
    assert it.deadline == 102.5 + BUDGET_S
    assert list(it.tick(102.5 + BUDGET_S, PLAN)) == [EndTrial(SIGKILL, "its trial did not come to an end")]
    assert list(it.tick(105.0 + BUDGET_S, PLAN)) == [EndTrial(SIGKILL, "its trial did not come to an end")]
    assert list(it.ended("its trial was ended by signal 9")) == [UpgradeRefused("its trial did not come to an end")]


def test_a_trial_that_ends_well_after_it_was_given_up_proves_nothing():
    """Nobody waits for it any more."""
    it = tried()
    steps = list(it.stop(101.0, PLAN))

    assert steps == [EndTrial(SIGTERM, "a stop came first")]
    assert it.has_process
    assert list(it.ended("")) == [UpgradeRefused("a stop came first")]
    assert not it.has_process


@pytest.mark.parametrize("stage", [Stage.IDLE, Stage.ASKED, Stage.PROVEN])
def test_a_stop_needs_to_end_nothing_where_no_trial_runs(stage):
    """The wish is forgotten."""
    it = Succession(stage)

    assert list(it.stop(101.0, PLAN)) == []
    assert it.stage is Stage.IDLE


def test_every_stage_with_a_process_has_a_deadline():
    """No trial runs without one, and none is left alone after it."""
    assert {stage for stage in Stage if Succession(stage).has_process} == set(OVERDUE)
    assert {stage for stage, _ in OVERDUE.values()} <= set(OVERDUE)
