"""The limit of concurrent requests: up to it they start, then they wait in a queue, then they are rejected."""

from time import process_time

import pytest

from asgid.config.tables import Limits
from asgid.worker.http.request_limit import QUEUED, REJECTED, STARTED, RequestLimit


def make_limit(maximum: int = 2, max_queued: int = 2, queue_timeout: float = 5.0) -> RequestLimit[str]:
    return RequestLimit(maximum, max_queued, queue_timeout)


def test_requests_start_up_to_the_limit_then_wait_then_are_rejected():
    limit = make_limit()

    assert [STARTED, STARTED, QUEUED, QUEUED, REJECTED] == [limit.enter(name, 10.0) for name in "abcde"]
    assert (limit.running, len(limit)) == (2, 2)


def test_leave_returns_the_request_that_waited_longest():
    """That request starts at once, so a new request does not overtake it."""
    limit = make_limit()
    for name in "abcd":
        limit.enter(name, 10.0)

    assert limit.leave() == "c"
    assert limit.enter("e", 10.0) is QUEUED
    assert [limit.leave(), limit.leave(), limit.leave(), limit.leave()] == ["d", "e", None, None]
    assert limit.running == 0


def test_without_a_queue_a_request_above_the_limit_is_rejected():
    limit = make_limit(maximum=1, max_queued=0)
    limit.enter("a", 10.0)

    assert limit.enter("b", 10.0) is REJECTED


def test_a_withdrawn_request_does_not_start():
    """`leave` returns the next one. A request that is not in the queue is ignored."""
    limit = make_limit()
    started, _, waiting, _ = names = list("abcd")
    for name in names:
        limit.enter(name, 10.0)
    limit.withdraw(waiting)
    limit.withdraw(started)  # not in the queue

    assert len(limit) == 1
    assert limit.leave() == "d"


def test_the_time_to_withdraw_a_request_does_not_depend_on_the_length_of_the_queue():
    """A search through the queue for each request takes eight seconds here."""
    limit = RequestLimit[object](1, 20_000, 5.0)
    requests = [object() for _ in range(20_001)]
    for request in requests:
        limit.enter(request, 0.0)

    start_s = process_time()
    for request in requests[1:10_001]:
        limit.withdraw(request)
    started = [limit.leave() for _ in range(10_000)]

    assert requests[10_001:] == started
    assert process_time() - start_s < 4.0


def test_requests_expire_in_the_order_of_their_arrival():
    limit = make_limit(maximum=1, max_queued=3, queue_timeout=5.0)
    for name, now in (("a", 0.0), ("b", 10.0), ("c", 11.0), ("d", 12.0)):
        limit.enter(name, now)

    assert limit.pop_expired(14.9) == []
    assert limit.pop_expired(16.0) == ["b", "c"]
    assert limit.leave() == "d"


SETTINGS = {
    # settings: (limits, threads, how many of 99 requests start, how many wait)
    "nothing": ({}, None, 99, 0),
    "a queue without a limit": ({"queue": 5}, None, 99, 0),
    "a limit": ({"requests": 3}, None, 3, 0),
    "a limit and a queue": ({"requests": 3, "queue": 5}, None, 3, 5),
    "threads": ({"connections": 50}, 4, 4, 50),
    "threads and a queue": ({"queue": 5}, 4, 4, 5),
    "threads and a limit below them": ({"requests": 3}, 4, 3, 0),
    "threads and a limit above them": ({"requests": 9, "queue": 5}, 4, 4, 5),
}


@pytest.mark.parametrize(("limits", "threads", "start", "wait"), SETTINGS.values(), ids=SETTINGS.keys())
def test_from_settings_limits_the_requests_to_the_threads(limits, threads, start, wait):
    """Without a setting for the queue, each connection may wait for a thread, but none for `limits.requests`."""
    limit = RequestLimit[int].from_settings(Limits(**limits), threads)
    entries = [limit.enter(number, 0.0) for number in range(99)] if limit is not None else [STARTED] * 99

    assert (start, wait) == (entries.count(STARTED), entries.count(QUEUED))
