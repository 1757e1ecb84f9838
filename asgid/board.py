"""The board: rows of 64-bit cells in memory that the master and all workers share.

Each slot has a row, and the worker in the slot is its only writer. A scrape reads the rows and costs the workers
nothing. The counts of a killed worker are still there. A row belongs to the slot, so the next worker in the slot
continues its counts, and no total and no series goes backwards. Times are nanoseconds of CLOCK_MONOTONIC, which all
processes of a machine share. An increment is one read and one aligned 8-byte store (0.05 µs, measured). One writer
needs no lock.

A worker is not trusted: an application may write anything into its row. Each row begins at a page, so a worker can have
its own row writable and no other. The master reads rows through `asgid/master/workers/ledger.py` only.

During an upgrade in place, a new version takes the board over while workers of the old version write to it. So `LAYOUT`
has the name and the place of each cell, and a later version only appends. A new gauge takes a spare cell; a new counter
goes to the end of the row.

This file does not know processes, nor the origin of the buffer.
"""

import ctypes
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from mmap import PAGESIZE
from typing import Any, TypeAlias

#: CELLS unsigned 64-bit cells. A worker counts in the second type, see `counting`.
Row: TypeAlias = "memoryview[int] | ctypes.Array[ctypes.c_uint64]"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "OTHER")
# IANA's registry (RFC 9110 section 16.2), and some codes that frameworks send. http.HTTPStatus differs between versions
# of Python, and the layout must not.
CODES = (
    *map(
        str, (*range(100, 104), *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 419), *range(421, 427))
    ),
    *map(str, (428, 429, 431, 451, *range(500, 509), 510, 511)),
    "other",
)
TIMEOUT_PHASES = ("header", "body", "write", "keep_alive", "request", "queue")
PROTOCOL_ERRORS = (
    "malformed",
    "request_line",
    "header_size",
    "header_count",
    "body_size",
    "framing",
    "expect",
)
# RFC 6455 section 7.4.1 and IANA. Codes from 3000 belong to applications.
CLOSE_CODES = (*map(str, (*range(1000, 1004), *range(1005, 1015))), "other")

#: Upper bounds in seconds; +Inf follows. From a cached response (0.5 ms) to a slow report (10 s), three a decade.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FIRST = BUCKETS[0]
_HISTOGRAM = len(BUCKETS) + 2  # one cell for each bucket, +Inf, and the sum in nanoseconds
SUM = _HISTOGRAM - 1  # offset of the sum in a histogram

_places: dict[str, tuple[int, int]] = {}  # name of a cell, or of cells in a row -> offset and width


def _place(name: str, width: int = 1) -> int:
    """Return the offset of the next `width` cells, under a name in LAYOUT."""
    offset = sum(width for _, width in _places.values())
    _places[name] = offset, width
    return offset


# Gauges come first: they end with their worker.
HEARTBEAT_NS = _place("HEARTBEAT_NS")  # time of the last turn of the worker's event loop
LAG_NS = _place("LAG_NS")  # delay of that turn
CONNECTIONS = _place("CONNECTIONS")  # open now
QUEUED = _place("QUEUED")  # waiting requests
ACCEPTING = _place("ACCEPTING")  # 1 while the worker accepts connections
WEBSOCKETS = _place("WEBSOCKETS")  # open WebSockets
_place("SPARE", 10)
FIRST_COUNTER = STARTED = _place("STARTED")  # requests begun
ABANDONED = _place("ABANDONED")  # of these, ended without a complete response
ACCEPTED = _place("ACCEPTED")
LIMIT_REACHED = _place("LIMIT_REACHED")
REQUEST_BYTES = _place("REQUEST_BYTES")
RESPONSE_BYTES = _place("RESPONSE_BYTES")
OVERLOADED = _place("OVERLOADED")
DISCONNECTS = _place("DISCONNECTS")
EXCEPTIONS = _place("EXCEPTIONS")
SLOW = _place("SLOW")
TIMEOUTS = _place("TIMEOUTS", len(TIMEOUT_PHASES))
PROTOCOL = _place("PROTOCOL", len(PROTOCOL_ERRORS))
DURATION = _place("DURATION", _HISTOGRAM)
START = _place("START", _HISTOGRAM)
AT_ONCE = _place("AT_ONCE", _HISTOGRAM)  # begun and completed at the same moment: counts as a duration and as a start
REQUESTS = _place("REQUESTS", len(METHODS) * len(CODES))
PROXY_ERRORS = _place("PROXY_ERRORS")  # connections closed because of their PROXY header
WEBSOCKET_ERRORS = _place("WEBSOCKET_ERRORS")  # handshakes refused
WEBSOCKET_RECEIVED = _place("WEBSOCKET_RECEIVED")  # messages
WEBSOCKET_SENT = _place("WEBSOCKET_SENT")
WEBSOCKET_CLOSES = _place("WEBSOCKET_CLOSES", len(CLOSE_CODES))
CELLS = sum(width for _, width in _places.values())

