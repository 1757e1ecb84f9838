"""asyncio.Protocol: a WebSocket from its handshake to its end: pings, the close, fairness, and one deadline.

The bytes come here from a connection that has answered the handshake, with its transport. The decoder makes messages of
them, which go to the conversation. If that is full, or the client does not read, nothing more is read from it.
"""

import asyncio
from enum import Enum, auto
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from asgid.board import TIMEOUT_CELL, WEBSOCKET_CLOSE_CELL, WEBSOCKET_RECEIVED, WEBSOCKET_SENT, WEBSOCKETS
from asgid.worker.http.context import Event, Service
from asgid.worker.net.lingering_close import Farewell
from asgid.worker.net.writer import Writer
from asgid.worker.websocket.decoder import Decoder
from asgid.worker.websocket.deflate import MIN_DEFLATED_BYTES, DeflateParameters, Deflater, Inflater
from asgid.worker.websocket.frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    FIN,
    INTERNAL_ERROR,
    PING,
    PONG,
    RSV1,
    SERVICE_RESTART,
    TEXT,
    FrameError,
    close_payload,
    frame_head,
    read_close,
)

if TYPE_CHECKING:
    from asgid.worker.http.exchange import Exchange
    from asgid.worker.websocket.session import Conversation

#: How long the client has to answer our close.
CLOSE_S = 5.0
#: A read above this waits if the time of this turn of the loop is spent: it may be a large frame, and takes 0.1 ms.
_SHORT_READ = 4096
_MESSAGES = frozenset((TEXT, BINARY))


class Phase(Enum):
    """How far a WebSocket has come."""

    OPEN = auto()
    CLOSING = auto()  # our close is sent, and the client's is awaited
    OVER = auto()


OPEN, CLOSING, OVER = Phase


