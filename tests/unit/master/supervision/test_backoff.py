"""The delay before the next start: it doubles, has a maximum, resets, and counts simultaneous failures as one."""

import pytest

from asgid.master.supervision.backoff import MAX_DELAY_S, RESET_AFTER_S, Backoff
from asgid.master.supervision.lifecycle import StartReason, WorkerRecord
from tests.settings import plan_of


def test_delays_double_up_to_half_a_minute():
    """The first is a tenth of a second; each failure comes at the end of the delay before."""
    backoff, now, delays = Backoff(), 100.0, []
    for _ in range(11):
        assert backoff.failed(now)
        delays.append(backoff.until - now)
        now = backoff.until

    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])


def test_a_worker_that_exits_at_once_starts_at_most_ten_times_in_twelve_seconds():
    """A crash loop neither uses up a processor nor fills a log."""
    backoff, now, starts = Backoff(), 0.0, 0
    while now <= 12.0:
        starts += 1
        backoff.failed(now)
        now = backoff.until

    assert starts <= 10


def test_the_delay_stays_at_its_maximum_after_thousands_of_failures():
    """2.0 ** 1024 would raise OverflowError."""
    backoff, now = Backoff(), 0.0
    for _ in range(5000):
        assert backoff.failed(now)
        now = backoff.until

    assert backoff.failures == 5000
    assert backoff.until - backoff.last_failure == pytest.approx(MAX_DELAY_S)


def test_failures_during_a_delay_count_as_one():
    backoff = Backoff()

    assert [backoff.failed(100.0 + number / 1000) for number in range(16)] == [True] + [False] * 15
    assert backoff.failures == 1
    assert backoff.until == pytest.approx(100.1)


def test_a_delay_is_over_at_its_end_and_not_before():
    backoff = Backoff()

    assert backoff.is_over(100.0)

    backoff.failed(100.0)

    assert [backoff.is_over(now) for now in (100.0, 100.09, backoff.until)] == [False, False, True]


def test_a_healthy_minute_resets_the_failures():
    """A failure after it is the first one again; a failure before it is one more."""
    backoff = Backoff()
    for now in (100.0, 101.0, 102.0):
        backoff.failed(now)

    assert backoff.is_failing(102.0 + RESET_AFTER_S)
    assert not backoff.is_failing(102.5 + RESET_AFTER_S)

    backoff.failed(102.0 + RESET_AFTER_S)

    assert backoff.failures == 4

    backoff.failed(102.5 + 2 * RESET_AFTER_S)

    assert backoff.failures == 1


def test_without_a_failure_nothing_is_failing():
    """Also at the zero of the clock, shortly after the machine has booted."""
    assert not Backoff().is_failing(0.0)
    assert Backoff().is_over(0.0)


def worker(started_at: float, ready: float | None = None) -> WorkerRecord:
    it = WorkerRecord.forked(0, plan_of(1, 3, settle=1.0), started_at, StartReason.CRASH)
    if ready is not None:
        it.start_serving(ready)
    return it


STARTS = {
    # the fresh workers beside one that failed at 100 s, the time, whether another may start
    "none, too soon": ([], 100.05, False),
    "none, after the delay": ([], 100.5, True),
    "one that was forked before": ([worker(99.0)], 100.5, True),
    "a trial that boots": ([worker(100.5)], 110.0, False),
    "a trial that serves": ([worker(100.5, 101.0)], 101.5, False),
    "a trial that has settled": ([worker(100.5, 101.0)], 102.0, True),
    "a trial that has settled, and one that boots": ([worker(100.5, 101.0), worker(102.0)], 102.0, True),
    "a trial that boots, a minute later": ([worker(100.5)], 160.5, True),
}


@pytest.mark.parametrize(("others", "now", "may"), STARTS.values(), ids=STARTS.keys())
def test_after_a_failure_one_worker_starts_as_a_trial_and_the_others_wait(others, now, may):
    """Until the trial has settled, or the failure is not recent any more."""
    backoff = Backoff()
    backoff.failed(100.0)

    assert backoff.allows_start(others, now) is may


def test_without_a_failure_all_workers_start_at_once():
    assert Backoff().allows_start([worker(100.0), worker(100.0)], 100.0)
