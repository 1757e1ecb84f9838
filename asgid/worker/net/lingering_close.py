"""asyncio.Protocol after the last word: what was written leaves, the client is heard out, and the connection ends.

A connection or a WebSocket that has nothing more to say passes its transport on. It does not know what was said.
"""

import asyncio
from math import inf
from time import monotonic

from asgid.board import TIMEOUT_CELL
from asgid.worker.http.context import Service
from asgid.worker.net.writer import Writer

#: After the last that we say the client may still be sending: read that much longer and throw it away, or the kernel's
#: RST would take what was said out of the client's hands (RFC 9112 section 9.6, RFC 6455 section 7.1.1).
LINGER_S = 2.0
#: One that goes on sending is heard longer, up to here: it writes all of an upload before it reads the answer. nginx's
#: lingering_time is the same. A drain does not wait for it.
LONGEST_LINGER_S = 30.0


class Farewell(asyncio.Protocol):
    """One client that nothing more is asked of, or said to."""

    __slots__ = ("_is_open_ended", "_lingers_until", "_received_at", "_service", "_writer", "deadline")

    exchange = None  # there is none any more

    def __init__(self, service: Service, writer: Writer, *, is_open_ended: bool = False) -> None:
        self._service, self._writer = service, writer
        self._is_open_ended = is_open_ended  # the last answer has no end but the connection's
        self.deadline = inf
        self._received_at = 0.0  # the last that the client sent
        self._lingers_until = monotonic() + LONGEST_LINGER_S

    def begin(self, hears_out: bool) -> None:
        """Take the transport over; end our side of it, or, where the client has nothing more to say, both."""
        self._writer.transport.set_protocol(self)
        self._service.connections.add(self)
        if hears_out:
            self._writer.end()
        else:
            self._writer.close()
        self._await_end()

    @property
    def transport(self) -> asyncio.Transport:
        return self._writer.transport

    # asyncio's side

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature; lost is lost
        self.deadline = inf
        self._writer.release()
        self._service.left(self)

    def data_received(self, _data: bytes) -> None:
        self._received_at = now = monotonic()
        turns, transport = self._service.turns, self._writer.transport
        if turns.is_spent(now) and not transport.is_closing():
            transport.pause_reading()
            turns.later(self._read_on)

    def _read_on(self) -> None:
        if not self._writer.transport.is_closing():
            self._writer.transport.resume_reading()

    def pause_writing(self) -> None:
        self._writer.pause()

    def resume_writing(self) -> None:
        self._writer.release()

    # What a service asks of whoever holds a connection

    def overdue(self) -> None:
        if self._writer.is_moving:  # slow is not silent
            self._await_end()
            return
        if self._writer.unsent:
            self._service.row[TIMEOUT_CELL["write"]] += 1
        elif self._lingers_on(monotonic()):
            return
        self.abort()

    def _lingers_on(self, now: float) -> bool:
        """Whether the client, which has taken all, is still sending; then its moment begins with the last it sent."""
        self.deadline = min(self._received_at + LINGER_S, self._lingers_until)
        return self.deadline > now and not self._service.is_draining

    def close_if_idle(self) -> None:
        """It closes, or waits for its client."""

    def abort(self) -> None:
        self.deadline = inf
        # Of a whole one that has left, nothing is to be taken back.
        self._writer.abort(self._is_open_ended and self._writer.unsent > 0)

    def _await_end(self) -> None:
        """The client is to take what was written, and then has a moment to end its side."""
        self.deadline = monotonic() + (self._service.timeouts.write if self._writer.watch() else LINGER_S)
