"""`receive()` and `send()` of the application on a WebSocket (ASGI specification, "WebSocket").

Until the handshake is accepted the exchange has the connection, and a denial is an ordinary response; then the
WebSocket's protocol has it. The exchange is the border for the application's errors all the while. A session does not
depend on frames.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from time import monotonic

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.asgi import Application, Message
from asgid.worker.http.context import HIGH_WATER
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.fields import Field
from asgid.worker.http.response import COMPLETE
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
from asgid.worker.websocket.protocol import WebSocketProtocol

#: The memory of a message beside its content.
_MESSAGE_BYTES = 300


class State(Enum):
    """The application's progress."""

    CONNECTING = auto()  # it has sent nothing
    DENYING = auto()  # it has sent a part of a response
    OPEN = auto()  # websocket.accept
    CLOSED = auto()  # websocket.close, or a whole response


CONNECTING, DENYING, OPEN, CLOSED = State


def start_session(exchange: Exchange, headers: Iterable[Field]) -> None:
    """Make the exchange one of a WebSocket. Raises ClientError if its request is not a handshake of RFC 6455."""
    request = handshake.parse_handshake(headers)
    handshake.websocket_scope(exchange.scope, request)
    exchange.session = WebSocketSession(exchange, request)


class WebSocketSession:
    """From a handshake to the end of the application's call."""

    __slots__ = (
        "_close",
        "_context",
        "_exchange",
        "_is_connect_given",
        "_max_queued",
        "_messages",
        "_queued_bytes",
        "_request",
        "_socket",
        "_state",
        "is_accepted",
    )

    def __init__(self, exchange: Exchange, request: HandshakeRequest) -> None:
        self._exchange, self._context, self._request = exchange, exchange.context, request
        self._max_queued = self._context.config.websocket.queue
        self._state = CONNECTING
        self._is_connect_given = False
        self._messages: deque[Message] = deque()
        self._queued_bytes = 0
        self._close: tuple[int, str] | None = None  # code and reason, once the WebSocket is closed
        self._socket: WebSocketProtocol | None = None  # from the handshake to the end of the call
        self.is_accepted = False

    @property
    def is_over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._close is not None

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the application that the client should wait."""
        return len(self._messages) >= self._max_queued or self._queued_bytes >= HIGH_WATER

    # The exchange's side

    async def run(self, app: Application) -> None:
        """Call the application. When it returns, the WebSocket closes as after websocket.close; when it raises, with
        1011.
        """
        if self._context.connections.is_draining:  # the client's next connection finds a worker that stays
            await self._deny(503)
            return
        try:
            await app(self._exchange.scope, self.receive, self.send)
        except BaseException:
            self._finish(INTERNAL_ERROR)
            raise
        self._finish(NORMAL)

    def _finish(self, code: int) -> None:
        """The call is over: close the WebSocket. A later `send()` raises."""
        socket, self._socket = self._socket, None  # they refer to each other, and to 50 KB of zlib
        if socket:
            socket.close(code, "")
            self._messages.clear()

    # The protocol's side

    def feed(self, message: Message, size: int) -> bool:
        """Take a message; return whether the client should wait."""
        self._messages.append(message)
        self._queued_bytes += size + _MESSAGE_BYTES
        # A waiting application takes it before more comes, unless it is cancelled in between.
        return not self._exchange.notify() and self.is_full

    def on_close(self, code: int, reason: str) -> None:
        """The WebSocket is closed, or lost. Only the first code counts."""
        if self._close is None:
            self._close = code, reason
            self._exchange.notify()

    def on_over(self, sent_bytes: int) -> None:
        """Nothing more is sent or received: write the access line."""
        access, exchange = self._context.access, self._exchange
        if access:
            access.add(exchange.scope, 101, sent_bytes, monotonic() - exchange.begun)

    # The application's side

    async def receive(self) -> Message:
        """Return websocket.connect, then the client's messages, then websocket.disconnect forever."""
        exchange = self._exchange
        has_waited = has_yielded = False
        while True:
            if self._messages:
                if len(self._messages) > 1 and not has_yielded and self._is_turn_spent:
                    has_yielded = True
                    await asyncio.sleep(0)  # before the message is taken: a call that is cancelled here loses nothing
                    continue
                message = self._messages.popleft()
                if not self._messages:
                    self._queued_bytes = 0
                    if self._context.connections.paused and self._socket:
                        self._socket.resume_reading()
                return message
            if not self._is_connect_given:
                self._is_connect_given = True
                return {"type": "websocket.connect"}
            is_lost = exchange.responder.is_disconnected or exchange.is_peer_eof
            if self._close is not None or is_lost or self._state is CLOSED:
                await exchange.before_disconnect(has_waited=has_waited)
                code, reason = self._close or (ABNORMAL, "")
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            await exchange.wait_for_event()
            has_waited = True

    @property
    def _is_turn_spent(self) -> bool:
        """Whether other clients have their turn of the loop. Without this an application that awaits nothing else would
        take all messages in one turn.
        """
        return self._socket is not None and self._socket.is_turn_spent

    async def send(self, message: Message) -> None:
        """Take one message; returns when the transport can take another."""
        kind = message.get("type")
        if self._state is not OPEN:
            await self._send_unopened(kind, message)
            return
        socket = self._socket
        if self._close is not None or socket is None:
            raise self._closed_error()
        if kind == "websocket.send":
            text = message.get("text")
            if text is None:
                socket.send(WHOLE_BINARY, _bytes(message.get("bytes")))
            else:
                try:
                    content = str.encode(text)
                except (TypeError, UnicodeEncodeError):
                    content = _encoded(text)  # raises
                socket.send(WHOLE_TEXT, content)
            # An application that sends without end must not keep the loop from other clients.
            writer = socket.writer
            if writer.is_paused or (writer.cork and writer.cork.exceeds_turn):
                await writer.drain()
                if self._close is not None:
                    raise self._closed_error()
        elif kind == "websocket.close":
            socket.close(*_code_and_reason(message))
            self._state = CLOSED
            self._messages.clear()
        else:
            raise self._unexpected(kind)

    # Before it is open, and after

    async def _send_unopened(self, kind: object, message: Message) -> None:
        match self._state, kind:
            case State.CONNECTING, "websocket.accept":
                self._accept(message)
            case State.CONNECTING, "websocket.close":
                await self._deny(403)
            case (
                (State.CONNECTING | State.DENYING),
                ("websocket.http.response.start" | "websocket.http.response.body"),
            ):
                responder = self._exchange.responder
                await responder.send({**message, "type": str(kind).removeprefix("websocket.")})
                self._state = CLOSED if responder.state is COMPLETE else DENYING
            case _:
                raise self._unexpected(kind)

    def _accept(self, message: Message) -> None:
        exchange, context = self._exchange, self._context
        if exchange.is_peer_eof:  # a client that sends nothing more cannot use a WebSocket
            exchange.abort()
        if exchange.responder.is_disconnected or exchange.responder.is_closing():
            raise ClientDisconnectedError("the client has disconnected")
        parameters = deflate.negotiate(self._request.extensions) if context.config.websocket.compression else None
        answer = handshake.answer_handshake(
            self._request,
            message.get("subprotocol"),
            message.get("headers") or (),
            parameters.answer if parameters else b"",
        )
        transport, received = exchange.responder.accept_websocket(answer)
        self._state, self.is_accepted = OPEN, True
        self._socket = WebSocketProtocol(context.connections, context.config.websocket, self, parameters)
        self._socket.attach(transport, received)

    async def _deny(self, status: int) -> None:
        self._state = CLOSED
        send = self._exchange.responder.send
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body"})

    def _closed_error(self) -> ClientDisconnectedError:
        code, _ = self._close or (ABNORMAL, "")
        return ClientDisconnectedError(f"the WebSocket is closed, with code {code}")

    def _unexpected(self, kind: object) -> AppError:
        return AppError(f"send() of {kind!r} is not expected; the WebSocket is {self._state.name.lower()}")


def _encoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise AppError(f"websocket.send: the text is a str, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise AppError(f"websocket.send: the text cannot be encoded in UTF-8: {error.reason}") from error


def _bytes(data: object) -> bytes:
    if isinstance(data, bytearray | memoryview | bytes):
        return bytes(data)  # a copy: bytes that the transport has queued must not change
    raise AppError(f"websocket.send: there is no text, and the bytes are {type(data).__name__}")


def _code_and_reason(message: Message) -> tuple[int, str]:
    code, reason = message.get("code"), message.get("reason")
    code, reason = NORMAL if code is None else code, "" if reason is None else reason
    if not isinstance(code, int) or code not in CLOSE_CODES:  # 1000.0 would be found: it is equal to 1000
        raise AppError(f"websocket.close: {code!r} is not a code that may be sent (RFC 6455 section 7.4)")
    if not isinstance(reason, str) or len(_encoded(reason)) > MAX_REASON:
        raise AppError(f"websocket.close: the reason is text of at most {MAX_REASON} bytes in UTF-8")
    return code, reason
