"""The cells of the board do not overlap, and a count is never lost."""

import json
import mmap
import subprocess
import sys
from http import HTTPStatus
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgid import board
from asgid.board import BUCKETS, BYTES, CLOSE_CODES, CODES, METHODS, REQUEST_CELL, Board, counting, histogram, observe

_NAMES = (
    "HEARTBEAT_NS",
    "LAG_NS",
    "CONNECTIONS",
    "QUEUED",
    "ACCEPTING",
    "WEBSOCKETS",
    "STARTED",
    "ABANDONED",
    "ACCEPTED",
    "LIMIT_REACHED",
    "REQUEST_BYTES",
    "RESPONSE_BYTES",
    "OVERLOADED",
    "DISCONNECTS",
    "EXCEPTIONS",
    "SLOW",
    "TIMEOUTS",
    "PROTOCOL",
    "DURATION",
    "START",
    "AT_ONCE",
    "REQUESTS",
    "PROXY_ERRORS",
    "WEBSOCKET_ERRORS",
    "WEBSOCKET_RECEIVED",
    "WEBSOCKET_SENT",
    "WEBSOCKET_CLOSES",
)


@pytest.fixture(scope="module")
def buffer() -> bytearray:
    return bytearray(BYTES)


@pytest.fixture
def rows(buffer) -> Board:
    """A board with eight zero rows at its beginning."""
    buffer[: 8 * board.STRIDE * 8] = bytes(8 * board.STRIDE * 8)
    return Board(buffer)


def test_the_cells_of_the_names_do_not_overlap():
    """Offsets increase, and each block has one cell for each of its labels."""
    offsets = [board.LAYOUT["cells"][name][0] for name in _NAMES]
    widths = [after - before for before, after in zip(offsets, [*offsets[1:], board.CELLS], strict=True)]
    observations = len(BUCKETS) + 2

    assert offsets[0] == 0
    assert widths[:5] == [1] * 5
    assert widths[6:16] == [1] * 10
    assert [6, 7, observations, observations, observations, len(METHODS) * len(CODES)] == widths[16:22]
    assert [1, 1, 1, 1, len(CLOSE_CODES)] == widths[22:]
    assert board.CELLS <= board.STRIDE


def test_every_code_of_http_status_has_a_cell():
    """The list is independent of the version of Python, but it must not miss a code."""
    assert {str(int(status)) for status in HTTPStatus} <= set(CODES)


def test_a_board_can_be_shared_with_a_version_that_only_appended():
    """In both directions, because cells with the same name have the same place."""
    layout = json.loads(json.dumps(board.LAYOUT))
    layout["cells"]["LATER"] = [board.CELLS, 3]
    del layout["cells"]["SLOW"]

    assert board.layout_difference(layout) == ""


@pytest.mark.parametrize(
    ("part", "value"), [("slots", 10), ("stride", 9), ("buckets", [0.1]), ("methods", ["GET"]), ("codes", ["200"])]
)
def test_a_board_with_another_layout_is_refused(part, value):
    """Counters would continue in cells with another meaning."""
    assert board.layout_difference({**board.LAYOUT, part: value}) == part


def test_a_board_whose_cells_have_moved_is_refused():
    """The result names the first cell that has moved."""
    cells = {name: [offset + (name == "SLOW"), width] for name, (offset, width) in board.LAYOUT["cells"].items()}

    assert board.layout_difference({**board.LAYOUT, "cells": cells}) == "the cells of SLOW"


def test_each_pair_of_method_and_code_has_its_own_cell():
    """Together with the cells for unregistered ones, the pairs fill the block of requests exactly."""
    known = {REQUEST_CELL[method][int(code)] for method in METHODS for code in CODES[:-1]}
    other = {REQUEST_CELL[method][299] for method in METHODS}

    assert set(range(board.REQUESTS, board.PROXY_ERRORS)) == known | other
    assert not known & other


@pytest.mark.parametrize("method", ["BREW", "get", "", "OTHER"])
def test_an_unregistered_method_counts_as_other(method):
    """A client cannot add series with invented methods."""
    assert REQUEST_CELL["OTHER"][200] == REQUEST_CELL[method][200]


@pytest.mark.parametrize("status", [0, 99, 299, 600, 999, -1])
def test_an_unregistered_status_counts_as_other(status):
    """An application cannot add series with invented codes."""
    assert REQUEST_CELL["GET"][298] == REQUEST_CELL["GET"][status]


