"""The life of one worker: the table is complete, each state has one deadline, and the exit reason is set once."""

from dataclasses import replace
from math import inf
from signal import SIGABRT, SIGKILL

import pytest

from asgid.master.supervision.lifecycle import (
    LIVE,
    ON_DEADLINE,
    TIMEOUT_EXIT_REASON,
    UNEXPECTED_EXIT_TEXT,
    ExitReason,
    Plan,
    StartReason,
    State,
    WorkerRecord,
)
from tests.settings import plan_of

PLAN = plan_of(1, 2, settle=1.0, boot=60.0, heartbeat=30.0, graceful=20.0, kill=5.0)


def worker(started_at: float = 100.0, plan: Plan = PLAN) -> WorkerRecord:
    return WorkerRecord.forked(0, plan, started_at, StartReason.INITIAL)


def test_every_state_has_a_row_and_no_row_leads_back_to_life():
    """After a missed deadline each state leads to ABORTED or KILLED, and KILLED stays."""
    assert set(ON_DEADLINE) == set(State)
    assert LIVE.isdisjoint(state for state, _, _ in ON_DEADLINE.values())
    assert {signum for _, signum, _ in ON_DEADLINE.values()} == {SIGABRT, SIGKILL}
    assert ON_DEADLINE[State.KILLED][:2] == (State.KILLED, SIGKILL)
    assert len({why for _, _, why in ON_DEADLINE.values()}) == len(State), "each row has a text of its own"


def test_every_live_state_has_a_timeout_reason_and_a_text_for_an_unexpected_exit():
    assert set(TIMEOUT_EXIT_REASON) == set(UNEXPECTED_EXIT_TEXT) == LIVE


def test_each_state_has_its_deadline():
    it = worker(100.0)

    assert it.deadline == 160.0

    it.start_serving(110.0)

    assert it.deadline == 140.0

    it.on_heartbeat(115.0)

    assert it.deadline == 145.0

    it.drain(120.0, ExitReason.RELOAD)

    assert it.deadline == 142.5
    assert it.escalate(142.5) == (SIGABRT, "still running after timeouts.graceful")
    assert it.deadline == 145.0
    assert it.escalate(145.0) == (SIGKILL, "still running after ABRT")
    assert it.deadline == 147.5
    assert it.escalate(147.5) == (SIGKILL, "still running after KILL")
    assert (it.state, it.deadline, it.exit_reason) == (State.KILLED, 150.0, ExitReason.RELOAD)


def test_a_timeout_that_is_off_sets_no_deadline():
    it = worker(plan=plan_of(1, 1, heartbeat=inf))
    it.start_serving(110.0)

    assert it.deadline == inf


def test_an_older_heartbeat_changes_nothing():
    """A row may still hold the heartbeat of the worker before, or none."""
    it = worker()
    it.start_serving(110.0)
    it.on_heartbeat(0.0)

    assert (it.last_heartbeat, it.deadline) == (110.0, 140.0)


def test_a_stall_extends_every_deadline():
    """By the length of the stall; the heartbeat of a serving worker is expected from its end on."""
    boots, serves, drains = worker(), worker(), worker()
    for each in (serves, drains):
        each.start_serving(110.0)
    drains.drain(111.0, ExitReason.RELOAD)
    assert drains.deadline < 200.0

    for each in (boots, serves, drains):
        each.extend_after_stall(1000.0, 50.0)

    assert [1050.0, 1050.0] == [boots.deadline, drains.deadline]
    assert (serves.last_heartbeat, serves.is_newly_blocked(1000.0)) == (1000.0, False)
    assert serves.deadline >= 1030.0


@pytest.mark.parametrize(
    ("state", "reason"), [(State.BOOTING, ExitReason.BOOT_TIMEOUT), (State.SERVING, ExitReason.BLOCKED)]
)
def test_the_exit_reason_of_an_overdue_worker_is_that_of_its_first_missed_deadline(state, reason):
    """The deadlines that it misses after ABRT do not change it."""
    it = worker()
    if state is State.SERVING:
        it.start_serving(110.0)
    it.escalate(200.0)
    it.escalate(210.0)

    assert it.exit_reason is reason


