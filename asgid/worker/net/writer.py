"""What is written to one client: at once, or held back to leave with the rest of its turn; when to wait, how to end.

A transport that is full says so, and `taken()` waits until it is not. It does not know what the bytes mean.
"""

import asyncio
from asyncio import Future, Transport
from socket import SO_LINGER, SOL_SOCKET
from struct import pack

from asgid.worker.http.context import Service
from asgid.worker.net.cork import Cork

#: What makes close(2) send a reset at once (socket(7)).
_RESET = pack("ii", 1, 0)


class Writer:
    """One client's transport, as those see it who write. `is_paused` while the client does not take what was written.

    Who writes much and often looks at `cork` itself, and writes there where something is held back.
    """

    __slots__ = ("_service", "_turn", "_watched", "_writable", "cork", "is_paused", "transport")

    def __init__(self, transport: Transport, service: Service) -> None:
        self.transport = transport
        self._service = service
        self.cork: Cork | None = None
        self.is_paused = False
        self._writable: Future[None] | None = None
        self._turn = -1  # of the loop, in which something was put
        self._watched = 0  # bytes that were unsent

    def put(self, head: bytes, payload: bytes = b"") -> None:
        """Write at once what comes first in a turn of the loop; what else comes leaves at its end, in one write."""
        service = self._service
        if self._turn == service.turns.number and self.cork is None:
            self.hold_back()
        if self.cork:
            self.cork.writelines((head, payload))
        elif not self.transport.is_closing():
            self._turn = service.turns.notice()
            if len(payload) <= service.most_joined:
                self.transport.write(head + payload)
            else:
                self.transport.writelines((head, payload))

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            (self.cork or self.transport).write(data)

    def hold_back(self) -> None:
        """Let what else is written in this turn of the loop leave at its end, in one write."""
        if self.cork is None:
            self.cork = Cork(self.transport, self._service.most_joined)
            self._service.loop.call_soon(self.uncork)

    def uncork(self) -> None:
        """Write what was held back."""
        if self.cork:
            cork, self.cork = self.cork, None
            if not self.transport.is_closing():  # uvloop raises where a reset has closed it, and we are not told yet
                cork.pull()

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken yet, those that are held back among them."""
        held = self.cork.size if self.cork else 0
        return self.transport.get_write_buffer_size() + held

    def watch(self) -> int:
        """From now on it counts what the client takes; return how many bytes are unsent."""
        self._watched = self.unsent
        return self._watched

    @property
    def is_moving(self) -> bool:
        """Whether the client has taken anything since."""
        return self.unsent < self._watched

    # Ends

    def end(self) -> None:
        """End our side, after what was written; the client's is still read."""
        self.uncork()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def close(self) -> None:
        """End both sides, after what was written."""
        self.uncork()
        self.transport.close()

    def abort(self, is_half: bool) -> None:
        """End in a way that nobody takes for an orderly end. `is_half`: a body without length and chunks is not whole.

        Such a body ends where the stream does (RFC 9112 section 6.3): half of it, closed in order, would be a whole one
        to its client, so there the end is a reset. Elsewhere it is not: a reset would take back what is still on its
        way, earlier answers among it.
        """
        self.uncork()
        if is_half:
            self.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
        self.transport.abort()

    # What the transport says

    def pause(self) -> None:
        self.is_paused = True

    def release(self) -> None:
        """It takes more, or never will."""
        self.is_paused = False
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # Those who wait

    async def writable(self) -> None:
        """Wait until the transport takes more, or the connection is lost."""
        if self._writable is None:
            self._writable = self._service.loop.create_future()
        # Shielded: the application may give up waiting; the future is the connection's.
        await asyncio.shield(self._writable)

    async def taken(self) -> None:
        """Wait for the client, or let the loop turn where it is not the client who is waited for."""
        if self.is_paused:
            await self.writable()
        else:
            await asyncio.sleep(0)
