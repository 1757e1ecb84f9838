"""The ledger: the numbers on the board, as far as the master accepts them.

A worker may run as another user, and may write anything into its row, so each cell is checked when it is read. A
heartbeat may not be in the future. A gauge may not exceed the connections that a process can hold. A counter may not
fall or leap. If a number is invalid, the last valid one is used, and the slot is reported once for each worker.

A cell holds its counter modulo 2^64, because the worker lets it wrap around. The ledger keeps the cells that it read
last. If the accepted number differs from the cell, the ledger keeps a correction: that number minus the cell. An
upgrade hands the corrections over.
"""

from array import array
from collections.abc import Callable, Iterable, MutableMapping

from asgid import board
from asgid.board import MAX_OPEN, Board

_MAX_OF_GAUGE = tuple((gauge, MAX_OPEN) for gauge in (board.CONNECTIONS, board.QUEUED, board.WEBSOCKETS))
_CELL = 2**64
#: How much a counter may rise between two reads. Events: three years at 200,000 a second. Amounts (bytes, and the
#: nanoseconds of ten thousand requests at once): ten days without a read.
_MAX_EVENTS, _MAX_AMOUNT = 2**44, 2**63
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
        """`corrections` are by slot and cell. `report` is called with a slot, and the name and content of a cell.

        `clock_ns` is CLOCK_MONOTONIC. It is read after the cells, so that no true heartbeat is later than it.
        """
        self._board, self._corrections, self._clock_ns, self._report = rows, corrections, clock_ns, report
        self._seen: dict[int, array[int]] = {}
        self._heartbeats: dict[int, int] = {}
        self._reported: set[int] = set()

    def open(self, slot: int) -> "array[int]":
        """Return the cells of a slot as they were read last. The first call reads them, and accepts them unchecked."""
        if slot not in self._seen:
            self._seen[slot] = array("Q", self._board.row(slot))
        return self._seen[slot]

    def row(self, slot: int) -> list[int]:
        """Return the accepted numbers of a slot."""
        seen = self.open(slot)
        cells = self._board.row(slot).tolist()
        now_ns = self._clock_ns()
        for cell in range(board.FIRST_COUNTER, board.CELLS):
            if cells[cell] != seen[cell]:
                self._update(slot, cell, cells[cell])
        for cell, correction in self._corrections.get(slot, {}).items():
            cells[cell] = seen[cell] + correction
        for cell, limit in (*_MAX_OF_GAUGE, (board.LAG_NS, now_ns)):
            if cells[cell] > limit:
                self._reject(slot, cell, cells[cell])
                cells[cell] = 0
        cells[board.HEARTBEAT_NS] = self._heartbeat(slot, cells[board.HEARTBEAT_NS], now_ns)
        return cells

    def heartbeats(self, slots: Iterable[int]) -> dict[int, float]:
        """Return by slot when each event loop last turned, in seconds of the monotonic clock."""
        cells = {slot: self._board.row(slot)[board.HEARTBEAT_NS] for slot in slots}
        now_ns = self._clock_ns()
        return {slot: self._heartbeat(slot, cell, now_ns) / 1e9 for slot, cell in cells.items()}

    def counter(self, slot: int, cell: int) -> int:
        """Return one counter of a slot."""
        seen = self.open(slot)
        self._update(slot, cell, self._board.row(slot)[cell])
        return seen[cell] + self._corrections.get(slot, {}).get(cell, 0)

    def retire(self, slot: int) -> None:
        """Clear the gauges of a worker that has exited. Its counters stay, and the next worker continues them."""
        row = self.row(slot)
        # Its requests ended with it. All of them count, even above MAX_OPEN, where in_flight stops: a remainder would
        # stay in flight forever. If it wrote more ends than starts, as many requests of the next worker would not show.
        unended = row[board.STARTED] - row[board.ABANDONED] - sum(board.histogram(row, board.DURATION)[0])
        row[board.ABANDONED if unended > 0 else board.STARTED] += abs(unended)
        row[: board.FIRST_COUNTER] = [0] * board.FIRST_COUNTER
        kept = array("Q", [number % _CELL for number in row])
        self._board.row(slot)[:] = memoryview(kept)
        self._seen[slot] = kept
        self._corrections.pop(slot, None)
        if overrun := {cell: number - kept[cell] for cell, number in enumerate(row) if number != kept[cell]}:
            self._corrections[slot] = overrun
        self._heartbeats.pop(slot, None)
        self._reported.discard(slot)

    def _update(self, slot: int, cell: int, content: int) -> None:
        seen = self._seen[slot]
        before, seen[cell] = seen[cell], content
        risen = (content - before) % _CELL
        is_valid = risen < (_MAX_AMOUNT if cell in _AMOUNTS else _MAX_EVENTS)
        correction = before + risen * is_valid - content
        if correction:
            corrections = self._corrections.setdefault(slot, {})
            corrections[cell] = corrections.get(cell, 0) + correction
        if not is_valid:
            self._reject(slot, cell, content)

    def _heartbeat(self, slot: int, content: int, now_ns: int) -> int:
        last = self._heartbeats.get(slot, 0)
        if content > now_ns:
            self._reject(slot, board.HEARTBEAT_NS, content)
        elif content > last:
            self._heartbeats[slot] = last = content
        return last

    def _reject(self, slot: int, cell: int, content: int) -> None:
        if slot not in self._reported:
            self._reported.add(slot)
            self._report(slot, board.name_of(cell), content)
