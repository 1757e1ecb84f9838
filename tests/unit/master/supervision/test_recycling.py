"""The budget of a worker: it is due after enough requests, too much memory or a long life, and not before."""

from typing import Any

import pytest

from asgid.config.tables import Workers
from asgid.master.supervision.recycling import INTERVAL_S, SAMPLES, Recycling

GIB = 1 << 30


def serving(*slots: int, now: float = 100.0, requests: int = 0, chance: float = 0.0, **settings: Any) -> Recycling:
    """Return the budgets of workers that became ready at `now`, with `settings` in [workers]."""
    recycling = Recycling()
    for slot in slots or (0,):
        recycling.on_ready(slot, Workers(**settings), requests, now, chance)
    return recycling


def check(
    recycling: Recycling, now: float = 101.0, *, requests: int = 0, memory: int = 0, slots: tuple[int, ...] = (0,)
) -> tuple[int, str] | None:
    return recycling.first_expired(now, slots, lambda _: requests, lambda _: memory)


def test_without_limits_no_worker_is_checked():
    """The loop never wakes for it."""
    recycling = serving(0, 1)

    assert recycling.next_deadline() == float("inf")
    assert check(recycling, 1e9, requests=1 << 40, memory=1 << 50) is None


@pytest.mark.parametrize(
    ("served", "found"), [(9, None), (10, (0, "workers.max_requests")), (99, (0, "workers.max_requests"))]
)
def test_a_worker_is_due_after_max_requests(served, found):
    """Counted from the row at its ready: the requests of earlier workers in the slot are not its own."""
    recycling = serving(max_requests=10, requests=1000)

    assert check(recycling, requests=1000 + served) == found


@pytest.mark.parametrize(("chance", "last"), [(0.0, 10), (0.5, 12), (1.0, 14)])
def test_max_requests_jitter_raises_the_limit_at_random(chance, last):
    recycling = serving(max_requests=10, max_requests_jitter=4, chance=chance)

    assert check(recycling, requests=last - 1) is None
    assert check(recycling, requests=last) == (0, "workers.max_requests")


@pytest.mark.parametrize(("chance", "age"), [(0.0, 60.0), (1.0, 66.0)])
def test_a_worker_is_due_after_max_lifetime(chance, age):
    recycling = serving(max_lifetime=60.0, chance=chance)

    assert check(recycling, 100.0 + age - 0.01) is None
    assert check(recycling, 100.0 + age) == (0, "workers.max_lifetime")


def test_a_worker_is_due_after_several_checks_above_max_memory():
    """A peak is not a leak: one check below the limit starts the count again."""
    recycling = serving(max_memory=GIB)
    sizes = [GIB + 1] * (SAMPLES - 1) + [GIB] + [GIB + 1] * SAMPLES
    found = [check(recycling, 101.0 + number, memory=size) for number, size in enumerate(sizes)]

    assert [None] * (len(sizes) - 1) + [(0, "workers.max_memory")] == found


def test_one_worker_is_returned_at_a_time():
    recycling = serving(0, 1, 2, max_requests=5)

    assert check(recycling, requests=5, slots=(0, 1, 2)) == (0, "workers.max_requests")
    assert check(recycling, requests=5, slots=(1, 2)) == (1, "workers.max_requests")


def test_checks_come_once_a_second_while_a_worker_has_a_budget():
    recycling = serving(0, max_requests=5)

    assert recycling.next_deadline() == 100.0 + INTERVAL_S
    check(recycling, 101.5)
    assert recycling.next_deadline() == 101.5 + INTERVAL_S
    recycling.on_exit(0)
    check(recycling, 103.0)
    assert recycling.next_deadline() == float("inf")
