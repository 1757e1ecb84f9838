"""A worker's term: it ends when it has served enough, grown too large or lived long enough, and not before."""

from typing import Any

import pytest

from asgid.config import Workers
from asgid.master.supervision.recycling import INTERVAL_S, SAMPLES, Recycling

GIB = 1 << 30


def serving(*slots: int, now: float = 100.0, requests: int = 0, chance: float = 0.0, **settings: Any) -> Recycling:
    """Workers that got ready at `now` under `[workers]` with `settings`."""
    recycling = Recycling()
    for slot in slots or (0,):
        recycling.serves(slot, Workers(**settings), requests, now, chance)
    return recycling


def look(
    recycling: Recycling, now: float = 101.0, *, requests: int = 0, memory: int = 0, slots: tuple[int, ...] = (0,)
) -> tuple[int, str] | None:
    return recycling.spent(now, slots, lambda _: requests, lambda _: memory)


def test_without_limits_nobody_is_looked_at():
    """The loop is never woken for it."""
    recycling = serving(0, 1)

    assert recycling.next_deadline() == float("inf")
    assert look(recycling, 1e9, requests=1 << 40, memory=1 << 50) is None


@pytest.mark.parametrize(
    ("served", "found"), [(9, None), (10, (0, "workers.max_requests")), (99, (0, "workers.max_requests"))]
)
def test_so_many_requests_end_a_term(served, found):
    """Counted from what the slot's row held when the worker got ready: its predecessors' requests are not its own."""
    recycling = serving(max_requests=10, requests=1000)

    assert look(recycling, requests=1000 + served) == found


@pytest.mark.parametrize(("chance", "last"), [(0.0, 10), (0.5, 12), (1.0, 14)])
def test_jitter_spreads_the_ends(chance, last):
    """Up to max_requests_jitter more, by chance."""
    recycling = serving(max_requests=10, max_requests_jitter=4, chance=chance)

    assert look(recycling, requests=last - 1) is None
    assert look(recycling, requests=last) == (0, "workers.max_requests")


@pytest.mark.parametrize(("chance", "age"), [(0.0, 60.0), (1.0, 66.0)])
def test_a_long_life_ends_a_term(chance, age):
    """And by chance up to a tenth later."""
    recycling = serving(max_lifetime=60.0, chance=chance)

    assert look(recycling, 100.0 + age - 0.01) is None
    assert look(recycling, 100.0 + age) == (0, "workers.max_lifetime")


def test_memory_must_be_too_large_several_times_in_a_row():
    """A peak is no leak: one look at which it fits begins the count anew."""
    recycling = serving(max_memory=GIB)
    sizes = [GIB + 1] * (SAMPLES - 1) + [GIB] + [GIB + 1] * SAMPLES
    found = [look(recycling, 101.0 + number, memory=size) for number, size in enumerate(sizes)]

    assert [None] * (len(sizes) - 1) + [(0, "workers.max_memory")] == found


def test_one_is_named_at_a_time():
    """Also when all have served enough; the next look names the next."""
    recycling = serving(0, 1, 2, max_requests=5)

    assert look(recycling, requests=5, slots=(0, 1, 2)) == (0, "workers.max_requests")
    assert look(recycling, requests=5, slots=(1, 2)) == (1, "workers.max_requests")


def test_a_look_comes_once_a_second_while_somebody_has_a_term():
    """And ends with the last of them."""
    recycling = serving(0, max_requests=5)

    assert recycling.next_deadline() == 100.0 + INTERVAL_S
    look(recycling, 101.5)
    assert recycling.next_deadline() == 101.5 + INTERVAL_S
    recycling.left(0)
    look(recycling, 103.0)
    assert recycling.next_deadline() == float("inf")