@given(st.lists(st.floats(0, 20) | st.sampled_from(BUCKETS), max_size=30))
def test_an_observation_is_counted_in_the_first_bucket_with_a_bound_above_it(elapsed):
    """The bound belongs to the bucket (Prometheus: `le`), +Inf has the rest, and the sum is exact."""
    row = memoryview(bytearray(board.CELLS * 8)).cast("Q")
    for elapsed_s in elapsed:
        observe(row, board.DURATION, elapsed_s)
    counts, sum_s = histogram(row, board.DURATION)
    edges = (-1.0, *BUCKETS, float("inf"))
    expected = [sum(low < value <= high for value in elapsed) for low, high in pairwise(edges)]

    assert expected == counts
    assert sum(elapsed) == pytest.approx(sum_s, abs=1e-9 * (len(elapsed) + 1))
    assert not any(row[: board.DURATION])
    assert not any(row[board.START :])


def test_a_row_belongs_to_its_slot(rows):
    rows.row(3)[board.ACCEPTED] = 7
    rows.row(4)[0] = 1

    assert [rows.row(slot)[board.ACCEPTED] for slot in (1, 2, 3, 5)] == [0, 0, 7, 0]
    assert rows.row(3)[board.CELLS - 1] == 0


def test_the_maximum_of_workers_and_the_same_surge_have_slots():
    """Otherwise a reload could wait for itself."""
    assert 2 * board.MAX_WORKERS < board.SLOTS


@pytest.mark.parametrize("slot", [-1, board.SLOTS])
def test_a_slot_outside_of_the_board_is_an_error_with_its_number(rows, slot):
    """A negative index must not lead to the row of another worker."""
    with pytest.raises(AssertionError, match=f"slot {slot} is outside"):
        rows.row(slot)


def test_at_once_counts_as_a_start_and_as_a_duration(rows):
    """One observation for both, to save time in each request."""
    row = rows.row(1)
    observe(row, board.AT_ONCE, 0.003)
    observe(row, board.DURATION, 2.0)
    observe(row, board.START, 0.004)

    assert sum(histogram(row, board.DURATION)[0]) == 2
    assert histogram(row, board.DURATION)[1] == pytest.approx(2.003)
    assert histogram(row, board.START)[1] == pytest.approx(0.007)


@pytest.mark.parametrize(("size", "stride"), [(4096, 1024), (16384, 2048), (65536, 8192)])
def test_each_row_begins_at_a_page(size, stride):
    """A worker maps its own row writable, by pages: of 4 KiB on x86, of up to 64 KiB on Arm and POWER."""
    program = "import mmap; mmap.PAGESIZE = {}; from asgid import board; print(board.STRIDE, board.BYTES % 8)"
    found = subprocess.run([sys.executable, "-c", program.format(size)], capture_output=True, text=True, check=True)

    assert found.stdout.split() == [str(stride), "0"]
    assert board.STRIDE * 8 % mmap.PAGESIZE == 0


def test_a_full_cell_wraps_around_without_an_error(rows):
    """A sum of nanoseconds is full after 292 years of requests; no request must fail then."""
    row = counting(rows.row(3))
    row[board.DURATION + board.SUM] = 2**64 - 1
    row[board.CONNECTIONS] = 0
    observe(row, board.DURATION, 1e-8)
    row[board.CONNECTIONS] -= 1

    assert rows.row(3)[board.DURATION + board.SUM] == 9
    assert rows.row(3)[board.CONNECTIONS] == 2**64 - 1


@pytest.mark.parametrize("cell", [board.AT_ONCE + board.SUM, board.REQUESTS, board.RESPONSE_BYTES, board.AT_ONCE])
def test_a_response_is_counted_even_if_a_cell_is_full(rows, cell):
    """A memoryview raises if a cell is full; the response must not fail then."""
    row = rows.row(3)
    row[cell] = 2**64 - 1
    board.count_answer(row, board.REQUESTS, 1, board.AT_ONCE, 1e-9)

    assert row[cell] == 0


def test_siblings_with_an_old_or_a_future_heartbeat_are_ignored(rows):
    """A row with arbitrary numbers has no effect on the balance of connections."""
    now_ns = 10**12
    beats = {0: now_ns, 1: now_ns, 2: 1, 3: 2**64 - 1, 4: now_ns + 1000}
    for slot, beat in beats.items():
        rows.row(slot)[board.HEARTBEAT_NS] = beat
        rows.row(slot)[board.ACCEPTED] = slot
    rows.set_used_slots(2**64 - 1)
    found = rows.siblings(0, now_ns - 10**9, now_ns)
    rows.set_used_slots(0)

    assert [row[board.ACCEPTED] for row in found] == [1, 4]
    assert rows.siblings(0, now_ns - 10**9, now_ns) == []


@pytest.mark.parametrize("name", sorted(board.LAYOUT["cells"]))
def test_name_of_returns_the_block_of_a_cell(name):
    """The log names a cell with an impossible number."""
    offset, width = board.LAYOUT["cells"][name]

    assert name == board.name_of(offset) == board.name_of(offset + width - 1)
