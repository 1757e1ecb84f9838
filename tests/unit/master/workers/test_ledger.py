"""The numbers that the master accepts from a row into which a worker may have written anything."""

from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgid import board
from asgid.board import BYTES, Board, observe
from asgid.master.workers.ledger import Ledger

NOW_NS = 10**15
BUFFER = bytearray(BYTES)  # shared by all tests, in its first four rows: 8 MB take long to make


class Books:
    """A board, its ledger, and what the ledger has reported."""

    def __init__(self) -> None:
        self.board = Board(BUFFER)
        BUFFER[: 4 * board.STRIDE * 8] = bytes(4 * board.STRIDE * 8)
        self.corrections: dict[int, dict[int, int]] = {}
        self.reports: list[tuple[int, str, int]] = []
        self.now_ns = NOW_NS
        self.ledger = self.new_ledger()

    def new_ledger(self) -> Ledger:
        return Ledger(self.board, self.corrections, lambda: self.now_ns, lambda *report: self.reports.append(report))


@pytest.fixture
def books() -> Books:
    return Books()


def test_a_valid_row_is_read_unchanged(books):
    row = books.board.row(2)
    books.ledger.open(2)
    row[board.HEARTBEAT_NS], row[board.CONNECTIONS], row[board.ACCEPTING] = NOW_NS, 5, 1
    for _ in range(3):
        row[board.ACCEPTED] += 7
        observe(row, board.DURATION, 0.5)

        assert row.tolist() == books.ledger.row(2)
    assert books.ledger.counter(2, board.ACCEPTED) == 21
    assert books.reports == []


def test_a_heartbeat_in_the_future_is_ignored(books):
    """The last heartbeat stays, so the worker misses its deadline in time."""
    row = books.board.row(0)
    row[board.HEARTBEAT_NS] = NOW_NS - 10
    books.ledger.heartbeats([0])
    row[board.HEARTBEAT_NS] = 2**64 - 1

    assert books.ledger.heartbeats([0]) == {0: (NOW_NS - 10) / 1e9}
    assert books.ledger.row(0)[board.HEARTBEAT_NS] == NOW_NS - 10
    assert books.reports == [(0, "HEARTBEAT_NS", 2**64 - 1)]


def test_an_earlier_heartbeat_is_ignored(books):
    books.board.row(0)[board.HEARTBEAT_NS] = 10**10
    books.ledger.heartbeats([0])
    books.board.row(0)[board.HEARTBEAT_NS] = 5

    assert books.ledger.heartbeats([0]) == {0: 10.0}


@pytest.mark.parametrize("gauge", [board.CONNECTIONS, board.QUEUED, board.WEBSOCKETS, board.LAG_NS])
def test_a_gauge_above_its_maximum_is_read_as_zero(books, gauge):
    """No process has so many descriptors, and no loop is late by more than the machine's uptime."""
    books.board.row(1)[gauge] = 2**64 - 5

    assert books.ledger.row(1)[gauge] == 0
    assert [(slot, content) for slot, _, content in books.reports] == [(1, 2**64 - 5)]


@pytest.mark.parametrize("content", [0, 99, 100 + 2**44, 2**63, 2**64 - 1])
def test_a_counter_that_falls_or_leaps_keeps_its_last_valid_number(books, content):
    row = books.board.row(1)
    books.ledger.open(1)
    row[board.ACCEPTED] = 100
    books.ledger.row(1)
    row[board.ACCEPTED] = content

    assert books.ledger.counter(1, board.ACCEPTED) == 100
    assert books.ledger.row(1)[board.ACCEPTED] == 100

    row[board.ACCEPTED] = (content + 3) % 2**64

    assert books.ledger.row(1)[board.ACCEPTED] == 103
    assert books.reports == [(1, "ACCEPTED", content)]


def test_a_cell_that_wraps_around_goes_on_counting(books):
    """The sum of many long requests may need more than 64 bits."""
    row, cell = books.board.row(0), board.DURATION + board.SUM
    row[cell] = 2**64 - 10
    books.ledger.open(0)
    row[cell] = 5

    assert books.ledger.row(0)[cell] == 2**64 + 5
    assert books.ledger.counter(0, cell) == 2**64 + 5
    assert books.reports == []


def test_a_slot_is_reported_once_for_each_of_its_workers(books):
    """A worker that writes more invalid numbers does not fill the log."""
    for _ in range(2):
        for content in (2**40, 2**41):
            books.board.row(0)[board.CONNECTIONS] = books.board.row(0)[board.QUEUED] = content
            books.ledger.row(0)
            books.ledger.row(0)
        books.ledger.retire(0)

    assert books.reports == [(0, "CONNECTIONS", 2**40)] * 2


def test_retiring_a_slot_clears_its_gauges_and_keeps_its_counters(books):
    row = books.board.row(2)
    for gauge in range(board.FIRST_COUNTER):
        row[gauge] = 7
    row[board.STARTED], row[board.ABANDONED], row[board.ACCEPTED] = 9, 3, 8
    observe(row, board.DURATION, 1.0)
    observe(row, board.AT_ONCE, 1.0)

    assert board.in_flight(row) == 4

    books.ledger.retire(2)

    assert board.in_flight(row) == 0
    assert row[: board.FIRST_COUNTER].tolist() == [0] * board.FIRST_COUNTER
    assert row[board.STARTED : board.ACCEPTED + 1].tolist() == [9, 7, 8]
    assert books.ledger.row(2)[board.STARTED : board.ACCEPTED + 1] == [9, 7, 8]


@given(st.dictionaries(st.integers(0, board.CELLS - 1), st.integers(0, 2**64 - 1) | st.just(2**64 - 1)))
@example({board.STARTED: board.MAX_OPEN + 94})  # more in flight than in_flight returns
@example({board.DURATION: 2**40})  # more ends than starts
@example({board.DURATION: 2**64 - 1, board.STARTED: 2**43})
def test_after_any_garbage_the_next_worker_of_a_slot_can_count_in_its_row(garbage):
    """Garbage of the last worker costs the next one no request, and needs no reload."""
    books = Books()
    row = books.board.row(0)
    row[:] = memoryview(array("Q", [3] * board.CELLS))
    books.ledger.row(0)
    for cell, content in garbage.items():
        row[cell] = content
    before = books.ledger.row(0)
    books.ledger.retire(0)
    after = books.ledger.row(0)

    assert not any(row[: board.FIRST_COUNTER])
    assert all(old <= new for old, new in zip(before[board.STARTED :], after[board.STARTED :], strict=True))
    assert all(number < 2**64 for number in row)
    assert board.in_flight(after) == 0
    board.counting(row)[board.STARTED] += 1
    assert board.in_flight(books.ledger.row(0)) == 1


def test_a_new_program_reads_the_same_numbers(books):
    """The corrections are handed over with the board, because the cells still have their content."""
    row = books.board.row(0)
    books.ledger.open(0)
    row[board.ACCEPTED] = 100
    books.ledger.row(0)
    row[board.ACCEPTED] = 2**63
    accepted = books.ledger.row(0)
    row[board.ACCEPTED] += 1

    assert accepted[board.ACCEPTED] == 100
    assert books.new_ledger().row(0)[board.ACCEPTED] == 101
