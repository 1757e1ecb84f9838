"""What the application's `receive()` and `send()` do on a WebSocket (ASGI specification, "WebSocket").

Until the handshake is accepted the exchange has the connection, and a denial is a response like another; then the
WebSocket has it. The exchange is the border for the application's errors all the while. A conversation does not know
what a frame is.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from time import monotonic
from typing import TYPE_CHECKING

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.http.context import HIGH_WATER, Application
from asgid.worker.http.fields import Field
from asgid.worker.http1.response import COMPLETE, Message
from asgid.worker.websocket import deflate, handshake
from asgid.worker.websocket.frames import (
    ABNORMAL,
    CLOSE_CODES,
    INTERNAL_ERROR,
    MAX_REASON,
    NORMAL,
    WHOLE_BINARY,
    WHOLE_TEXT,
)
from asgid.worker.websocket.handshake import HandshakeRequest
from asgid.worker.websocket.protocol import WebSocket

if TYPE_CHECKING:
    from asgid.worker.http.exchange import Exchange

#: What a message takes beside its content.
_MESSAGE_BYTES = 300


class State(Enum):
    """What the application has said."""

    CONNECTING = auto()  # nothing yet
    DENYING = auto()  # a response, not to its end
    OPEN = auto()  # websocket.accept
    CLOSED = auto()  # websocket.close, or a whole response


CONNECTING, DENYING, OPEN, CLOSED = State


def converse(exchange: "Exchange", headers: Iterable[Field]) -> None:
    """Make the exchange one of a WebSocket; raises ClientError where its request is no handshake of RFC 6455."""
    offer = handshake.parse_handshake(headers)
    handshake.websocket_scope(exchange.scope, offer)
    exchange.response.keep_alive = False  # where it is denied, the connection ends with that
    exchange.conversation = Conversation(exchange, offer)


class Conversation:
    """From a handshake to the end of the application's call."""

    __slots__ = (
        "_ended",
        "_exchange",
        "_is_connect_given",
        "_messages",
        "_most",
        "_offer",
        "_queued_bytes",
        "_socket",
        "_state",
        "is_accepted",
    )

    def __init__(self, exchange: "Exchange", offer: HandshakeRequest) -> None:
        self._exchange, self._offer = exchange, offer
        self._most = exchange.connection.service.config.websocket.queue
        self._state = CONNECTING
        self._is_connect_given = False
        self._messages: deque[Message] = deque()
        self._queued_bytes = 0
        self._ended: tuple[int, str] | None = None  # the WebSocket: code and reason
        self._socket: WebSocket | None = None  # from the handshake to the end of the call
        self.is_accepted = False

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._ended is not None

    @property
    def is_full(self) -> bool:
        """Whether the application is so far behind that the client should wait."""
        return len(self._messages) >= self._most or self._queued_bytes >= HIGH_WATER

    # The exchange's side

    async def run(self, app: Application) -> None:
        """Call the application. One that returns has nothing more to say: the WebSocket is closed as it is after
        websocket.close; one that fails closes it with 1011.
        """
        exchange = self._exchange
        if exchange.connection.service.is_draining:  # who comes back finds a worker that stays
            await self._deny(503)
            return
        try:
            await app(exchange.scope, self.receive, self.send)
        except BaseException:
            self._finish(INTERNAL_ERROR)
            raise
        self._finish(NORMAL)

    def _finish(self, code: int) -> None:
        """The call is over; whoever still holds `send` is told that the WebSocket is."""
        socket, self._socket = self._socket, None  # each would keep the other, and 50 KB of zlib
        if socket:
            socket.close(code, "")
            self._messages.clear()

    # The WebSocket's side

    def feed(self, message: Message, size: int) -> bool:
        """Take a message; return whether the client should wait."""
        self._messages.append(message)
        self._queued_bytes += size + _MESSAGE_BYTES
        # It is taken before anything more comes, unless the application is cancelled in between.
        return not self._exchange.wake() and self.is_full

    def ended(self, code: int, reason: str) -> None:
        """Take note that the WebSocket is closed, or lost; the first to say why is right."""
        if self._ended is None:
            self._ended = code, reason
            self._exchange.wake()

    # The application's side

    async def receive(self) -> Message:
        """Return websocket.connect, then what comes, then websocket.disconnect for ever."""
        exchange = self._exchange
        has_waited = has_yielded = False
        while True:
            if self._messages:
                if not has_yielded and self._is_turn_spent:
                    has_yielded = True
                    await asyncio.sleep(0)  # before the message is taken: a call that is cancelled here loses nothing
                    continue
                message = self._messages.popleft()
                if not self._messages:
                    self._queued_bytes = 0
                    if self._socket:
                        self._socket.resume_reading()
                return message
            if not self._is_connect_given:
                self._is_connect_given = True
                return {"type": "websocket.connect"}
            if self._ended is not None or exchange.is_disconnected or exchange.is_hung_up or self._state is CLOSED:
                await exchange.before_end(has_waited=has_waited)
                code, reason = self._ended or (ABNORMAL, "")
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            await exchange.news()
            has_waited = True

    @property
    def _is_turn_spent(self) -> bool:
        """Whether it is the others' turn, though more than one message is here: an application that does not wait for
        anything else would take all of them in one turn of the loop.
        """
        return len(self._messages) > 1 and self._socket is not None and self._socket.is_turn_spent

    async def send(self, message: Message) -> None:
        """Take one message; returns when the transport can take another."""
        kind = message.get("type")
        if self._state is not OPEN:
            await self._answer(kind, message)
            return
        socket = self._socket
        if self._ended is not None or socket is None:
            raise self._closed()
        if kind == "websocket.send":
            text = message.get("text")
            if text is None:
                socket.send(WHOLE_BINARY, _bytes(message.get("bytes")))
            else:
                socket.send(WHOLE_TEXT, _encoded(text))
            # As in an exchange: one that sends without end must not keep the loop from the others.
            writer = socket.writer
            if writer.is_paused or (writer.cork and writer.cork.is_passed):
                await writer.taken()
                if self._ended is not None:
                    raise self._closed()
        elif kind == "websocket.close":
            socket.close(*_code_and_reason(message))
            self._state = CLOSED
            self._messages.clear()
        else:
            raise self._unexpected(kind)

    # Before it is open, and after

    async def _answer(self, kind: object, message: Message) -> None:
        """Take a message while the WebSocket is not open."""
        match self._state, kind:
            case State.CONNECTING, "websocket.accept":
                self._accept(message)
            case State.CONNECTING, "websocket.close":
                await self._deny(403)
            case (
                (State.CONNECTING | State.DENYING),
                ("websocket.http.response.start" | "websocket.http.response.body"),
            ):
                await self._exchange.send({**message, "type": str(kind).removeprefix("websocket.")})
                self._state = CLOSED if self._exchange.response.state is COMPLETE else DENYING
            case _:
                raise self._unexpected(kind)

    def _accept(self, message: Message) -> None:
        exchange = self._exchange
        connection, service = exchange.connection, exchange.connection.service
        if exchange.is_hung_up:  # who sends nothing any more cannot speak the protocol
            exchange.disconnect()
            connection.abort()
        if exchange.is_disconnected or connection.transport.is_closing():
            raise ClientDisconnectedError("the client has disconnected")
        agreed = deflate.negotiate(self._offer.extensions) if service.config.websocket.compression else None
        head = handshake.accept(
            self._offer,
            message.get("subprotocol"),
            message.get("headers") or (),
            agreed.answer if agreed else b"",
            service.common_lines,
        )
        self._state, self.is_accepted = OPEN, True
        self._socket = WebSocket(service, exchange, self, agreed)
        exchange.upgraded(monotonic())
        connection.upgrade(self._socket, head)

    async def _deny(self, status: int) -> None:
        self._state = CLOSED
        await self._exchange.send({"type": "http.response.start", "status": status})
        await self._exchange.send({"type": "http.response.body"})

    def _closed(self) -> ClientDisconnectedError:
        code, _ = self._ended or (ABNORMAL, "")
        return ClientDisconnectedError(f"the WebSocket is closed, with code {code}")

    def _unexpected(self, kind: object) -> AppError:
        return AppError(f"send() of {kind!r} is not expected; the WebSocket is {self._state.name.lower()}")


def _encoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise AppError(f"websocket.send: the text is a str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise AppError(f"websocket.send: the text is no Unicode: {error.reason}") from error


def _bytes(data: object) -> bytes:
    if isinstance(data, bytearray | memoryview | bytes):
        return bytes(data)  # a copy: what is queued in the transport must not change under it
    raise AppError(f"websocket.send: there is no text, and the bytes are {type(data).__name__}")


def _code_and_reason(message: Message) -> tuple[int, str]:
    code, reason = message.get("code"), message.get("reason")
    code, reason = NORMAL if code is None else code, "" if reason is None else reason
    if not isinstance(code, int) or code not in CLOSE_CODES:  # 1000.0 would be found: it is the same as 1000
        raise AppError(f"websocket.close: {code!r} is not a code that may be sent (RFC 6455 section 7.4)")
    if not isinstance(reason, str) or len(_encoded(reason)) > MAX_REASON:
        raise AppError(f"websocket.close: the reason is text of at most {MAX_REASON} bytes in UTF-8")
    return code, reason
