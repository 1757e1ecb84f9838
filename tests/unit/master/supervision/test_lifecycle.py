"""One worker's life: the table is whole, each state has one deadline, and `leaving` is decided once."""

from dataclasses import replace
from math import inf
from signal import SIGABRT, SIGKILL

import pytest

from asgid.master.supervision.lifecycle import (
    LIVE,
    LOST,
    OVERDUE,
    OVERDUE_REASON,
    ExitReason,
    Plan,
    StartReason,
    State,
    Worker,
)

PLAN = Plan(1, 2, settle=1.0, boot=60.0, heartbeat=30.0, graceful=20.0, kill=5.0)


def worker(born: float = 100.0, plan: Plan = PLAN) -> Worker:
    return Worker.forked(0, plan, born, StartReason.INITIAL)


def test_every_state_has_a_row_and_every_row_leads_towards_the_end():
    """Nobody who is overdue is left alone, and nobody comes back to life."""
    assert set(OVERDUE) == set(State)
    assert LIVE.isdisjoint(state for state, _, _ in OVERDUE.values())
    assert {signum for _, signum, _ in OVERDUE.values()} == {SIGABRT, SIGKILL}
    assert OVERDUE[State.KILLED][:2] == (State.KILLED, SIGKILL)
    assert len({why for _, _, why in OVERDUE.values()}) == len(State), "each is told in words of its own"


def test_every_live_state_has_a_reason_for_being_overdue_and_words_for_a_sudden_end():
    """A worker that nobody told to leave gets them from the tables."""
    assert set(OVERDUE_REASON) == set(LOST) == LIVE


def test_each_state_has_its_deadline():
    """Boot timeout; last beat and heartbeat; drain budget and half of the kill timeout; the other half, twice."""
    it = worker(100.0)

    assert it.deadline == 160.0

    it.serve(110.0)

    assert it.deadline == 140.0

    it.heard(115.0)

    assert it.deadline == 145.0

    it.drain(120.0, ExitReason.RELOAD)

    assert it.deadline == 142.5
    assert it.outlive(142.5) == (SIGABRT, "not gone within timeouts.graceful")
    assert it.deadline == 145.0
    assert it.outlive(145.0) == (SIGKILL, "not gone after ABRT")
    assert it.deadline == 147.5
    assert it.outlive(147.5) == (SIGKILL, "not gone after KILL")
    assert (it.state, it.deadline, it.leaving) == (State.KILLED, 150.0, ExitReason.RELOAD)


def test_a_switched_off_timeout_is_no_deadline():
    """`inf` passes through the sums."""
    it = worker(plan=Plan(1, 1, heartbeat=inf))
    it.serve(110.0)

    assert it.deadline == inf


def test_heartbeats_never_go_back():
    """A row that still shows the worker before, or nothing, takes nothing away from this one."""
    it = worker()
    it.serve(110.0)
    it.heard(0.0)

    assert (it.beat, it.deadline) == (110.0, 140.0)


def test_time_that_was_lost_to_all_is_given_again():
    """One that boots or drains has at least as much; one that serves is heard of anew, and its silence begins anew."""
    boots, serves, drains = worker(), worker(), worker()
    for each in (serves, drains):
        each.serve(110.0)
    drains.drain(111.0, ExitReason.RELOAD)
    assert drains.deadline < 200.0

    for each in (boots, serves, drains):
        each.forgive(1000.0, 50.0)

    assert [1050.0, 1050.0] == [boots.deadline, drains.deadline]
    assert (serves.beat, serves.falls_silent(1000.0)) == (1000.0, False)
    assert serves.deadline >= 1030.0


@pytest.mark.parametrize(
    ("state", "why"), [(State.BOOTING, ExitReason.BOOT_TIMEOUT), (State.SERVING, ExitReason.BLOCKED)]
)
def test_an_overdue_worker_leaves_for_the_reason_of_its_state(state, why):
    """Whatever it is sent afterwards."""
    it = worker()
    if state is State.SERVING:
        it.serve(110.0)
    it.outlive(200.0)
    it.outlive(210.0)

    assert it.leaving is why


