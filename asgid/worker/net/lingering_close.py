"""asyncio.Protocol after the last byte: the response leaves, the client's bytes are discarded, the connection closes.

A protocol that has sent its last byte passes its transport on to this one (nginx: `lingering_close`).
"""

import asyncio
from math import inf
from time import monotonic

from asgid.board import TIMEOUT_CELL
from asgid.worker.net.registry import Connections
from asgid.worker.net.writer import Writer

#: After our last byte the client may still be sending. Its bytes are read and discarded for this long; otherwise the
#: kernel's RST would destroy the response before the client has read it (RFC 9112 section 9.6, RFC 6455 section 7.1.1).
LINGER_S = 2.0
#: A client that goes on sending is read up to this long: it writes a whole upload before it reads the response. nginx's
#: `lingering_time` is the same. A drain does not wait for it.
MAX_LINGER_S = 30.0


class LingeringClose(asyncio.Protocol):
    """The end of one connection. `is_open_ended`: the last response has no end but the connection's."""

    __slots__ = ("_connections", "_is_open_ended", "_lingers_until", "_received_at", "_writer", "deadline")

    def __init__(self, connections: Connections, writer: Writer, *, is_open_ended: bool = False) -> None:
        self._connections, self._writer = connections, writer
        self._is_open_ended = is_open_ended
        self.deadline = inf
        self._received_at = 0.0  # the client's last bytes
        self._lingers_until = monotonic() + MAX_LINGER_S

    def start(self, *, linger: bool) -> None:
        """Take the transport over. With `linger` close our side only, and read on; otherwise close both."""
        self._writer.transport.set_protocol(self)
        self._connections.open.add(self)
        if linger:
            self._writer.write_eof()
        else:
            self._writer.close()
        self._wait_for_end()

    # asyncio's side

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.deadline = inf
        self._writer.resume()
        self._connections.closed(self)

    def data_received(self, _data: bytes) -> None:
        self._received_at = now = monotonic()
        turns, transport = self._connections.turns, self._writer.transport
        if turns.is_spent(now) and not transport.is_closing():
            transport.pause_reading()
            turns.later(self._read_on)

    def _read_on(self) -> None:
        if not self._writer.transport.is_closing():
            self._writer.transport.resume_reading()

    def pause_writing(self) -> None:
        self._writer.pause()

    def resume_writing(self) -> None:
        self._writer.resume()

    # registry.Client

    @property
    def transport(self) -> asyncio.Transport:
        return self._writer.transport

    def on_deadline(self) -> None:
        if self._writer.has_progressed:  # a slow client is not a silent one
            self._wait_for_end()
            return
        if self._writer.unsent:
            self._connections.row[TIMEOUT_CELL["write"]] += 1
        elif self._lingers_on(monotonic()):
            return
        self.abort()

    def _lingers_on(self, now: float) -> bool:
        """Move the deadline after the client's last bytes; return whether it is in the future."""
        self.deadline = min(self._received_at + LINGER_S, self._lingers_until)
        return self.deadline > now and not self._connections.is_draining

    def _wait_for_end(self) -> None:
        """Let the client read the rest within the write timeout, and then close its side within LINGER_S."""
        self.deadline = monotonic() + (self._connections.write_timeout if self._writer.mark_progress() else LINGER_S)

    def on_peer_closed(self, is_reset: bool) -> None:
        """Nothing: reading is paused for one turn at most."""

    def close_if_idle(self) -> None:
        """Nothing: it closes already."""

    def abort(self) -> None:
        self.deadline = inf
        # A response that has left whole stays whole.
        self._writer.abort(self._is_open_ended and self._writer.unsent > 0)

    def requests(self) -> tuple[str, ...]:
        return ()