class WebSocket(asyncio.Protocol):
    """One client, once its handshake is accepted."""

    __slots__ = (
        "_code",
        "_conversation",
        "_decoder",
        "_deflated_from",
        "_deflater",
        "_is_in_line",
        "_is_pinged",
        "_phase",
        "_ping_interval",
        "_row",
        "deadline",
        "exchange",
        "service",
        "transport",
        "writer",
    )

    def __init__(
        self, service: Service, exchange: "Exchange", conversation: "Conversation", agreed: DeflateParameters | None
    ) -> None:
        self.service, self.exchange, self._conversation = service, exchange, conversation
        self._row = service.row
        self._decoder = Decoder(service.config.websocket.max_message, Inflater(agreed) if agreed else None)
        self._deflater = Deflater(agreed) if agreed else None
        self._deflated_from: float = MIN_DEFLATED_BYTES if agreed else inf  # bytes
        self.transport: asyncio.Transport
        self.writer: Writer
        self.deadline = inf
        self._phase = OPEN
        self._code = 0  # with which it is closed, once that is known
        self._ping_interval = service.config.websocket.ping_interval
        self._is_pinged = False
        self._is_in_line = False  # what has been received is read on in a later turn of the loop

    # The connection's side

    def begin_on(self, writer: Writer, rest: bytes) -> None:
        """Take the transport over; `rest` came after the handshake."""
        self.writer, self.transport = writer, writer.transport
        self.transport.set_protocol(self)
        self.service.connections.add(self)
        self.service.websockets.add(self)
        self.service.row[WEBSOCKETS] += 1
        self._listen()
        if self.service.is_draining:
            self.go_away()
        if rest:
            self.data_received(rest)

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        if self._phase is OPEN:  # any byte shows that the client is there
            self._is_pinged = False
            self.deadline = now + self._ping_interval
        self._decoder.feed(data)
        if self in self.service.unread:
            return
        if len(data) > _SHORT_READ and self.service.turns.is_spent(now):
            self._wait_in_line()
        else:
            self._read()

    def eof_received(self) -> None:
        self._end(ABNORMAL, "")
        self._part(hears_out=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature; lost is lost
        self._end(ABNORMAL, "")
        self._count_out()
        self.writer.release()
        self.service.left(self)

    def pause_writing(self) -> None:
        self.writer.pause()
        self.service.pause_reading(self)  # it would be answered: pongs, and what the application sends
        if self._phase is OPEN:
            self._await_reader()

    def resume_writing(self) -> None:
        self.writer.release()
        if self._phase is OPEN:
            self._listen()
        self.resume_reading()

    # Frames in

    def _read(self) -> None:
        """Take what has been received, until the application, the client or the others make it wait.

        The others do so when the time of a turn is spent, whatever the steps are. Pings and fragments fill no queue,
        and a frame of a few bytes may be a message of megabytes.
        """
        decoder, unread, turns = self._decoder, self.service.unread, self.service.turns
        while True:
            try:
                event = decoder.step()
                if event is not None:
                    self._take(*event)
            except FrameError as error:
                self._fail(error.code, error.reason)
                return
            if not decoder.has_rest or self._phase is OVER or self in unread:
                return
            if turns.is_spent(monotonic()):
                self._wait_in_line()
                return

    @property
    def is_turn_spent(self) -> bool:
        """Whether the others have their turn of the loop."""
        return self.service.turns.is_spent(monotonic())

    def _wait_in_line(self) -> None:
        self.service.pause_reading(self)
        self._is_in_line = True
        self.service.turns.later(self._go_on)

    def _go_on(self) -> None:
        self._is_in_line = False
        if self._can_read:
            self._read_on()

    def _take(self, opcode: int, content: str | bytes) -> None:
        """Take a message, or a control frame."""
        if opcode in _MESSAGES:
            if self._phase is not OPEN:  # we have closed: the application receives nothing more
                return
            self._row[WEBSOCKET_RECEIVED] += 1
            message: Event = {"type": "websocket.receive", "text" if opcode == TEXT else "bytes": content}
            if self._conversation.feed(message, len(content)):
                self.service.pause_reading(self)
        elif isinstance(content, str):
            raise AssertionError((opcode, content))
        elif opcode == PING:  # also while we close (RFC 6455 section 5.5.2)
            self._send_control(PONG, content)
        elif opcode == CLOSE:
            code, reason = read_close(content)
            if self._phase is OPEN:
                self._send_control(CLOSE, content)
            self._end(code, reason)
            self._part(hears_out=False)

    # Frames out

    def send(self, kind: int, payload: bytes) -> None:
        """Send a message, whole: WHOLE_TEXT, in UTF-8, or WHOLE_BINARY."""
        self._row[WEBSOCKET_SENT] += 1
        size = len(payload)
        self.exchange.response_bytes += size
        if size >= self._deflated_from and self._deflater:
            payload, kind = self._deflater.deflate(payload), kind | RSV1
            size = len(payload)
        self.writer.put(frame_head(kind, size), payload)

    def _send_control(self, opcode: int, payload: bytes) -> None:
        self.writer.put(frame_head(FIN | opcode, len(payload)) + payload)

    # Ends

    def close(self, code: int, reason: str) -> None:
        """Begin to close, and wait for the client's answer; what it sends until then is thrown away."""
        if self._phase is not OPEN:
            return
        self._send_control(CLOSE, close_payload(code, reason))
        self._end(code, reason)
        self._phase = CLOSING
        self._await_close()
        self.resume_reading()

    def go_away(self) -> None:
        """Close because the worker drains: who comes back is served by another."""
        self.close(SERVICE_RESTART, "service restart")

    def _fail(self, code: int, reason: str) -> None:
        """End because of what the client sent, or did not send (RFC 6455 section 7.1.7)."""
        if self._phase is OPEN:
            self._send_control(CLOSE, close_payload(code, reason))
        self._end(code, reason)
        self._part(hears_out=True)

    def _end(self, code: int, reason: str) -> None:
        """Settle with which code it is closed: the first that is known counts."""
        self._code = self._code or code
        self._conversation.ended(code, reason)

    def _part(self, *, hears_out: bool) -> None:
        """Leave the rest to a farewell: nothing that the client still sends is read."""
        if not self.transport.is_closing():
            self._count_out()
            self.service.connections.remove(self)
            if self in self.service.unread:
                self.service.unread.remove(self)
                self.transport.resume_reading()
            Farewell(self.service, self.writer).begin(hears_out)

    def _count_out(self) -> None:
        service, exchange = self.service, self.exchange
        self._phase, self.deadline = OVER, inf
        service.row[WEBSOCKETS] -= 1
        service.row[WEBSOCKET_CLOSE_CELL[self._code]] += 1
        if service.access:
            service.access.add(exchange.scope, 101, exchange.response_bytes, monotonic() - exchange.begun)
        service.websockets.discard(self)

    # What a service asks of whoever holds a connection

    def overdue(self) -> None:
        """The deadline has passed: end what it was for, or ask whether the client is still there."""
        if self._phase is not OPEN:
            if self.writer.is_moving:  # slow is not silent
                self._await_close()
            else:
                self.abort()
        elif self.writer.is_paused:
            if self.writer.is_moving:
                self._await_reader()
                return
            self.service.row[TIMEOUT_CELL["write"]] += 1
            self.abort()
        elif self in self.service.unread:  # it is we who do not hear
            self._listen()
        elif self._is_pinged:
            self._fail(INTERNAL_ERROR, "a ping was not answered")
        else:
            self._send_control(PING, b"")
            timeout = self.service.config.websocket.ping_timeout
            self._is_pinged = timeout < inf
            self.deadline = monotonic() + (timeout if self._is_pinged else self._ping_interval)

    def client_left(self, is_reset: bool) -> None:
        """The client has closed its sending side, or the connection, while we do not read."""
        if is_reset:
            self.abort()

    def close_if_idle(self) -> None:
        """It is not: the drain closes it in its turn."""

    def abort(self) -> None:
        self.deadline = inf
        self.transport.abort()

    # Reading, and the deadline

    def resume_reading(self) -> None:
        """Read on, if neither the application nor the client is behind; first what has been received."""
        if not self._can_read:
            return
        if self._decoder.has_rest and self.service.turns.is_spent(monotonic()):
            self._wait_in_line()
        else:
            self._read_on()

    @property
    def _can_read(self) -> bool:
        is_full = self._phase is OPEN and self._conversation.is_full
        return self in self.service.unread and not (self.writer.is_paused or self._is_in_line or is_full)

    def _read_on(self) -> None:
        unread = self.service.unread
        unread.remove(self)
        if self._decoder.has_rest:
            self._read()
        if not (self in unread or self.transport.is_closing()):
            self.transport.resume_reading()

    def _listen(self) -> None:
        """Expect to hear something of the client."""
        self._is_pinged = False
        self.deadline = monotonic() + self._ping_interval

    def _await_close(self) -> None:
        """What was written is to leave; after that the client has so long to answer our close."""
        self.deadline = monotonic() + (self.service.timeouts.write if self.writer.watch() else CLOSE_S)

    def _await_reader(self) -> None:
        """The client is to take what was written."""
        self.writer.watch()
        self.deadline = monotonic() + self.service.timeouts.write
