"""asyncio.Protocol for a WebSocket, from its handshake to its end: pings, the close, fairness, and one deadline.

The protocol takes its transport over from a connection or stream that has answered the handshake. A decoder makes
messages of the bytes, and a session takes them. While the session is full, or the client does not read, the protocol
reads nothing.
"""

import asyncio
from enum import IntEnum
from math import inf
from time import monotonic
from typing import NamedTuple, Protocol

from asgid.board import TIMEOUT_CELL, WEBSOCKET_CLOSE_CELL, WEBSOCKET_RECEIVED, WEBSOCKET_SENT, WEBSOCKETS
from asgid.config.tables import WebSocket as Settings
from asgid.worker.asgi import Message
from asgid.worker.net.lingering_close import LingeringClose
from asgid.worker.net.registry import Connections
from asgid.worker.net.writer import Writer
from asgid.worker.websocket.decoder import Decoder
from asgid.worker.websocket.deflate import MIN_DEFLATED_BYTES, DeflateParameters, Deflater, Inflater
from asgid.worker.websocket.frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    FIN,
    INTERNAL_ERROR,
    MAX_CONTROL,
    PING,
    PONG,
    RSV1,
    SERVICE_RESTART,
    TEXT,
    FrameError,
    close_payload,
    frame_head,
    read_close,
    short_head,
)

#: How long the client has to answer our close.
CLOSE_S = 5.0
#: A larger read is decoded later if the time of this turn of the loop is spent: it may have 340 small frames.
_SHORT_READ = 2048
_MESSAGES = frozenset((TEXT, BINARY))


class Phase(IntEnum):
    """What a WebSocket waits for. `PHASES` has the deadline of each, and what happens then."""

    OPEN = 0
    PINGED = 1
    WRITE = 2
    CLOSING = 3
    OVER = 4


OPEN, PINGED, WRITE, CLOSING, OVER = Phase


class Wait(NamedTuple):
    """One row of the WebSocket's states, for the documents; `on_deadline` carries it out."""

    awaited: str
    timeout: str
    at_deadline: str


PHASES = {
    OPEN: Wait("any frame", "`websocket.ping_interval`", "sends a ping; waits on if asgid does not read"),
    PINGED: Wait(
        "any byte, best the pong", "`websocket.ping_timeout`", "closes with 1011; waits on if asgid does not read"
    ),
    WRITE: Wait("the client to read", "`timeouts.write`", "aborts; waits on if the client has read a part"),
    CLOSING: Wait(
        "the client's close, after ours",
        "5 s; `timeouts.write` while bytes are unsent",
        "aborts; waits on if the client has read a part",
    ),
    OVER: Wait("nothing: a lingering close has the transport", "", ""),
}


class MessageSink(Protocol):
    """The session, as the protocol sees it."""

    @property
    def is_full(self) -> bool: ...
    def feed(self, message: Message, size: int) -> bool: ...
    def on_close(self, code: int, reason: str) -> None: ...
    def on_over(self, sent_bytes: int) -> None: ...


