"""What the master believes of a row into which a worker may have written anything."""

from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgid import board
from asgid.board import BYTES, Board, observe
from asgid.master.workers.ledger import Ledger

_NOW_NS = 10**15
_BUFFER = bytearray(BYTES)  # all tests use the first four rows of one board: to make 8 MB takes its time


class Books:
    """A board, its ledger, and what the ledger has reported."""

    def __init__(self) -> None:
        self.board = Board(_BUFFER)
        _BUFFER[: 4 * board.STRIDE * 8] = bytes(4 * board.STRIDE * 8)
        self.corrections: dict[int, dict[int, int]] = {}
        self.reports: list[tuple[int, str, int]] = []
        self.now_ns = _NOW_NS
        self.ledger = self.anew()

    def anew(self) -> Ledger:
        return Ledger(self.board, self.corrections, lambda: self.now_ns, lambda *report: self.reports.append(report))


@pytest.fixture
def books() -> Books:
    return Books()


def test_an_honest_row_is_read_as_it_stands(books):
    """Nothing is reported of it, whenever it is looked at."""
    row = books.board.row(2)
    books.ledger.open(2)
    row[board.HEARTBEAT_NS], row[board.CONNECTIONS], row[board.ACCEPTING] = _NOW_NS, 5, 1
    for _ in range(3):
        row[board.ACCEPTED] += 7
        observe(row, board.DURATION, 0.5)

        assert row.tolist() == books.ledger.row(2)
    assert books.ledger.counter(2, board.ACCEPTED) == 21
    assert books.reports == []


def test_a_heartbeat_of_the_future_is_no_heartbeat(books):
    """The worker is as silent as it was: it is found overdue, and the master waits until no year of the far future."""
    row = books.board.row(0)
    row[board.HEARTBEAT_NS] = _NOW_NS - 10
    books.ledger.beats([0])
    row[board.HEARTBEAT_NS] = 2**64 - 1

    assert books.ledger.beats([0]) == {0: (_NOW_NS - 10) / 1e9}
    assert books.ledger.row(0)[board.HEARTBEAT_NS] == _NOW_NS - 10
    assert books.reports == [(0, "HEARTBEAT_NS", 2**64 - 1)]


def test_a_heartbeat_does_not_fall(books):
    """A clock that is monotonic does not, either."""
    books.board.row(0)[board.HEARTBEAT_NS] = 10**10
    books.ledger.beats([0])
    books.board.row(0)[board.HEARTBEAT_NS] = 5

    assert books.ledger.beats([0]) == {0: 10.0}


@pytest.mark.parametrize("gauge", [board.CONNECTIONS, board.QUEUED, board.WEBSOCKETS, board.LAG_NS])
def test_a_gauge_beyond_all_that_is_possible_reads_as_nothing(books, gauge):
    """No process holds so many descriptors, and no loop was late for longer than the machine runs."""
    books.board.row(1)[gauge] = 2**64 - 5

    assert books.ledger.row(1)[gauge] == 0
    assert [(slot, content) for slot, _, content in books.reports] == [(1, 2**64 - 5)]


@pytest.mark.parametrize("content", [0, 99, 100 + 2**44, 2**63, 2**64 - 1])
def test_a_counter_neither_falls_nor_leaps(books, content):
    """The last number that was possible stays, and what is counted from there on counts."""
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


def test_a_cell_that_ran_over_goes_on(books):
    """The sum of many long requests needs more than 64 bits some day."""
    row, cell = books.board.row(0), board.DURATION + board.SUM
    row[cell] = 2**64 - 10
    books.ledger.open(0)
    row[cell] = 5

    assert books.ledger.row(0)[cell] == 2**64 + 5
    assert books.ledger.counter(0, cell) == 2**64 + 5
    assert books.reports == []


def test_a_slot_is_reported_once_for_each_of_its_workers(books):
    """A worker that writes on does not fill the log."""
    for _ in range(2):
        for content in (2**40, 2**41):
            books.board.row(0)[board.CONNECTIONS] = books.board.row(0)[board.QUEUED] = content
            books.ledger.row(0)
            books.ledger.row(0)
        books.ledger.retire(0)

    assert books.reports == [(0, "CONNECTIONS", 2**40)] * 2


def test_retiring_a_slot_ends_its_gauges_and_keeps_its_counts(books):
    """What was in flight when a worker died has ended with it; nothing it had counted is lost."""
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
@example({board.STARTED: board.MAX_OPEN + 94})  # more in flight than in_flight tells
@example({board.DURATION: 2**40})  # more ended than begun
@example({board.DURATION: 2**64 - 1, board.STARTED: 2**43})
def test_the_next_worker_of_a_slot_finds_a_row_that_it_can_count_in(garbage):
    """A row that the last one has filled with anything costs the next one no request, and no reload is needed."""
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


def test_a_program_that_takes_over_believes_the_same_numbers(books):
    """What is corrected is handed over with the board, for the cells still hold what they held."""
    row = books.board.row(0)
    books.ledger.open(0)
    row[board.ACCEPTED] = 100
    books.ledger.row(0)
    row[board.ACCEPTED] = 2**63
    believed = books.ledger.row(0)
    row[board.ACCEPTED] += 1

    assert believed[board.ACCEPTED] == 100
    assert books.anew().row(0)[board.ACCEPTED] == 101
