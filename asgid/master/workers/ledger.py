"""The ledger: the numbers of the board that the master believes.

A worker may be another user's process, and may write anything into its row. So each cell is checked when it is read: a
heartbeat is not of the future, a gauge is not beyond all that a process can hold, a counter does not fall and does not
leap. If a number is impossible, the last one that was possible stays, and the slot is reported once for each worker.

A cell holds its counter modulo 2^64, because the worker lets it run over. The ledger keeps the cells that it saw last.
Where the believed number is another, it keeps a correction: that number minus the cell. An upgrade hands these over.
"""

from array import array
from collections.abc import Callable, Iterable, MutableMapping

from asgid import board
from asgid.board import MAX_OPEN, Board

_MOST_OF_GAUGE = tuple((gauge, MAX_OPEN) for gauge in (board.CONNECTIONS, board.QUEUED, board.WEBSOCKETS))
_CELL = 2**64
#: How much a counter may rise between two looks. Events: three years at 200,000 a second. Bytes, and nanoseconds of ten
#: thousand requests at once: ten days without a look.
_MOST_EVENTS, _MOST_AMOUNT = 2**44, 2**63
_AMOUNTS = frozenset(
    {
        board.REQUEST_BYTES,
        board.RESPONSE_BYTES,
        *(start + board.SUM for start in (board.DURATION, board.START, board.AT_ONCE)),
    }
)


class Ledger:
    """The board as the master reads it."""

    def __init__(
        self,
        rows: Board,
        corrections: MutableMapping[int, dict[int, int]],
        clock_ns: Callable[[], int],
        report: Callable[[int, str, int], None],
    ) -> None:
        """`corrections` are by slot and cell. `report` is called with a slot, and name and content of a cell.

        `clock_ns` is CLOCK_MONOTONIC; it is read after the cells, so that no honest heartbeat is ahead of it.
        """
        self._board, self._corrections, self._clock_ns, self._report = rows, corrections, clock_ns, report
        self._seen: dict[int, array[int]] = {}
        self._beats: dict[int, int] = {}
        self._reported: set[int] = set()

    def open(self, slot: int) -> "array[int]":
        """Return the cells of a slot as they were at the last look; the first look takes them as they are."""
        if slot not in self._seen:
            self._seen[slot] = array("Q", self._board.row(slot))
        return self._seen[slot]

    def row(self, slot: int) -> list[int]:
        """Return the row of a slot, as far as it is believed."""
        seen = self.open(slot)
        cells = self._board.row(slot).tolist()
        now_ns = self._clock_ns()
        for cell in range(board.FIRST_COUNTER, board.CELLS):
            if cells[cell] != seen[cell]:
                self._look(slot, cell, cells[cell])
        for cell, correction in self._corrections.get(slot, {}).items():
            cells[cell] = seen[cell] + correction
        for cell, most in (*_MOST_OF_GAUGE, (board.LAG_NS, now_ns)):
            if cells[cell] > most:
                self._distrust(slot, cell, cells[cell])
                cells[cell] = 0
        cells[board.HEARTBEAT_NS] = self._beat(slot, cells[board.HEARTBEAT_NS], now_ns)
        return cells

    def beats(self, slots: Iterable[int]) -> dict[int, float]:
        """Return when each event loop last turned, in seconds of the monotonic clock."""
        cells = {slot: self._board.row(slot)[board.HEARTBEAT_NS] for slot in slots}
        now_ns = self._clock_ns()
        return {slot: self._beat(slot, cell, now_ns) / 1e9 for slot, cell in cells.items()}

    def counter(self, slot: int, cell: int) -> int:
        """Return one counter of a slot."""
        seen = self.open(slot)
        self._look(slot, cell, self._board.row(slot)[cell])
        return seen[cell] + self._corrections.get(slot, {}).get(cell, 0)

    def retire(self, slot: int) -> None:
        """Clear what was true only of a worker that is gone; what it had counted stays, for the next one to go on."""
        row = self.row(slot)
        # Its requests ended with it. All count, also more than MAX_OPEN, where in_flight stops: a rest would stay in
        # flight for ever. If it wrote more ends than starts, as many requests of the next worker would never show.
        unended = row[board.STARTED] - row[board.ABANDONED] - sum(board.histogram(row, board.DURATION)[0])
        row[board.ABANDONED if unended > 0 else board.STARTED] += abs(unended)
        row[: board.FIRST_COUNTER] = [0] * board.FIRST_COUNTER
        kept = array("Q", [number % _CELL for number in row])
        self._board.row(slot)[:] = memoryview(kept)
        self._seen[slot] = kept
        self._corrections.pop(slot, None)
        if overrun := {cell: number - kept[cell] for cell, number in enumerate(row) if number != kept[cell]}:
            self._corrections[slot] = overrun
        self._beats.pop(slot, None)
        self._reported.discard(slot)

    def _look(self, slot: int, cell: int, content: int) -> None:
        seen = self._seen[slot]
        before, seen[cell] = seen[cell], content
        risen = (content - before) % _CELL
        is_possible = risen < (_MOST_AMOUNT if cell in _AMOUNTS else _MOST_EVENTS)
        correction = before + risen * is_possible - content
        if correction:
            mine = self._corrections.setdefault(slot, {})
            mine[cell] = mine.get(cell, 0) + correction
        if not is_possible:
            self._distrust(slot, cell, content)

    def _beat(self, slot: int, content: int, now_ns: int) -> int:
        last = self._beats.get(slot, 0)
        if content > now_ns:
            self._distrust(slot, board.HEARTBEAT_NS, content)
        elif content > last:
            self._beats[slot] = last = content
        return last

    def _distrust(self, slot: int, cell: int, content: int) -> None:
        if slot not in self._reported:
            self._reported.add(slot)
            self._report(slot, board.name_of(cell), content)
