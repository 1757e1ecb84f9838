"""How soon to start again: doubling, capped, forgotten, and one event for what happens at once."""

import pytest

from asgid.master.supervision.backoff import FORGOTTEN_AFTER_S, LONGEST_S, Backoff
from asgid.master.supervision.lifecycle import Plan, StartReason, Worker


def test_delays_double_up_to_half_a_minute():
    """From a tenth of a second on, when each failure comes as soon as it can."""
    backoff, now, delays = Backoff(), 100.0, []
    for _ in range(11):
        assert backoff.failed(now)
        delays.append(backoff.until - now)
        now = backoff.until

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])


def test_a_worker_that_dies_at_once_is_started_at_most_ten_times_in_twelve_seconds():
    """A crash loop neither burns a processor nor fills a log."""
    backoff, now, starts = Backoff(), 0.0, 0
    while now <= 12.0:
        starts += 1
        backoff.failed(now)
        now = backoff.until

    assert starts <= 10


def test_an_application_that_never_recovers_is_tried_for_weeks():
    """The delay stays the longest however many failures there were (2 ** 1024 is no float)."""
    backoff, now = Backoff(), 0.0
    for _ in range(5000):
        assert backoff.failed(now)
        now = backoff.until

    assert backoff.failures == 5000
    assert backoff.until - backoff.last == pytest.approx(LONGEST_S)


def test_failures_that_come_while_a_delay_runs_are_one():
    """Sixteen workers killed in the same instant are one event."""
    backoff = Backoff()

    assert [backoff.failed(100.0 + number / 1000) for number in range(16)] == [True] + [False] * 15
    assert backoff.failures == 1
    assert backoff.until == pytest.approx(100.1)


def test_no_start_comes_before_the_delay_is_over():
    """At its end it may."""
    backoff = Backoff()

    assert backoff.may_start(100.0)

    backoff.failed(100.0)

    assert [backoff.may_start(now) for now in (100.0, 100.09, backoff.until)] == [False, False, True]


def test_a_minute_of_health_is_forgiven():
    """After it the next failure is the first again; before, it is one more."""
    backoff = Backoff()
    for now in (100.0, 101.0, 102.0):
        backoff.failed(now)

    assert backoff.is_failing(102.0 + FORGOTTEN_AFTER_S)
    assert not backoff.is_failing(102.5 + FORGOTTEN_AFTER_S)

    backoff.failed(102.0 + FORGOTTEN_AFTER_S)

    assert backoff.failures == 4

    backoff.failed(102.5 + 2 * FORGOTTEN_AFTER_S)

    assert backoff.failures == 1


def test_one_that_never_failed_is_not_failing():
    """Also at the zero of the clock, which a machine that has just booted is near."""
    assert not Backoff().is_failing(0.0)
    assert Backoff().may_start(0.0)


def worker(born: float, ready: float | None = None) -> Worker:
    it = Worker.forked(0, Plan(1, 3, settle=1.0), born, StartReason.CRASH)
    if ready is not None:
        it.serve(ready)
    return it


STARTS = {
    # who is there when a worker has failed at 100 s, when one more would start, whether it may
    "nobody, too soon": ([], 100.05, False),
    "nobody, after the delay": ([], 100.5, True),
    "one that boots since before": ([worker(99.0)], 100.5, True),
    "a trial that boots": ([worker(100.5)], 110.0, False),
    "a trial that serves": ([worker(100.5, 101.0)], 101.5, False),
    "a trial that has settled": ([worker(100.5, 101.0)], 102.0, True),
    "a trial that has settled, and one that boots": ([worker(100.5, 101.0), worker(102.0)], 102.0, True),
    "a trial that boots, a minute later": ([worker(100.5)], 160.5, True),
}


@pytest.mark.parametrize(("others", "now", "may"), STARTS.values(), ids=STARTS.keys())
def test_after_a_failure_one_start_is_a_trial_and_the_others_wait(others, now, may):
    """Until it has settled, or the failure is forgotten."""
    backoff = Backoff()
    backoff.failed(100.0)

    assert backoff.lets_start(others, now) is may


def test_where_nothing_fails_all_start_at_once():
    """However many boot already."""
    assert Backoff().lets_start([worker(100.0), worker(100.0)], 100.0)