def test_the_first_exit_reason_stays():
    it = worker()
    it.drain(110.0, ExitReason.RECYCLE)
    it.drain(111.0, ExitReason.RELOAD)
    it.abort(112.0, ExitReason.BOOT_FAILED)

    assert it.exit_reason is ExitReason.RECYCLE


def test_a_fresh_worker_is_live_of_the_generation_and_not_retiring():
    """Its plan may have been scaled since the fork."""
    it = worker()

    assert it.is_fresh(PLAN)
    assert it.is_fresh(replace(PLAN, wanted=3))
    assert not it.is_fresh(replace(PLAN, generation=2))

    it.is_retiring = True

    assert not it.is_fresh(PLAN)

    it.is_retiring = False
    it.drain(110.0, ExitReason.SCALE)

    assert not it.is_fresh(PLAN)


def test_a_worker_has_settled_when_it_has_served_for_the_settle_time():
    it = worker()

    assert not it.has_settled(1000.0)

    it.start_serving(110.0)

    assert [it.has_settled(now) for now in (110.0, 110.5, 111.0)] == [False, False, True]

    it.drain(112.0, ExitReason.SCALE)

    assert not it.has_settled(1000.0)


def test_a_blocked_worker_is_reported_once_until_its_next_heartbeat():
    it = worker(plan=plan_of(1, 1, blocked=2.0))
    it.start_serving(110.0)

    assert [it.is_newly_blocked(now) for now in (111.5, 112.0, 113.0)] == [False, True, False]

    it.on_heartbeat(113.5)

    assert [it.is_newly_blocked(now) for now in (114.0, 115.5, 116.0)] == [False, True, False]


def test_a_serving_worker_is_checked_before_its_deadline():
    """When it would be blocked, and when it settles; a blocked one again after `timeouts.blocked`."""
    it = worker(plan=plan_of(1, 1, settle=1.0, heartbeat=30.0, blocked=2.0))

    assert list(it.next_changes(100.0)) == [160.0]

    it.start_serving(110.0)

    assert list(it.next_changes(110.0)) == [140.0, 112.0, 111.0]

    it.is_newly_blocked(112.5)

    assert list(it.next_changes(112.5)) == [140.0, 114.5, 111.0]

    it.drain(113.0, ExitReason.RELOAD)

    assert list(it.next_changes(113.0)) == [it.deadline]


EXITS = {
    # its state and status, the reason and the description of its exit
    "booting, code": (State.BOOTING, 3, ExitReason.BOOT_FAILED, "worker 0 exited with code 3 while it booted"),
    "booting, signal": (State.BOOTING, -9, ExitReason.BOOT_FAILED, "worker 0 was ended by signal 9 while it booted"),
    "serving, code": (State.SERVING, 0, ExitReason.CRASH, "worker 0 exited with code 0 while it served"),
    "serving, signal": (State.SERVING, -11, ExitReason.SIGNAL, "worker 0 was ended by signal 11 while it served"),
}


@pytest.mark.parametrize(("state", "status", "reason", "text"), EXITS.values(), ids=EXITS.keys())
def test_an_unexpected_exit_is_classified_by_state_and_status(state, status, reason, text):
    it = worker()
    if state is State.SERVING:
        it.start_serving(110.0)

    assert (it.classify_exit(status), it.describe_exit(status)) == (reason, text)


def test_an_unexpected_exit_is_described_by_the_reason_that_the_worker_sent():
    """The reason is more useful than its exit code."""
    it = worker()
    it.failure = "no module named shop"

    assert it.describe_exit(3) == "no module named shop"


@pytest.mark.parametrize("status", [0, 1, -9])
def test_a_drained_worker_exits_for_the_reason_of_the_drain(status):
    it = worker()
    it.drain(110.0, ExitReason.SCALE)

    assert it.classify_exit(status) is ExitReason.SCALE