class WebSocketProtocol(asyncio.Protocol):
    """One client whose handshake is accepted."""

    __slots__ = (
        "_cells",
        "_close_code",
        "_connections",
        "_decoder",
        "_deflated_from",
        "_deflater",
        "_is_read_queued",
        "_phase",
        "_row",
        "_sent_bytes",
        "_settings",
        "_sink",
        "deadline",
        "transport",
        "writer",
    )

    def __init__(
        self, connections: Connections, settings: Settings, sink: MessageSink, parameters: DeflateParameters | None
    ) -> None:
        self._connections, self._settings, self._sink = connections, settings, sink
        self._row, self._cells = connections.row, connections.cells
        self._decoder = Decoder(settings.max_message, Inflater(parameters) if parameters else None)
        self._deflater = Deflater(parameters) if parameters else None
        self._deflated_from: float = MIN_DEFLATED_BYTES if parameters else inf  # bytes
        self.transport: asyncio.Transport
        self.writer: Writer
        self.deadline = inf
        self._phase = OPEN
        self._close_code = 0  # 0 while it is not known
        self._sent_bytes = 0  # of messages
        self._is_read_queued = False  # received bytes are decoded in a later turn of the loop

    def attach(self, transport: asyncio.Transport, received: bytes) -> None:
        """Take the transport over, and the bytes that were received after the handshake."""
        connections = self._connections
        self.writer, self.transport = Writer(transport, connections), transport
        transport.set_protocol(self)
        connections.open.add(self)
        connections.websockets.add(self)
        self._row[WEBSOCKETS] += 1
        self._wait_for_frame()
        if connections.is_draining:
            self.go_away()
        if received:
            self.data_received(received)

    # asyncio's side

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        if self._phase <= PINGED:  # any byte shows that the client is there
            self._phase = OPEN
            self.deadline = now + self._settings.ping_interval
        self._decoder.feed(data)
        if self in self._connections.paused:
            return
        if len(data) > _SHORT_READ and self._connections.turns.is_spent(now):
            self._decode_later()
        else:
            self._decode()

    def eof_received(self) -> None:
        self._set_close(ABNORMAL, "")
        self._end(linger=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._set_close(ABNORMAL, "")
        self._count_closed()
        self.writer.resume()
        self._connections.closed(self)

    def pause_writing(self) -> None:
        self.writer.pause()
        self._connections.pause_reading(self)  # its frames would be answered: with pongs, and by the application
        if self._phase < CLOSING:
            self._wait_for_write()

    def resume_writing(self) -> None:
        self.writer.resume()
        if self._phase is WRITE:
            self._wait_for_frame()
        self.resume_reading()

    # Frames in

    def _decode(self) -> None:
        """Decode the received bytes, until the session, the client or the other clients make this one wait.

        The other clients do so when the time of a turn is spent, after any step. Pings and fragments fill no queue, and
        a frame of a few bytes may be a message of megabytes.
        """
        decoder, paused, turns = self._decoder, self._connections.paused, self._connections.turns
        while True:
            try:
                event = decoder.step()
                if event is not None:
                    self._take(event[0], event[1])
            except FrameError as error:
                self._fail(error.code, error.reason)
                return
            if not decoder.has_rest or self._phase is OVER or self in paused:
                return
            if turns.is_spent(monotonic()):
                self._decode_later()
                return

    @property
    def is_turn_spent(self) -> bool:
        """Whether the other clients have their turn of the loop."""
        return self._connections.turns.is_spent(monotonic())

    def _decode_later(self) -> None:
        self._connections.pause_reading(self)
        self._is_read_queued = True
        self._connections.turns.later(self._continue)

    def _continue(self) -> None:
        self._is_read_queued = False
        if self._can_read:
            self._read_on()

    def _take(self, opcode: int, content: str | bytes) -> None:
        """Take a message, or a control frame."""
        if opcode in _MESSAGES:
            if self._phase >= CLOSING:  # after our close the application receives nothing more
                return
            try:
                self._cells[WEBSOCKET_RECEIVED] += 1
            except ValueError:
                self._row[WEBSOCKET_RECEIVED] += 1
            message: Message = {"type": "websocket.receive", "text" if opcode == TEXT else "bytes": content}
            if self._sink.feed(message, len(content)):
                self._connections.pause_reading(self)
        elif isinstance(content, str):
            raise AssertionError((opcode, content))
        elif opcode == PING:  # also while we close (RFC 6455 section 5.5.2)
            self._send_control(PONG, content)
        elif opcode == CLOSE:
            code, reason = read_close(content)
            if self._phase < CLOSING:
                self._send_control(CLOSE, content)
            self._set_close(code, reason)
            self._end(linger=False)

    # Frames out

    def send(self, kind: int, payload: bytes) -> None:
        """Send a whole message: WHOLE_TEXT, in UTF-8, or WHOLE_BINARY."""
        try:
            self._cells[WEBSOCKET_SENT] += 1
        except ValueError:
            self._row[WEBSOCKET_SENT] += 1
        size = len(payload)
        self._sent_bytes += size
        if size >= self._deflated_from and self._deflater:
            payload, kind = self._deflater.deflate(payload), kind | RSV1
            size = len(payload)
        self.writer.write_message(short_head(kind, size) if size <= MAX_CONTROL else frame_head(kind, size), payload)

    def _send_control(self, opcode: int, payload: bytes) -> None:
        self.writer.write_message(frame_head(FIN | opcode, len(payload)) + payload)

    # Ends

    def close(self, code: int, reason: str) -> None:
        """Send a close, and wait for the client's; until then its messages are discarded."""
        if self._phase >= CLOSING:
            return
        self._send_control(CLOSE, close_payload(code, reason))
        self._set_close(code, reason)
        self._phase = CLOSING
        self._wait_for_close()
        # Some versions of uvloop write at the end of a turn: until then the close looks unsent.
        self._connections.loop.call_soon(self._wait_for_close)
        self.resume_reading()

    def go_away(self) -> None:
        """Close because the worker drains: a client that reconnects is served by another worker."""
        self.close(SERVICE_RESTART, "service restart")

    def _fail(self, code: int, reason: str) -> None:
        """Close because of a fault or the silence of the client (RFC 6455 section 7.1.7)."""
        if self._phase < CLOSING:
            self._send_control(CLOSE, close_payload(code, reason))
        self._set_close(code, reason)
        self._end(linger=True)

    def _set_close(self, code: int, reason: str) -> None:
        """Set the close code; only the first one counts."""
        self._close_code = self._close_code or code
        self._sink.on_close(code, reason)

    def _end(self, *, linger: bool) -> None:
        """Pass the transport to a lingering close: nothing that the client still sends is decoded."""
        if not self.transport.is_closing():
            connections = self._connections
            self._count_closed()
            connections.open.remove(self)
            if self in connections.paused:
                connections.paused.remove(self)
                self.transport.resume_reading()
            LingeringClose(connections, self.writer).start(linger=linger)

    def _count_closed(self) -> None:
        self._phase, self.deadline = OVER, inf
        self._row[WEBSOCKETS] -= 1
        self._row[WEBSOCKET_CLOSE_CELL[self._close_code]] += 1
        self._sink.on_over(self._sent_bytes)
        self._connections.websockets.discard(self)

    # registry.Client

    def on_deadline(self) -> None:
        match self._phase:
            case Phase.CLOSING if self.writer.has_progressed:  # a slow client is not a silent one
                self._wait_for_close()
            case Phase.WRITE if self.writer.has_progressed:
                self._wait_for_write()
            case Phase.WRITE:
                self._row[TIMEOUT_CELL["write"]] += 1
                self.abort()
            case Phase.CLOSING | Phase.OVER:
                self.abort()
            case _ if self in self._connections.paused:  # asgid does not read
                self._wait_for_frame()
            case Phase.PINGED:
                self._fail(INTERNAL_ERROR, "a ping was not answered")
            case Phase.OPEN:
                self._ping()

    def _ping(self) -> None:
        self._send_control(PING, b"")
        settings = self._settings
        if settings.ping_timeout < inf:
            self._phase, self.deadline = PINGED, monotonic() + settings.ping_timeout
        else:
            self.deadline = monotonic() + settings.ping_interval

    def on_peer_closed(self, is_reset: bool) -> None:
        if is_reset:
            self.abort()

    def close_if_idle(self) -> None:
        """Nothing: a drain closes WebSockets by `go_away`."""

    def abort(self) -> None:
        self.deadline = inf
        self.transport.abort()

    def requests(self) -> tuple[str, ...]:
        return ()

    # Reading, and the deadline

    def resume_reading(self) -> None:
        """Read on if neither the session nor the client is behind; received bytes come first."""
        if not self._can_read:
            return
        if self._decoder.has_rest and self._connections.turns.is_spent(monotonic()):
            self._decode_later()
        else:
            self._read_on()

    @property
    def _can_read(self) -> bool:
        is_full = self._phase < CLOSING and self._sink.is_full
        return self in self._connections.paused and not (self.writer.is_paused or self._is_read_queued or is_full)

    def _read_on(self) -> None:
        paused = self._connections.paused
        paused.remove(self)
        if self._decoder.has_rest:
            self._decode()
        if not (self in paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def _wait_for_frame(self) -> None:
        self._phase, self.deadline = OPEN, monotonic() + self._settings.ping_interval

    def _wait_for_write(self) -> None:
        self.writer.mark_progress()
        self._phase, self.deadline = WRITE, monotonic() + self._connections.write_timeout

    def _wait_for_close(self) -> None:
        if self._phase is CLOSING:
            is_unsent = self.writer.mark_progress()
            self.deadline = monotonic() + (self._connections.write_timeout if is_unsent else CLOSE_S)
