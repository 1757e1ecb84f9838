"""An upgrade as a story: requested, tried, ready, executed; and every way in which it fails."""

from math import inf
from signal import SIGKILL, SIGTERM

import pytest

from asgid.master.supervision.steps import ExecNewProgram, SignalTrial, StartTrial, UpgradeRefused
from asgid.master.supervision.upgrade import ON_DEADLINE, START_MARGIN_S, Stage, Upgrade
from tests.settings import plan_of

PLAN = plan_of(1, 2, boot=60.0, graceful=20.0, kill=5.0)
BUDGET_S = 60.0 + 20.0 + 5.0 + START_MARGIN_S


def in_trial(now: float = 100.0) -> Upgrade:
    """Return an upgrade with a trial that has run since `now`."""
    it = Upgrade()
    assert list(it.request()) == []
    assert list(it.when_idle(now, PLAN)) == [StartTrial()]
    return it


def test_a_new_program_is_executed_after_a_successful_trial_when_the_server_is_idle():
    """The step is repeated while it holds: a fact that comes first may withdraw it."""
    it = in_trial()

    assert list(it.when_idle(101.0, PLAN)) == []
    assert it.has_process
    assert list(it.trial_ended("")) == []
    assert list(it.when_idle(102.0, PLAN)) == [ExecNewProgram()]
    assert list(it.when_idle(103.0, PLAN)) == [ExecNewProgram()]
    assert it.deadline == inf


def test_a_new_program_that_fails_its_trial_is_refused_and_may_be_tried_again():
    it = in_trial()

    assert list(it.trial_ended("no module named shop")) == [UpgradeRefused("no module named shop")]
    assert list(it.when_idle(102.0, PLAN)) == []
    assert list(it.request()) == []
    assert list(it.when_idle(103.0, PLAN)) == [StartTrial()]


def test_a_new_program_that_cannot_be_executed_is_refused():
    """After its trial succeeded; the running program goes on."""
    it = in_trial()
    list(it.trial_ended(""))

    assert list(it.trial_ended("no such file")) == [UpgradeRefused("no such file")]
    assert it.stage is Stage.IDLE


def test_one_upgrade_is_in_progress_at_a_time():
    it = in_trial()

    assert list(it.request()) == [UpgradeRefused("an upgrade is already in progress")]
    assert it.stage is Stage.TRIAL


def test_a_trial_that_misses_its_deadline_is_sent_term_and_then_kill():
    """KILL is repeated; half of the kill timeout lies between two signals."""
    it = in_trial(100.0)

    assert it.deadline == 100.0 + BUDGET_S
    assert list(it.tick(99.0 + BUDGET_S, PLAN)) == []
    assert list(it.tick(100.0 + BUDGET_S, PLAN)) == [SignalTrial(SIGTERM, "its trial did not end in time")]
    assert it.deadline == 102.5 + BUDGET_S
    assert list(it.tick(102.5 + BUDGET_S, PLAN)) == [SignalTrial(SIGKILL, "its trial did not end in time")]
    assert list(it.tick(105.0 + BUDGET_S, PLAN)) == [SignalTrial(SIGKILL, "its trial did not end in time")]
    assert list(it.trial_ended("its trial was ended by signal 9")) == [UpgradeRefused("its trial did not end in time")]


def test_a_trial_that_succeeds_after_a_stop_changes_nothing():
    it = in_trial()
    steps = list(it.stop(101.0, PLAN))

    assert steps == [SignalTrial(SIGTERM, "a stop came first")]
    assert it.has_process
    assert list(it.trial_ended("")) == [UpgradeRefused("a stop came first")]
    assert not it.has_process


@pytest.mark.parametrize("stage", [Stage.IDLE, Stage.REQUESTED, Stage.READY])
def test_a_stop_without_a_trial_sends_no_signal(stage):
    it = Upgrade(stage)

    assert list(it.stop(101.0, PLAN)) == []
    assert it.stage is Stage.IDLE


def test_every_stage_with_a_process_has_a_deadline():
    """No trial runs without one, and each that misses it is sent a signal."""
    assert {stage for stage in Stage if Upgrade(stage).has_process} == set(ON_DEADLINE)
    assert {stage for stage, _ in ON_DEADLINE.values()} <= set(ON_DEADLINE)
