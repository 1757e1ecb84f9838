"""The board: rows of 64-bit cells in memory that the master and all workers share.

One row a slot, one writer a row: the worker in that slot. A scrape reads the rows and costs the workers nothing; a
worker that is killed loses nothing, because what it had counted stands here. A row belongs to the slot and outlives its
workers: the next worker in the slot goes on counting where the last one stopped, so no total and no series ever goes
backwards. Times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. An increment is one read
and one aligned 8-byte store (measured: 0.05 µs); no lock is needed for one writer.

A worker is not trusted: an application may write anything into its own row. Each row begins at a page, so that a worker
can map its own one writable and no other; the master reads rows through `asgid/master/workers/ledger.py` only.

A master that is replaced in place hands the board on while the workers of the version before it still write there. So
what a cell is called and where it stands is told by `LAYOUT`, and a later version only appends: a gauge takes one of
the spare ones, a counter goes to the end of the row.

This file does not know what a process is, nor where the buffer comes from.
"""

import ctypes
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from mmap import PAGESIZE
from typing import Any, TypeAlias

#: Unsigned 64-bit cells, CELLS of them. A worker counts in the second kind, see `counting`.
Row: TypeAlias = "memoryview[int] | ctypes.Array[ctypes.c_uint64]"

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "OTHER")
# IANA's registry (RFC 9110 section 16.2), and some that frameworks send. Written out: http.HTTPStatus differs between
# Pythons, and the layout may not depend on that.
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
# Those that an endpoint may say or find (RFC 6455 section 7.4.1, IANA); from 3000 on they are the applications'.
CLOSE_CODES = (*map(str, (*range(1000, 1004), *range(1005, 1015))), "other")

#: Upper bounds in seconds; +Inf follows. From a cached answer (0.5 ms) to a slow report (10 s), about three a decade.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FIRST = BUCKETS[0]
_HISTOGRAM = len(BUCKETS) + 2  # a cell a bucket, +Inf, and the sum in nanoseconds
SUM = _HISTOGRAM - 1  # where in a histogram the sum stands

# Every cell has its place here and nowhere else: (name, width), gauges first, for they end with their worker.
_GAUGES = (
    ("HEARTBEAT_NS", 1),  # when the worker's event loop last turned
    ("LAG_NS", 1),  # how late that turn came
    ("CONNECTIONS", 1),  # open now
    ("QUEUED", 1),  # requests that wait for a place
    ("ACCEPTING", 1),  # 1 while the worker takes connections
    ("WEBSOCKETS", 1),  # open connections that are one
    ("SPARE", 10),
)
_COUNTERS = (
    ("STARTED", 1),  # requests begun
    ("ABANDONED", 1),  # those of them that ended without a whole answer
    ("ACCEPTED", 1),
    ("LIMIT_REACHED", 1),
    ("REQUEST_BYTES", 1),
    ("RESPONSE_BYTES", 1),
    ("OVERLOADED", 1),
    ("DISCONNECTS", 1),
    ("EXCEPTIONS", 1),
    ("SLOW", 1),
    ("TIMEOUTS", len(TIMEOUT_PHASES)),
    ("PROTOCOL", len(PROTOCOL_ERRORS)),
    ("DURATION", _HISTOGRAM),
    ("START", _HISTOGRAM),
    ("AT_ONCE", _HISTOGRAM),  # begun and ended in one moment: counts as a duration and as a start
    ("REQUESTS", len(METHODS) * len(CODES)),
    ("PROXY_ERRORS", 1),  # connections closed for their PROXY header
    ("WEBSOCKET_ERRORS", 1),  # handshakes refused
    ("WEBSOCKET_RECEIVED", 1),  # messages
    ("WEBSOCKET_SENT", 1),
    ("WEBSOCKET_CLOSES", len(CLOSE_CODES)),
)
_WIDTHS = [width for _, width in _GAUGES + _COUNTERS]
_OFFSETS = dict(zip((name for name, _ in _GAUGES + _COUNTERS), accumulate(_WIDTHS, initial=0), strict=False))

