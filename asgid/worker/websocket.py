"""asyncio.Protocol: a WebSocket from its handshake to its end: frames, pings, limits, the close, and one deadline.

The frames are read and written by `websockets`, without I/O (RFC 6455, RFC 7692). The bytes come here from a connection
that has answered the handshake, with its transport. Messages go to the conversation; where that is full, or the client
does not read, nothing more is read from it.
"""

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import OPEN

from asgid.board import TIMEOUT_CELL, WEBSOCKET_CLOSE_CELL, WEBSOCKET_RECEIVED, WEBSOCKET_SENT, WEBSOCKETS
from asgid.worker.core import Core
from asgid.worker.deflate import WORTH_BYTES, Deflate
from asgid.worker.farewell import Farewell
from asgid.worker.frames import WHOLE_TEXT, frame_head
from asgid.worker.service import Event, Service
from asgid.worker.writing import Writer

if TYPE_CHECKING:
    from websockets.typing import BytesLike

    from asgid.worker.conversation import Conversation
    from asgid.worker.exchange import Exchange

ABNORMAL, INTERNAL_ERROR, SERVICE_RESTART = 1006, 1011, 1012  # RFC 6455 section 7.4.1, IANA
#: How long the client has to answer our close.
CLOSE_S = 5.0
#: So much of one read is parsed at a time, for all messages in it are made before the queue can say that it is full:
#: empty ones of six bytes take 50 times as much memory, compressed ones up to a thousand times. A slice for itself
#: costs 0.1 to 0.4 ms a MiB.
_SLICE = 4096
#: Frames in a slice after which it is the others' turn. Pings and fragments never fill the application's queue, so a
#: client that sent nothing else, tiny ones, kept the loop for seconds, and eight of them until the worker was replaced.
_MANY = 128


