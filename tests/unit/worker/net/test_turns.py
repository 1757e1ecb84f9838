"""The time of a turn is shared, and postponed work runs in order in later turns."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import pytest

from asgid.worker.net.turns import SHARE_S, Turns


class Loop:
    """A loop whose turns the test runs."""

    def __init__(self) -> None:
        self.ready: deque[Callable[[], Any]] = deque()

    def call_soon(self, call: Callable[..., Any], *args: Any) -> None:
        self.ready.append(partial(call, *args))

    def turn(self) -> None:
        for _ in range(len(self.ready)):
            self.ready.popleft()()


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    clock = Clock()
    with patch("asgid.worker.net.turns.monotonic", clock):
        yield clock


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def turns(loop):
    return Turns(cast("Any", loop))


def test_a_turn_without_a_call_schedules_no_callback(turns, loop):
    """After the first call there is at most one callback for each turn."""
    assert not loop.ready
    assert turns.notice() == turns.notice() == turns.number
    turns.is_spent(100.0)
    assert 1 == len(loop.ready)
    loop.turn()
    assert 1 == turns.number
    assert not loop.ready


def test_the_time_of_a_turn_begins_with_the_first_call(turns, loop):
    """All callers of one turn share it; the next turn has its own."""
    assert not turns.is_spent(100.0)
    assert not turns.is_spent(100.0 + SHARE_S * 0.9)
    assert turns.is_spent(100.0 + SHARE_S)
    loop.turn()
    assert not turns.is_spent(100.0 + SHARE_S)


def test_postponed_work_runs_in_order_until_the_time_is_spent(turns, loop, clock):
    """At least one call runs in each turn. A call that postpones itself again is the last one."""
    done: list[str] = []

    def work(name: str, seconds: float) -> None:
        done.append(name)
        clock.now += seconds
        if name == "a":
            turns.later(partial(work, "again", 0.0))

    for name in "abc":
        turns.later(partial(work, name, SHARE_S))
    loop.turn()
    assert ["a"] == done
    loop.turn()
    assert ["a", "b"] == done
    loop.turn()
    loop.turn()
    assert ["a", "b", "c", "again"] == done
    loop.turn()
    assert not loop.ready


def test_work_that_postpones_itself_runs_once_a_turn(turns, loop):
    """Work that takes no time does not keep the loop from its sockets."""
    done: list[int] = []

    def work() -> None:
        done.append(turns.number)
        turns.later(work)

    turns.later(work)
    for _ in range(3):
        loop.turn()

    assert [1, 2, 3] == done


def test_work_that_raises_does_not_stop_other_work(turns, loop):
    done: list[str] = []
    turns.later(partial(int, "not a number"))
    turns.later(partial(done.append, "other"))
    with pytest.raises(ValueError, match="not a number"):
        loop.turn()
    loop.turn()

    assert ["other"] == done


def test_postponed_work_counts_towards_the_time_of_its_turn(turns, loop, clock):
    """Reads in the same turn get the rest."""

    def work() -> None:
        clock.now += SHARE_S

    turns.later(work)
    loop.turn()

    assert turns.is_spent(clock.now)
