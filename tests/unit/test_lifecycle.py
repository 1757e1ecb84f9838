"""One worker's life: the table is whole, each state has one deadline, and `leaving` is decided once."""

from math import inf
from signal import SIGABRT, SIGKILL

import pytest

from asgid.master.lifecycle import LIVE, OVERDUE, OVERDUE_REASON, ExitReason, Plan, StartReason, State, Worker

PLAN = Plan(1, 2, settle=1.0, boot=60.0, heartbeat=30.0, graceful=20.0, kill=5.0)


def worker(born: float = 100.0, plan: Plan = PLAN) -> Worker:
    return Worker.forked(0, plan, born, StartReason.INITIAL)


def test_every_state_has_a_row_and_every_row_leads_towards_the_end():
    """Nobody who is overdue is left alone, and nobody comes back to life."""
    assert set(OVERDUE) == set(State)
    assert LIVE.isdisjoint(state for state, _ in OVERDUE.values())
    assert {signum for _, signum in OVERDUE.values()} == {SIGABRT, SIGKILL}
    assert OVERDUE[State.KILLED] == (State.KILLED, SIGKILL)


def test_every_live_state_has_a_reason_for_being_overdue():
    """A worker that nobody told to leave gets its reason from the table."""
    assert set(OVERDUE_REASON) == LIVE


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
    assert it.outlive(142.5) is SIGABRT
    assert it.deadline == 145.0
    assert it.outlive(145.0) is SIGKILL
    assert it.deadline == 147.5
    assert it.outlive(147.5) is SIGKILL
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


def test_settled_means_served_for_the_settle_time():
    """Neither booting nor draining is serving."""
    it = worker()

    assert not it.has_settled(1000.0)

    it.serve(110.0)

    assert [it.has_settled(now) for now in (110.0, 110.5, 111.0)] == [False, False, True]

    it.drain(112.0, ExitReason.SCALE)

    assert not it.has_settled(1000.0)