HEARTBEAT_NS = _OFFSETS["HEARTBEAT_NS"]
LAG_NS = _OFFSETS["LAG_NS"]
CONNECTIONS = _OFFSETS["CONNECTIONS"]
QUEUED = _OFFSETS["QUEUED"]
ACCEPTING = _OFFSETS["ACCEPTING"]
WEBSOCKETS = _OFFSETS["WEBSOCKETS"]
STARTED = _OFFSETS["STARTED"]
ABANDONED = _OFFSETS["ABANDONED"]
ACCEPTED = _OFFSETS["ACCEPTED"]
LIMIT_REACHED = _OFFSETS["LIMIT_REACHED"]
REQUEST_BYTES = _OFFSETS["REQUEST_BYTES"]
RESPONSE_BYTES = _OFFSETS["RESPONSE_BYTES"]
OVERLOADED = _OFFSETS["OVERLOADED"]
DISCONNECTS = _OFFSETS["DISCONNECTS"]
EXCEPTIONS = _OFFSETS["EXCEPTIONS"]
SLOW = _OFFSETS["SLOW"]
TIMEOUTS = _OFFSETS["TIMEOUTS"]
PROTOCOL = _OFFSETS["PROTOCOL"]
DURATION = _OFFSETS["DURATION"]
START = _OFFSETS["START"]
AT_ONCE = _OFFSETS["AT_ONCE"]
REQUESTS = _OFFSETS["REQUESTS"]
PROXY_ERRORS = _OFFSETS["PROXY_ERRORS"]
WEBSOCKET_ERRORS = _OFFSETS["WEBSOCKET_ERRORS"]
WEBSOCKET_RECEIVED = _OFFSETS["WEBSOCKET_RECEIVED"]
WEBSOCKET_SENT = _OFFSETS["WEBSOCKET_SENT"]
WEBSOCKET_CLOSES = _OFFSETS["WEBSOCKET_CLOSES"]
CELLS = sum(_WIDTHS)
FIRST_COUNTER = sum(width for _, width in _GAUGES)
_NAMES = tuple(_OFFSETS)

