"""Requests at a time: so many begin, so many wait, the rest is refused; and whoever waited longest goes first."""

from time import process_time

import pytest

from asgid.config import Limits
from asgid.worker.http.request_limit import QUEUED, REJECTED, STARTED, RequestLimit


def make_limit(maximum: int = 2, max_queued: int = 2, queue_timeout: float = 5.0) -> RequestLimit[str]:
    return RequestLimit(maximum, max_queued, queue_timeout)


def test_up_to_the_cap_they_begin_then_wait_then_are_refused():
    """The waiting room is bounded too."""
    full = make_limit()

    assert [STARTED, STARTED, QUEUED, QUEUED, REJECTED] == [full.enter(name, 10.0) for name in "abcde"]
    assert (full.running, len(full)) == (2, 2)


def test_a_place_goes_to_who_waited_longest():
    """It is taken at once: nobody who comes now is faster."""
    full = make_limit()
    for name in "abcd":
        full.enter(name, 10.0)

    assert full.leave() == "c"
    assert full.enter("e", 10.0) is QUEUED
    assert [full.leave(), full.leave(), full.leave(), full.leave()] == ["d", "e", None, None]
    assert full.running == 0


def test_without_a_room_nobody_waits():
    """`limits.queue = 0` refuses at the cap."""
    full = make_limit(maximum=1, max_queued=0)
    full.enter("a", 10.0)

    assert full.enter("b", 10.0) is REJECTED


def test_who_has_left_is_struck_out():
    """And takes nobody's place."""
    full = make_limit()
    begun, _, waiting, _ = names = list("abcd")
    for name in names:
        full.enter(name, 10.0)
    full.withdraw(waiting)
    full.withdraw(begun)  # not in the room

    assert len(full) == 1
    assert full.leave() == "d"


def test_a_crowd_that_leaves_costs_no_more_than_it_did_to_come():
    """Each is struck out by itself, however many wait: by a look at all of them this takes eight seconds."""
    full = RequestLimit[object](1, 20_000, 5.0)
    crowd = [object() for _ in range(20_001)]
    for who in crowd:
        full.enter(who, 0.0)

    begun = process_time()
    for who in crowd[1:10_001]:
        full.withdraw(who)
    taken = [full.leave() for _ in range(10_000)]

    assert crowd[10_001:] == taken
    assert process_time() - begun < 4.0


def test_patience_ends_in_the_order_of_arrival():
    """Each waits as long as the next."""
    full = make_limit(maximum=1, max_queued=3, queue_timeout=5.0)
    for name, now in (("a", 0.0), ("b", 10.0), ("c", 11.0), ("d", 12.0)):
        full.enter(name, now)

    assert full.pop_expired(14.9) == []
    assert full.pop_expired(16.0) == ["b", "c"]
    assert full.leave() == "d"


WITHIN = {
    # what is set: (limits, threads, how many of 99 begin, how many wait)
    "nothing": ({}, None, 99, 0),
    "a queue without a cap": ({"queue": 5}, None, 99, 0),
    "a cap": ({"requests": 3}, None, 3, 0),
    "a cap and a queue": ({"requests": 3, "queue": 5}, None, 3, 5),
    "threads": ({"connections": 50}, 4, 4, 50),
    "threads and a queue": ({"queue": 5}, 4, 4, 5),
    "threads and a cap below them": ({"requests": 3}, 4, 3, 0),
    "threads and a cap above them": ({"requests": 9, "queue": 5}, 4, 4, 5),
}


@pytest.mark.parametrize(("limits", "threads", "begin", "wait"), WITHIN.values(), ids=WITHIN.keys())
def test_threads_are_a_cap_and_a_cap_alone_lets_nobody_wait(limits, threads, begin, wait):
    """Where nobody has set one, whoever is connected may wait for a thread."""
    found = RequestLimit[int].from_settings(Limits(**limits), threads)
    entries = [found.enter(number, 0.0) for number in range(99)] if found is not None else [STARTED] * 99

    assert (begin, wait) == (entries.count(STARTED), entries.count(QUEUED))