class WebSocket(asyncio.Protocol):
    """One client, once its handshake is accepted."""

    __slots__ = (
        "_code",
        "_compressed_from",
        "_conversation",
        "_held",
        "_is_others_turn",
        "_is_pinged",
        "_phase",
        "_ping_interval",
        "_protocol",
        "_row",
        "deadline",
        "exchange",
        "service",
        "transport",
        "writer",
    )

    def __init__(
        self, service: Service, exchange: "Exchange", conversation: "Conversation", extension: Deflate | None
    ) -> None:
        self.service, self.exchange, self._conversation = service, exchange, conversation
        self._row = service.row
        self._protocol = Core(service.config.websocket.max_message)
        self._compressed_from: float = inf  # bytes; what is shorter is not given to the extension
        if extension:
            self._protocol.extensions, self._compressed_from = [extension], WORTH_BYTES
        self.transport: asyncio.Transport
        self.writer: Writer
        self.deadline = inf
        self._phase = "open"
        self._code = 0  # with which it is closed, once that is known
        self._ping_interval = service.config.websocket.ping_interval
        self._is_pinged = False
        self._is_others_turn = False  # of the loop: what is held is read in the next one
        self._held = b""  # received, and not to be read before the application has caught up

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
        if self._phase == "open":  # whatever it sends shows that it is there
            self._is_pinged = False
            self.deadline = monotonic() + self._ping_interval
        if self in self.service.unread:
            self._held += data
        elif len(data) > _SLICE:
            self._read_slices(data)
        else:
            self._read(data)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._end(ABNORMAL, "")
        self._part(hears_out=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature; lost is lost
        self._end(ABNORMAL, "")
        self._count_out()
        self.writer.release()
        self.service.left(self)

    def pause_writing(self) -> None:
        self.writer.pause()
        self.service.pause_reading(self)  # it would be answered: pongs, and whatever the application sends
        if self._phase == "open":
            self._await_reader()

    def resume_writing(self) -> None:
        self.writer.release()
        if self._phase == "open":
            self._listen()
        self.resume_reading()

    # Frames in

    def _read_slices(self, data: bytes) -> None:
        for at in range(0, len(data), _SLICE):
            if self._phase == "over":
                return
            if self._is_others_turn:
                self.service.pause_reading(self)
            if self in self.service.unread:
                self._held = data[at:]
                return
            if self._read(data[at : at + _SLICE]) > _MANY:
                self._is_others_turn = True
                self.service.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_others_turn = False
        self.resume_reading()

    def _read(self, data: bytes) -> int:
        """Take what was received; return how many frames it has ended."""
        protocol = self._protocol
        protocol.receive_data(data)
        frames: list[Frame] = protocol.events_received()  # type: ignore[assignment] # its others are of the handshake
        for frame in frames:
            if frame.opcode in DATA_OPCODES and frame.fin:
                self._take(frame.data)
        if protocol.writes:
            self._write_out()
        if protocol.state is not OPEN:
            self._follow()
        return len(frames)

    def _take(self, content: "str | BytesLike") -> None:
        """Take a message."""
        if self._phase != "open":  # we have closed: nobody listens any more
            return
        self._row[WEBSOCKET_RECEIVED] += 1
        if isinstance(content, str):
            message: Event = {"type": "websocket.receive", "text": content}
        else:
            message = {"type": "websocket.receive", "bytes": bytes(content)}
        if self._conversation.feed(message, len(content)):
            self.service.pause_reading(self)

    def _follow(self) -> None:
        """Go the way of the protocol, which has begun to close."""
        protocol = self._protocol
        if not protocol.eof_sent:  # the client's answer to our close is to come
            return
        if protocol.close_rcvd and not protocol.parser_exc:
            self._end(protocol.close_rcvd.code, protocol.close_rcvd.reason)
            self._part(hears_out=False)
        else:
            sent = protocol.close_sent
            self._end(sent.code if sent else ABNORMAL, sent.reason if sent else "")
            self._part(hears_out=True)

    # Frames out

    def send(self, kind: int, payload: bytes) -> None:
        """Send a message, whole: WHOLE_TEXT, in UTF-8, or WHOLE_BINARY."""
        self._row[WEBSOCKET_SENT] += 1
        size = len(payload)
        self.exchange.response_bytes += size
        if size < self._compressed_from:
            self.writer.put(frame_head(kind, size), payload)
        else:
            (self._protocol.send_text if kind == WHOLE_TEXT else self._protocol.send_binary)(payload)
            self._write_out()

    def _write_out(self) -> None:
        if data := b"".join(self._protocol.data_to_send()):  # the library's sign for the end is an empty one
            self.writer.put(data)

    # Ends

    def close(self, code: int, reason: str) -> None:
        """Begin to close, and wait for the client's answer; what it sends until then is thrown away."""
        if self._phase != "open":
            return
        self._protocol.send_close(code, reason)
        self._end(code, reason)
        self._write_out()
        self._phase = "closing"
        self._await_close()
        self.resume_reading()

    def go_away(self) -> None:
        """Close because the worker drains: who comes back is served by another."""
        self.close(SERVICE_RESTART, "service restart")

    def _fail(self, code: int, reason: str) -> None:
        """End because of what the client did not send (RFC 6455 section 7.1.7)."""
        self._protocol.fail(code, reason)
        self._write_out()
        self._follow()

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
        self._phase, self.deadline, self._held = "over", inf, b""
        self._protocol.parser.close()  # it and the library's protocol hold each other
        service.row[WEBSOCKETS] -= 1
        service.row[WEBSOCKET_CLOSE_CELL[self._code]] += 1
        if service.access:
            service.access.add(exchange.scope, 101, exchange.response_bytes, monotonic() - exchange.begun)
        service.websockets.discard(self)

    # What a service asks of whoever holds a connection

    def overdue(self) -> None:
        """The deadline has passed: end what it was for, or ask whether the client is still there."""
        if self._phase != "open":
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
            self._protocol.send_ping(b"")
            self._write_out()
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
        """Read on, where neither the application nor the client is behind; first what was held."""
        is_full = self._phase == "open" and self._conversation.is_full
        unread = self.service.unread
        if self not in unread or self.writer.is_paused or self._is_others_turn or is_full:
            return
        unread.remove(self)
        held, self._held = self._held, b""
        self._read_slices(held)
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