def test_who_first_decides_that_a_worker_must_go_is_remembered():
    """A later reason does not replace it."""
    it = worker()
    it.drain(110.0, ExitReason.RECYCLE)
    it.drain(111.0, ExitReason.RELOAD)

    assert it.leaving is ExitReason.RECYCLE


def test_fresh_is_who_is_live_of_a_generation_and_to_stay():
    """Also where its number has been scaled since; not one that is to be replaced, or on its way out."""
    it = worker()

    assert it.is_fresh(PLAN)
    assert it.is_fresh(replace(PLAN, wanted=3))
    assert not it.is_fresh(replace(PLAN, generation=2))

    it.is_retiring = True

    assert not it.is_fresh(PLAN)

    it.is_retiring = False
    it.drain(110.0, ExitReason.SCALE)

    assert not it.is_fresh(PLAN)


def test_settled_means_served_for_the_settle_time():
    """Neither booting nor draining is serving."""
    it = worker()

    assert not it.has_settled(1000.0)

    it.serve(110.0)

    assert [it.has_settled(now) for now in (110.0, 110.5, 111.0)] == [False, False, True]

    it.drain(112.0, ExitReason.SCALE)

    assert not it.has_settled(1000.0)


def test_a_silence_is_noticed_once():
    """A beat ends it; the next one is another."""
    it = worker(plan=Plan(1, 1, blocked=2.0))
    it.serve(110.0)

    assert [it.falls_silent(now) for now in (111.5, 112.0, 113.0)] == [False, True, False]

    it.heard(113.5)

    assert [it.falls_silent(now) for now in (114.0, 115.5, 116.0)] == [False, True, False]


def test_one_that_serves_is_looked_at_before_its_deadline():
    """When it is silent for too long, and when it has settled; one whose silence was noticed again after as long."""
    it = worker(plan=Plan(1, 1, settle=1.0, heartbeat=30.0, blocked=2.0))

    assert list(it.changes(100.0)) == [160.0]

    it.serve(110.0)

    assert list(it.changes(110.0)) == [140.0, 112.0, 111.0]

    it.falls_silent(112.5)

    assert list(it.changes(112.5)) == [140.0, 114.5, 111.0]

    it.drain(113.0, ExitReason.RELOAD)

    assert list(it.changes(113.0)) == [it.deadline]


ENDS = {
    # its state and status, why it is no more, what an operator is told
    "booting, code": (State.BOOTING, 3, ExitReason.BOOT_FAILED, "worker 0 exited with code 3 while it booted"),
    "booting, signal": (State.BOOTING, -9, ExitReason.BOOT_FAILED, "worker 0 was ended by signal 9 while it booted"),
    "serving, code": (State.SERVING, 0, ExitReason.CRASH, "worker 0 exited with code 0 while it served"),
    "serving, signal": (State.SERVING, -11, ExitReason.SIGNAL, "worker 0 was ended by signal 11 while it served"),
}


@pytest.mark.parametrize(("state", "status", "why", "told"), ENDS.values(), ids=ENDS.keys())
def test_an_end_that_nobody_asked_for_is_named_by_state_and_status(state, status, why, told):
    """0 too is a crash."""
    it = worker()
    if state is State.SERVING:
        it.serve(110.0)

    assert (it.exit_reason(status), it.problem(status)) == (why, told)


def test_an_end_is_told_in_the_words_of_the_worker_where_it_said_any():
    """They say more than its exit code."""
    it = worker()
    it.failure = "no module named shop"

    assert it.problem(3) == "no module named shop"


@pytest.mark.parametrize("status", [0, 1, -9])
def test_whoever_was_told_to_leave_is_gone_for_that_reason(status):
    """However it ended."""
    it = worker()
    it.drain(110.0, ExitReason.SCALE)

    assert it.exit_reason(status) is ExitReason.SCALE
