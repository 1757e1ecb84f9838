"""What is told of refused requests and PROXY headers: the board counts all, the log has one a second of each kind.

Whoever sends nonsense sends much of it. A line says how many of its kind went unsaid before it.
"""

from time import monotonic
from typing import TYPE_CHECKING

from asgid.board import PROTOCOL_CELL, Row
from asgid.errors import ClientError
from asgid.log import Log

if TYPE_CHECKING:
    from asgid.worker.http.exchange import Exchange

#: How long one line of a kind stands for the others.
QUIET_S = 1.0


class RejectionLog:
    """What was said last of each kind, and how many have come since."""

    def __init__(self, log: Log, row: Row) -> None:
        self._log, self._row = log, row
        self._quiet_until: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def log_request(self, error: ClientError, client: str | None, exchange: "Exchange | None") -> None:
        """Tell of a request that was answered by us; `exchange` is None where its head is not whole."""
        kind = error.kind or "timeout"
        unsaid = self.suppressed_since_last(kind, monotonic())
        if unsaid is not None:
            self._log.warning(
                "request refused",
                kind=kind,
                status=error.status,
                client=client,
                method=exchange.method if exchange else None,
                path=exchange.path if exchange else None,
                reason=str(error),
                suppressed=unsaid,
            )

    def log_proxy_header(self, error: ClientError, listener: str, peer: str) -> None:
        """Tell of a connection that was closed for its PROXY header."""
        unsaid = self.suppressed_since_last(error.kind, monotonic())
        if unsaid is not None:
            self._log.warning(
                "connection refused for its PROXY header",
                listener=listener,
                peer=peer,
                reason=str(error),
                suppressed=unsaid,
            )

    def suppressed_since_last(self, kind: str, now: float) -> int | None:
        """Count a refusal; return how many of its kind went unlogged before it, None if it is to go unlogged, too."""
        if kind in PROTOCOL_CELL:  # else it is a deadline's, and counted there
            self._row[PROTOCOL_CELL[kind]] += 1
        if now < self._quiet_until.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._quiet_until[kind] = now + QUIET_S
        return self._unsaid.pop(kind, 0)
