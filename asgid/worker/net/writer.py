"""Writes to one client: at once, or collected and written at the end of a turn; waits for a slow client; closes.

A writer does not depend on the protocol whose bytes it writes.
"""

import asyncio
from asyncio import Future, Transport
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

from asgid.worker.net.cork import Cork
from asgid.worker.net.registry import Connections

#: Makes close(2) send a reset at once (socket(7)).
_RESET = pack("ii", 1, 0)


class Writer:
    """The transport of one client, for its protocols. `is_paused` while the client does not read.

    Code that writes often looks at `cork` itself, and writes there while it is set: a call less for each message.
    """

    __slots__ = ("_connections", "_turn", "_unsent", "_writable", "cork", "is_paused", "transport")

    def __init__(self, transport: Transport, connections: Connections) -> None:
        self.transport = transport
        self._connections = connections
        self.cork: Cork | None = None
        self.is_paused = False
        self._writable: Future[None] | None = None
        self._turn = -1  # of the loop, in which a message was written
        self._unsent = 0  # bytes, at the last mark

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            (self.cork or self.transport).write(data)

    def write_message(self, head: bytes, payload: bytes = b"") -> None:
        """Write the first message of a turn of the loop at once; collect the others, which leave in one write."""
        connections, transport = self._connections, self.transport
        turns = connections.turns
        if self._turn == turns.number and self.cork is None:
            self.hold_back()
        if self.cork:
            self.cork.writelines((head, payload))
        elif not transport.is_closing():
            self._turn = turns.number if turns.is_noticed else turns.notice()
            if len(payload) <= connections.join_limit:
                transport.write(head + payload)
            else:
                transport.writelines((head, payload))

    def hold_back(self) -> None:
        """Collect all further writes of this turn of the loop; they leave at its end, in one write."""
        if self.cork is None:
            self.cork = Cork(self.transport, self._connections.join_limit)
            self._connections.loop.call_soon(self.uncork)

    def uncork(self) -> None:
        """Write the collected bytes."""
        if self.cork:
            cork, self.cork = self.cork, None
            if not self.transport.is_closing():  # uvloop raises if a reset has closed it, before it reports that
                cork.flush()

    # Progress of the client

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet, collected ones included."""
        collected = self.cork.size if self.cork else 0
        return self.transport.get_write_buffer_size() + collected

    def mark_progress(self) -> int:
        """Note and return how many bytes are unsent now."""
        self._unsent = self.unsent
        return self._unsent

    @property
    def has_progressed(self) -> bool:
        """Whether the client has read anything since the mark."""
        return self.unsent < self._unsent

    # The transport's side

    def pause(self) -> None:
        """The transport's buffer is full."""
        self.is_paused = True

    def resume(self) -> None:
        """The transport takes more bytes, or is closed."""
        self.is_paused = False
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    async def wait_writable(self) -> None:
        """Wait until the transport takes more bytes, or the connection is lost."""
        if self._writable is None:
            self._writable = self._connections.loop.create_future()
        # Shielded: the application may cancel its wait, and others wait for the same future.
        await asyncio.shield(self._writable)

    async def drain(self) -> None:
        """Wait for a slow client; for one that keeps up, let the loop turn once."""
        if self.is_paused:
            await self.wait_writable()
        else:
            await asyncio.sleep(0)

    # Ends

    def write_eof(self) -> None:
        """Close the sending side after the last byte; the client's bytes are still received."""
        self.uncork()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        """Close both sides after the last byte."""
        self.uncork()
        self.transport.close()

    def abort(self, is_truncated: bool) -> None:
        """End the connection so that no client takes it for an orderly end.

        `is_truncated`: a body whose end is the end of the connection (RFC 9112 section 6.3) is not complete. To its
        client an orderly close would complete it, so the end is a reset. Otherwise the end is not a reset, which would
        destroy bytes that are still on their way, earlier responses among them.
        """
        self.uncork()
        if is_truncated:
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
        self.transport.abort()
