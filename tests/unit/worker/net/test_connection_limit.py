"""The limit on connections: the decisions at the limit, below it, and beside siblings with fewer connections."""

from math import inf

import pytest

from asgid.worker.net.connection_limit import PAUSE, RESUME, UNCHANGED, YIELD, ConnectionLimit


def alone() -> float:
    """Return the fewest connections of a sibling if there is none."""
    return inf


def test_accepting_pauses_at_the_limit():
    limit = ConnectionLimit(3)

    assert [UNCHANGED, UNCHANGED, PAUSE] == [limit.opened(alone) for _ in range(3)]
    assert (3, True) == (limit.open, limit.is_paused)


def test_accepting_resumes_once_below_the_limit():
    limit = ConnectionLimit(2)
    limit.opened(alone)
    limit.opened(alone)

    assert [RESUME, UNCHANGED] == [limit.closed(), limit.closed()]
    assert (0, False) == (limit.open, limit.is_paused)


def test_connections_above_the_limit_do_not_pause_again():
    """One turn of the loop may accept several: accepting pauses once, and resumes only below the limit."""
    limit = ConnectionLimit(1)

    assert [PAUSE, UNCHANGED] == [limit.opened(alone), limit.opened(alone)]
    assert [UNCHANGED, RESUME] == [limit.closed(), limit.closed()]


def test_accepting_pauses_each_time_the_limit_is_reached():
    limit = ConnectionLimit(1)

    assert [PAUSE, RESUME] * 3 == [decide() for _ in range(3) for decide in (lambda: limit.opened(alone), limit.closed)]


def test_a_worker_that_drains_never_resumes():
    """Its listening sockets are closed for good."""
    limit = ConnectionLimit(1)
    limit.opened(alone)
    limit.stop()

    assert UNCHANGED is limit.closed()


def test_a_worker_that_drains_does_not_yield():
    """It accepts the rest of the queue, even beyond the limit: to yield would watch the queue again."""
    limit = ConnectionLimit(2)
    limit.stop()

    assert [UNCHANGED] * 5 == [limit.opened(lambda: 0) for _ in range(5)]
    assert 5 == limit.open


@pytest.mark.parametrize(
    ("connections", "fewest", "decision"),
    [(1, 0, UNCHANGED), (2, 0, YIELD), (12, 10, UNCHANGED), (13, 10, YIELD), (50, inf, UNCHANGED)],
)
def test_a_worker_with_more_connections_than_a_sibling_yields(connections, fewest, decision):
    """More is a tenth and one above the sibling with the fewest; without siblings no worker yields."""
    limit = ConnectionLimit(100)
    for _ in range(connections - 1):
        limit.opened(alone)

    assert decision is limit.opened(lambda: fewest)


def test_at_the_limit_a_worker_does_not_yield():
    limit = ConnectionLimit(2)
    limit.opened(alone)

    assert PAUSE is limit.opened(lambda: 0)


def test_while_connections_close_soon_no_worker_yields():
    """Any worker may take a connection that closes soon; `decay` lets the past count less."""
    limit = ConnectionLimit(100)
    for _ in range(5):
        limit.opened(alone)
        limit.closed()

    assert [UNCHANGED, UNCHANGED, UNCHANGED] == [limit.opened(lambda: 0) for _ in range(3)]
    for _ in range(20):
        limit.decay()
    assert YIELD is limit.opened(lambda: 0)