# Cells from row to row: space for counters of later versions, in whole pages (4, 16 or 64 KiB; getconf PAGESIZE).
STRIDE = max(1024, PAGESIZE // 8)
SLOTS = 1024  # unused rows cost no memory
#: Limit of `workers.count`. A surge of the same size has slots too; if drains take long, a start waits for a slot.
MAX_WORKERS = 500
# After the rows, in a page of its own, is one cell of the master: the number of slots that were ever used. The master
# writes it for the workers and never reads it.
BYTES = (SLOTS * STRIDE + 1) * 8
#: No process has more descriptors (fs.nr_open, proc_sys_fs(5)), so none has more connections or requests.
MAX_OPEN = 2**30
#: A heartbeat up to this far ahead of the reader's time was written after the reader read its clock.
MAX_AHEAD_NS = 1_000_000_000

#: Values that both versions of an upgrade must share, and the cells by name, with offset and width.
LAYOUT: Mapping[str, Any] = {
    "slots": SLOTS,
    "stride": STRIDE,
    "buckets": list(BUCKETS),
    "methods": list(METHODS),
    "codes": list(CODES),
    "cells": {name: [*place] for name, place in _places.items() if name != "SPARE"},
}

TIMEOUT_CELL = {phase: TIMEOUTS + index for index, phase in enumerate(TIMEOUT_PHASES)}
PROTOCOL_CELL = {kind: PROTOCOL + index for index, kind in enumerate(PROTOCOL_ERRORS)} | {
    "proxy": PROXY_ERRORS,
    "websocket": WEBSOCKET_ERRORS,
}


class _CodeCells(dict[int, int]):
    """The cell of each code; an unregistered code has the cell of `other`, the last of `codes`."""

    def __init__(self, codes: Sequence[str], first: int) -> None:
        super().__init__((int(code), first + index) for index, code in enumerate(codes[:-1]))
        self._other = first + len(codes) - 1

    def __missing__(self, status: int) -> int:
        return self._other


class _MethodCells(dict[str, _CodeCells]):
    """The cells of each method; a method that is not in METHODS has those of OTHER."""

    def __missing__(self, method: str) -> _CodeCells:
        return self["OTHER"]


#: REQUEST_CELL[method][status] counts responses; a function would be slower.
REQUEST_CELL = _MethodCells(
    (method, _CodeCells(CODES, REQUESTS + index * len(CODES))) for index, method in enumerate(METHODS)
)

#: WEBSOCKET_CLOSE_CELL[code] counts closed WebSockets.
WEBSOCKET_CLOSE_CELL = _CodeCells(CLOSE_CODES, WEBSOCKET_CLOSES)


def observe(row: Row, histogram: int, elapsed_s: float) -> None:
    """Add one observation to DURATION, START or AT_ONCE: its bucket, then the sum."""
    # Most responses of a fast application belong to the first bucket, which needs no search.
    row[histogram + (bisect_left(BUCKETS, elapsed_s) if elapsed_s > _FIRST else 0)] += 1
    row[histogram + SUM] += int(elapsed_s * 1e9)


def count_answer(cells: "memoryview[int]", request: int, size: int, histogram: int, elapsed_s: float) -> None:
    """Count a complete response: its REQUEST_CELL, its bytes, and its duration in DURATION or AT_ONCE."""
    elapsed_ns = int(elapsed_s * 1e9)
    bucket = histogram if elapsed_s <= _FIRST else histogram + bisect_left(BUCKETS, elapsed_s)
    try:
        cells[histogram + SUM] += elapsed_ns  # first: only this one can be full, unless an application wrote to the row
        cells[request] += 1
        cells[RESPONSE_BYTES] += size
        cells[bucket] += 1
    except ValueError:
        for cell, number in (histogram + SUM, elapsed_ns), (request, 1), (RESPONSE_BYTES, size), (bucket, 1):
            counting(cells)[cell] += number


def histogram(row: "Row | Sequence[int]", start: int) -> tuple[list[int], float]:
    """Return DURATION or START: the count in each bucket (+Inf last, not cumulative) and the sum in seconds."""
    both = [a + b for a, b in zip(row[start : start + _HISTOGRAM], row[AT_ONCE : AT_ONCE + _HISTOGRAM], strict=True)]
    return both[:-1], both[-1] / 1e9


def in_flight(row: "Row | Sequence[int]") -> int:
    """Return the number of requests in progress. It is derived: the end of a request writes no cell for it."""
    # Not below 0, although the worker writes during the read.
    return min(max(0, row[STARTED] - row[ABANDONED] - sum(histogram(row, DURATION)[0])), MAX_OPEN)


def name_of(cell: int) -> str:
    """Return the name of a cell in LAYOUT."""
    return next(name for name, (offset, width) in _places.items() if cell < offset + width)


def counting(row: "memoryview[int]") -> Row:
    """Return the same cells for counting, with wrap-around: a full cell continues at 0, and 0 minus 1 is the maximum.

    A memoryview would raise there, in the middle of a request. A sum of nanoseconds is full after 292 years of
    requests, which 10,000 concurrent streams reach in eleven days. But an increment of a memoryview takes half as many
    instructions (620 instead of 1170). So requests and connections try a memoryview first, and count here if it raises.
    """
    return (ctypes.c_uint64 * len(row)).from_buffer(row)


def layout_difference(other: Mapping[str, Any]) -> str:
    """Return the first part of `other`, the layout of another version, that differs; "" if both can share a board."""
    ours = LAYOUT["cells"]
    for name, place in other["cells"].items():
        if name in ours and ours[name] != place:
            return f"the cells of {name}"
    return next((part for part in LAYOUT if part != "cells" and LAYOUT[part] != other[part]), "")


class Board:
    """All rows, in a buffer of BYTES zero bytes. The master uses a memory file, which an upgrade passes on."""

    def __init__(
        self, buffer: "memoryview | bytearray | bytes", own: "Mapping[int, memoryview[int]] | None" = None
    ) -> None:
        """`own` are rows with a mapping of their own, by slot: in a worker its writable row."""
        self._cells = memoryview(buffer).cast("B").cast("Q")
        self._own = own or {}

    def row(self, slot: int) -> "memoryview[int]":
        """Return the cells of `slot` (0 to SLOTS - 1)."""
        if not 0 <= slot < SLOTS:
            raise AssertionError(f"slot {slot} is outside 0 to {SLOTS - 1}")
        if slot in self._own:
            return self._own[slot]
        return self._cells[slot * STRIDE : slot * STRIDE + CELLS]

    def set_used_slots(self, slots: int) -> None:
        """Set the number of slots that were ever used, for the workers. Only the master calls it."""
        self._cells[-1] = slots

    def siblings(self, slot: int, since_ns: int, now_ns: int) -> "list[memoryview[int]]":
        """Return the rows of the other workers with a heartbeat after `since_ns`.

        Another process can write anything to its row, so a heartbeat in the future does not count.
        """
        rows = (self.row(other) for other in range(min(self._cells[-1], SLOTS)) if other != slot)
        return [row for row in rows if since_ns < row[HEARTBEAT_NS] <= now_ns + MAX_AHEAD_NS]
