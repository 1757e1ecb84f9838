"""Counts and logs rejected requests and PROXY headers: the board counts each, the log gets one line a second of a kind.

A client that sends malformed data usually sends much of it. Each line has the number of lines that were suppressed
since the last one of its kind.
"""

from time import monotonic

from asgid.board import PROTOCOL_CELL, Row
from asgid.errors import ClientError
from asgid.log import Log

#: The min time between two lines of a kind.
QUIET_S = 1.0


class RejectionLog:
    """The time of the last line of each kind, and the number of rejections since."""

    def __init__(self, log: Log, row: Row) -> None:
        self._log, self._row = log, row
        self._quiet_until: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def log_request(self, error: ClientError, client: str | None, method: str | None, path: str | None) -> None:
        """Count and log a request that was answered with `error`; it has no `method` before its head is complete."""
        suppressed = self.suppressed_since_last(error.kind, monotonic())
        if suppressed is not None:
            self._log.warning(
                "request refused",
                kind=error.kind,
                status=error.status,
                client=client,
                method=method,
                path=path,
                reason=str(error),
                suppressed=suppressed,
            )

    def log_proxy_header(self, error: ClientError, listener: str, peer: str) -> None:
        """Count and log a connection that was closed because of its PROXY header."""
        suppressed = self.suppressed_since_last(error.kind, monotonic())
        if suppressed is not None:
            self._log.warning(
                "connection refused for its PROXY header",
                listener=listener,
                peer=peer,
                reason=str(error),
                suppressed=suppressed,
            )

    def suppressed_since_last(self, kind: str, now: float) -> int | None:
        """Count a rejection. Return the number of suppressed lines since the last one, or None to suppress this one."""
        if kind in PROTOCOL_CELL:  # a timeout is counted elsewhere
            self._row[PROTOCOL_CELL[kind]] += 1
        if now < self._quiet_until.get(kind, now):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._quiet_until[kind] = now + QUIET_S
        return self._suppressed.pop(kind, 0)