# Cells from row to row: room for the counters of later versions, and whole pages (4, 16 or 64 KiB; getconf PAGESIZE).
STRIDE = max(1024, PAGESIZE // 8)
SLOTS = 1024  # untouched rows cost no memory
#: So many workers may be wanted. As many again in a surge find slots; where drains take long, a start waits for one.
MAX_WORKERS = 500
# Behind the rows, in a page of its own, stands one cell of the master's: how many slots were ever used. It writes the
# cell for the workers, and never reads it.
BYTES = (SLOTS * STRIDE + 1) * 8
#: No process holds more descriptors (fs.nr_open, proc_sys_fs(5)), so none has more connections and requests at once.
MAX_OPEN = 2**30
#: A heartbeat that is so far ahead of its reader's clock was written between two looks at the clock.
MAX_AHEAD_NS = 1_000_000_000

#: What must be equal, and the cells by name with offset and width, for whoever takes the board over.
LAYOUT: Mapping[str, Any] = {
    "slots": SLOTS,
    "stride": STRIDE,
    "buckets": list(BUCKETS),
    "methods": list(METHODS),
    "codes": list(CODES),
    "cells": {name: [_OFFSETS[name], width] for name, width in _GAUGES + _COUNTERS if name != "SPARE"},
}

TIMEOUT_CELL = {phase: TIMEOUTS + index for index, phase in enumerate(TIMEOUT_PHASES)}
PROTOCOL_CELL = {kind: PROTOCOL + index for index, kind in enumerate(PROTOCOL_ERRORS)} | {
    "proxy": PROXY_ERRORS,
    "websocket": WEBSOCKET_ERRORS,
}


class _CodeCells(dict[int, int]):
    """From a code to the cell that counts it; what no registry knows is `other`, the last of `codes`."""

    def __init__(self, codes: Sequence[str], first: int) -> None:
        super().__init__((int(code), first + index) for index, code in enumerate(codes[:-1]))
        self._other = first + len(codes) - 1

    def __missing__(self, status: int) -> int:
        return self._other


class _MethodCells(dict[str, _CodeCells]):
    """From a method to its cells; what is not in METHODS is OTHER."""

    def __missing__(self, method: str) -> _CodeCells:
        return self["OTHER"]


#: REQUEST_CELL[method][status] counts the answers with `status` to `method`; a function would cost more.
REQUEST_CELL = _MethodCells(
    (method, _CodeCells(CODES, REQUESTS + index * len(CODES))) for index, method in enumerate(METHODS)
)

#: WEBSOCKET_CLOSE_CELL[code] counts the WebSockets that were closed with it.
WEBSOCKET_CLOSE_CELL = _CodeCells(CLOSE_CODES, WEBSOCKET_CLOSES)


def observe(row: Row, histogram: int, elapsed_s: float) -> None:
    """Add one observation to DURATION, START or AT_ONCE: its bucket, then the sum."""
    # Most answers of a fast application fall into the first bucket: finding it needs no search.
    row[histogram + (bisect_left(BUCKETS, elapsed_s) if elapsed_s > _FIRST else 0)] += 1
    row[histogram + SUM] += int(elapsed_s * 1e9)


def count_answer(cells: "memoryview[int]", request: int, size: int, histogram: int, elapsed_s: float) -> None:
    """Count a whole answer: in its REQUEST_CELL, with its bytes, and in DURATION or AT_ONCE."""
    elapsed_ns = int(elapsed_s * 1e9)
    bucket = histogram if elapsed_s <= _FIRST else histogram + bisect_left(BUCKETS, elapsed_s)
    try:
        cells[histogram + SUM] += elapsed_ns  # first: no other one is ever full, unless an application has written it
        cells[request] += 1
        cells[RESPONSE_BYTES] += size
        cells[bucket] += 1
    except ValueError:
        for cell, number in (histogram + SUM, elapsed_ns), (request, 1), (RESPONSE_BYTES, size), (bucket, 1):
            counting(cells)[cell] += number


def histogram(row: "Row | Sequence[int]", start: int) -> tuple[list[int], float]:
    """Return DURATION or START: (the count in each bucket, +Inf last, not cumulative; the sum in seconds)."""
    both = [a + b for a, b in zip(row[start : start + _HISTOGRAM], row[AT_ONCE : AT_ONCE + _HISTOGRAM], strict=True)]
    return both[:-1], both[-1] / 1e9


def in_flight(row: "Row | Sequence[int]") -> int:
    """Return how many requests are begun and not ended. It is derived: a request costs no cell for its end."""
    # Never below 0, though the worker writes as we read.
    return min(max(0, row[STARTED] - row[ABANDONED] - sum(histogram(row, DURATION)[0])), MAX_OPEN)


def name_of(cell: int) -> str:
    """Return the name under which LAYOUT has a cell."""
    return _NAMES[bisect_right(list(_OFFSETS.values()), cell) - 1]


def counting(row: "memoryview[int]") -> Row:
    """Return the same cells for a worker to count in: a full one goes on from 0, and an empty one below it.

    A memoryview raises there, in the middle of a request. 292 years of requests are a full sum of nanoseconds: ten
    thousand streams at once reach it in eleven days. But an increment of a memoryview takes half as many instructions
    (620 to 1170). So for each request and connection we try one first, and count here if it raises.
    """
    return (ctypes.c_uint64 * len(row)).from_buffer(row)


def layout_difference(other: Mapping[str, Any]) -> str:
    """Return what of `other`, the layout of another version, is not as here; "" where both can share a board."""
    known = LAYOUT["cells"]
    for name, place in other["cells"].items():
        if name in known and known[name] != place:
            return f"the cells of {name}"
    return next((part for part in LAYOUT if part != "cells" and LAYOUT[part] != other[part]), "")


class Board:
    """All rows, over any buffer of BYTES bytes that is zero (a memory file, for USR2 hands it on)."""

    def __init__(
        self, buffer: "memoryview | bytearray | bytes", own: "Mapping[int, memoryview[int]] | None" = None
    ) -> None:
        """`own` are rows by slot that are mapped elsewhere: in a worker the one that is writable."""
        self._cells = memoryview(buffer).cast("B").cast("Q")
        self._own = own or {}

    def row(self, slot: int) -> "memoryview[int]":
        """Return the cells of `slot` (0 to SLOTS - 1)."""
        if not 0 <= slot < SLOTS:
            raise AssertionError(f"slot {slot} is outside 0 to {SLOTS - 1}")
        if slot in self._own:
            return self._own[slot]
        return self._cells[slot * STRIDE : slot * STRIDE + CELLS]

    def use(self, slots: int) -> None:
        """Let the workers know how many slots were ever used; for the master to call."""
        self._cells[-1] = slots

    def siblings(self, slot: int, since_ns: int, now_ns: int) -> "list[memoryview[int]]":
        """Return the rows of the other workers whose event loops have turned since then.

        A sibling is another application's process: a heartbeat of the future is not believed.
        """
        rows = (self.row(other) for other in range(min(self._cells[-1], SLOTS)) if other != slot)
        return [row for row in rows if since_ns < row[HEARTBEAT_NS] <= now_ns + MAX_AHEAD_NS]
