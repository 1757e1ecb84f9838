"""ASGI response messages to HTTP/1.1: order, framing, keep-alive, and the writes to the connection.

asgid alone frames a body (RFC 9112 section 6.3): its end is a length, the last chunk, or the end of the connection. The
application is held to a length that it promised. The head is sent with the first part of the body, because only then is
it known whether a length can be given. An AppError for a message that the specification does not allow names the state.
"""

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

from asgid.board import AT_ONCE, DURATION
from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.asgi import Message
from asgid.worker.http import files
from asgid.worker.http.context import WorkerContext
from asgid.worker.http.exchange import Exchange
from asgid.worker.http.fields import Field
from asgid.worker.http.response import (
    COMPLETE,
    HEAD_PENDING,
    SENDING_FILE,
    STREAMING,
    TRAILERS,
    WAITING,
    WebSocketAnswer,
    as_bytes,
    length_mismatch,
    named,
)
from asgid.worker.http1.response_head import (
    HEADS,
    accept_head,
    accepts_trailers,
    checked,
    early_hint,
    error_response,
    trailer_lines,
    without_length,
)
from asgid.worker.net.file_range import FileRange
from asgid.worker.net.writer import Writer

#: A file up to this size is read, and leaves with the head in one write.
_SMALL_FILE = 16384


class Carrier(Protocol):
    """The connection, as a responder sees it."""

    context: WorkerContext
    writer: Writer
    is_reading_stopped: bool

    def has_buffered_request(self) -> bool: ...
    def run_exchange(self, exchange: Exchange) -> None: ...
    def response_complete(self, responder: "Responder", now: float) -> None: ...
    def restart_body_timeout(self) -> None: ...
    def resume_reading(self) -> None: ...
    def upgrade(self, head: bytes) -> tuple[asyncio.Transport, bytes]: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Responder:
    """The response to one request, in its turn on the connection; an `asgid.worker.http.responder.Responder`.

    `start`, `body`, `trailers`, `early_hint`, `declare_length`, `begin_file` and `end_file` are pure: they take
    messages, and return the bytes to write. `keep_alive` is final once the head is sent: whether another request may
    follow on the connection.
    """

    __slots__ = (
        "_after_body",
        "_app_lines",
        "_connection",
        "_context",
        "_head_lines",
        "_is_chunked",
        "_left",
        "_minor",
        "_trailers",
        "_writer",
        "body_bytes",
        "drops_until",
        "exchange",
        "expects_continue",
        "is_bodiless",
        "is_disconnected",
        "is_head",
        "keep_alive",
        "state",
        "status",
    )

    def __init__(
        self, connection: Carrier, is_head: bool, minor: int, keep_alive: bool, expects_continue: bool
    ) -> None:
        self._connection = connection
        self._context = connection.context
        self._writer = connection.writer
        self.exchange: Exchange  # until the response is complete, or the client has gone
        self.is_head = is_head  # a request with HEAD: no body, whatever the application sends
        self._minor = minor  # of the request's version: an HTTP/1.0 client does not know chunks
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.is_disconnected = False
        self.drops_until = 0.0
        self.state = WAITING
        self.status = 0
        self.body_bytes = 0
        self._head_lines: bytes  # while the head is pending
        self._left: int | None = None  # bytes of the body still to come, if a length was promised
        self.is_bodiless = self._is_chunked = False  # bodiless: nothing of the body is written
        self._after_body = COMPLETE
        self._app_lines: tuple[bytes, ...]  # of the common lines those that the application sends itself

    # The application's `send`

    async def send(self, message: Message) -> None:  # noqa: C901 - a call more for each message costs 0.5 %
        """Take one response message; returns when the transport can take another."""
        kind = message.get("type")
        if self.is_disconnected:
            await self._drop(message)
            return
        if kind == "http.response.start":
            if self.drops_until and self._is_second_response():
                await self._drop(message)
            else:
                self.start(message)
            return
        if kind != "http.response.body":
            await self._send_extension(kind, message)
            return
        was_pending = self.state is HEAD_PENDING
        writer, context = self._writer, self._context
        connections, connection = context.connections, self._connection
        if writer.transport.is_closing() and self.state is not COMPLETE:  # connection_lost comes in the next turn
            await self._drop(message)
            return
        before, payload, after = self.body(
            message,
            context.common_lines,
            self.expects_continue
            or ((connection.is_reading_stopped or connections.is_draining) and not connection.has_buffered_request()),
        )
        if writer.cork:
            writer.cork.writelines((before, payload, after))
        elif len(payload) <= connections.join_limit:
            # A sum of two costs less than a join; only chunks have an end.
            writer.transport.write(b"".join((before, payload, after)) if after else before + payload)
        else:
            writer.transport.writelines((before, payload, after) if after else (before, payload))
        self.body_bytes += len(payload)
        if self.state is COMPLETE:
            now = self.exchange.response_complete(AT_ONCE if was_pending else DURATION)
            del self.exchange
            connection.response_complete(self, now)
            return
        if was_pending and self.exchange.response_started():
            return
        writer.hold_back()
        # A client that keeps up never delays its application. An application that waits for nothing else would keep the
        # loop, from the other clients and from the news that its client has gone.
        if writer.is_paused or (writer.cork and writer.cork.exceeds_turn):
            await writer.drain()

    async def _send_extension(self, kind: object, message: Message) -> None:
        """Take a message of an extension; an ordinary response has none."""
        if kind == "http.response.early_hint":
            self._writer.write(self.early_hint(message))
        elif kind == "http.response.trailers":
            is_wanted = self.state is TRAILERS and accepts_trailers(self.exchange.scope["headers"])
            self._writer.write(self.trailers(message, is_wanted))
            if self.state is COMPLETE:
                self._complete(DURATION)
        elif kind == "http.response.pathsend" and self.state is HEAD_PENDING:  # never mixed with other parts of a body
            await files.send_path(self, self.exchange, message)
        elif kind == "http.response.zerocopysend" and self.state in (HEAD_PENDING, STREAMING):
            await files.send_app_file(self, self.exchange, message)
        else:
            raise AppError(f"send() of {kind!r} is not expected; the response is {named(self.state)}")
        if self._writer.is_paused and self.state is not COMPLETE:
            await self._writer.drain()

    async def send_range(self, part: FileRange, *, more: bool) -> None:
        """Send a small range in one write with the head, a large one past this process's memory."""
        if part.length <= _SMALL_FILE and not self.is_bodiless:
            await self.send({"type": "http.response.body", "body": part.read(), "more_body": more})
            return
        self.declare_length(part.length, more)
        if self.state is HEAD_PENDING:
            await self.send({"type": "http.response.body", "more_body": True})
            if self.is_disconnected or self.state is HEAD_PENDING:  # the message was dropped
                return
        before, length, after = self.begin_file(part.length, more)
        if length:
            self._writer.write(before)
            try:
                async for sent in part.send(self._writer):
                    self.body_bytes += sent
            except ConnectionError:
                if not self.is_disconnected:
                    self.exchange.on_disconnect()
                self.abort()
                return
        self.end_file(more)
        if after:
            self._writer.write(after)
        if self.state is COMPLETE:
            self._complete(DURATION)

    async def _drop(self, message: Message) -> None:
        """Take a message for a client that has gone: that is not an error (ASGI HTTP specification 2.3).

        An application that never calls receive() would not learn of it, and could stream forever. So after a while its
        next part raises ClientDisconnectedError. The end of a response never raises: background tasks may follow it.
        """
        if message.get("more_body", False):
            now = monotonic()
            self.drops_until = self.drops_until or now + self._context.drops_s
            if now >= self.drops_until:
                await asyncio.sleep(0)  # the application may catch the error and send again
                raise ClientDisconnectedError("the client has disconnected")
        await asyncio.sleep(0)  # an application that only sends must not hold the loop

    def _is_second_response(self) -> bool:
        """Return whether an application that received http.disconnect ends as frameworks do: with another response."""
        if self.state is COMPLETE:
            return self.is_closing()
        is_second = self.state is not WAITING and self.exchange.is_peer_eof
        if is_second:
            self.exchange.abort()
        return is_second

    def _complete(self, histogram: int) -> None:
        if not self.is_disconnected:
            now = self.exchange.response_complete(histogram)
            del self.exchange
            self._connection.response_complete(self, now)

    # What the exchange calls

    def run_exchange(self) -> None:
        self._connection.run_exchange(self.exchange)

    def send_continue(self) -> None:
        self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._connection.restart_body_timeout()

    def body_consumed(self) -> None:
        self._connection.resume_reading()

    def send_error(self, status: int, text: str, fields: Iterable[Field] = ()) -> None:
        # is_head is the client's: middleware may have changed the method in the scope.
        head, body = error_response(status, text, self._context.common_lines, fields, is_head=self.is_head)
        self.status, self.state, self.keep_alive = status, COMPLETE, False
        self._writer.write(head + body)
        self.body_bytes = len(body)
        self._complete(AT_ONCE)

    def finish(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._connection.abort()

    def is_closing(self) -> bool:
        return self._writer.transport.is_closing()

    def accept_websocket(self, answer: WebSocketAnswer) -> tuple[asyncio.Transport, bytes]:
        head = accept_head(answer, self._context.common_lines)
        self.status, self.state = 101, COMPLETE
        self.exchange.websocket_accepted()
        del self.exchange
        return self._connection.upgrade(head)

    def release(self) -> None:
        if hasattr(self, "exchange"):
            del self.exchange

    # Messages to bytes

    def start(self, message: Message) -> None:
        """Take http.response.start."""
        if self.state is not WAITING:
            raise AppError(f"http.response.start came again; the response is {named(self.state)}")
        status, headers = message.get("status"), tuple(message.get("headers", ()))
        if type(status) is not int and not isinstance(status, int):  # 200.0 would be found: it is the same key as 200
            raise AppError(f"status {status!r} is not a final status from 200 to 999; the response is waiting")
        try:
            self._head_lines, self._left, closes, self._app_lines, self.is_bodiless = HEADS[status, headers]
        except TypeError:  # lists are allowed, and cannot be keys
            self._head_lines, self._left, closes, self._app_lines, self.is_bodiless = checked(status, headers)
        self.status = status
        if closes:
            self.keep_alive = False
        if self.is_head or self.is_bodiless:
            self.is_bodiless, self._left = True, None
        if message.get("trailers"):
            self._expect_trailers()
        self.state = HEAD_PENDING

    def body(  # noqa: C901 - as above
        self, message: Message, common: bytes, must_close: bool
    ) -> tuple[bytes, bytes, bytes]:
        """Take http.response.body; return the bytes before the payload, the payload, and the bytes after it.

        `common` has the Date and Server lines; with `must_close` no request may follow on this connection.
        """
        payload = message.get("body", b"")
        if type(payload) is not bytes:
            payload = as_bytes(payload)
        more = message.get("more_body", False)
        if self._left is not None:  # before the head is sent: until then a 500 is possible
            left = self._left - len(payload)
            if left < 0 or (left and not more):
                raise length_mismatch(left)
        if self.state is HEAD_PENDING:
            before = self._head(len(payload), common, more, must_close)
        else:
            before = self._check_streaming()
        if self._left is not None:  # not earlier: a message that was refused while a file is sent does not count
            self._left -= len(payload)
        after = b""
        if self._is_chunked:
            if payload:
                before += b"%x\r\n" % len(payload)
                after = b"\r\n"
            if not more and self._after_body is COMPLETE:
                after += b"0\r\n\r\n"
        elif self.is_bodiless:
            payload = b""
        if not more:
            self.state = self._after_body
        return before, payload, after

    def trailers(self, message: Message, is_wanted: bool) -> bytes:
        """Take http.response.trailers; return the end of the body after the last of them.

        Trailers are sent only if the client accepts them and the body is chunked; otherwise they are checked and
        dropped.
        """
        if self.state is not TRAILERS:
            raise AppError(
                f"http.response.trailers came while the response is {named(self.state)}; it follows a body "
                "whose start has `trailers`"
            )
        self._trailers += trailer_lines(message.get("headers", ()))
        if message.get("more_trailers", False):
            return b""
        self.state = COMPLETE
        if not self._is_chunked:
            return b""
        return b"".join((b"0\r\n", *(self._trailers if is_wanted else ()), b"\r\n"))

    def early_hint(self, message: Message) -> bytes:
        """Take http.response.early_hint. After the head it has no place, and is dropped."""
        if self.state is COMPLETE:
            raise AppError("http.response.early_hint came while the response is complete")
        links = message.get("links")
        if links is None or isinstance(links, str | bytes):
            raise AppError(f"http.response.early_hint: links {links!r} is not an iterable of bytes")
        hint = early_hint(links)
        # An HTTP/1.0 client does not know informational responses (RFC 9110 section 15.2).
        return hint if self._minor and self.state <= HEAD_PENDING else b""

    def declare_length(self, length: int, more: bool) -> None:
        """Check that `length` bytes of a file may come next, before anything of them is written: the response can still
        be a 500. If the file is the whole body, the head gets its length.
        """
        if self._left is not None:
            left = self._left - length
            if left < 0 or (left and not more):
                raise length_mismatch(left)
        elif self.state is HEAD_PENDING and not more:
            if self._lacks_length:
                self._head_lines += b"content-length: %d\r\n" % length
            elif not (self.is_bodiless or self._is_chunked):
                self._left = length
                self._head_lines += b"content-length: %d\r\n" % length

    def begin_file(self, length: int, more: bool) -> tuple[bytes, int, bytes]:
        """Begin with `length` bytes of a file, after the head.

        Returns the bytes before the file, how many bytes of the file are sent, and the bytes after it. Until `end_file`
        no other message may come.
        """
        if self.state is not STREAMING:
            raise AppError(f"a file came while the response is {named(self.state)}")
        before = after = b""
        if self._left is not None:
            self._left -= length
        if self._is_chunked:
            if length:
                before, after = b"%x\r\n" % length, b"\r\n"
            if not more and self._after_body is COMPLETE:
                after += b"0\r\n\r\n"
        self.state = SENDING_FILE
        return before, 0 if self.is_bodiless else length, after

    def end_file(self, more: bool) -> None:
        """Take the end of the file's bytes."""
        self.state = STREAMING if more else self._after_body

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the body is the end of the connection, as far as is known."""
        return self.state > HEAD_PENDING and self._left is None and not (self._is_chunked or self.is_bodiless)

    @property
    def _lacks_length(self) -> bool:
        """Whether the request is HEAD, and the response to GET would have a length (RFC 9110 section 8.6)."""
        return (
            self.is_head
            and self.status not in (204, 205, 304)
            and self._after_body is COMPLETE
            and b"\r\ncontent-length:" not in self._head_lines.lower()
        )

    def _expect_trailers(self) -> None:
        """Let trailers follow the body. Only chunks allow them: a promised length is checked, but not sent."""
        self._after_body, self._trailers = TRAILERS, list[bytes]()
        if self._minor and not self.is_bodiless:
            self._is_chunked = True
            self._head_lines = without_length(self._head_lines) + b"transfer-encoding: chunked\r\n"

    def _head(self, length: int, common: bytes, more: bool, must_close: bool) -> bytes:
        """Return the head with the framing of the body: (1) no body, (2) a promised length, or chunks for trailers, (3)
        a known length, (4) chunks, (5) the end of the connection.
        """
        framing = b""
        if self._left is not None or self._is_chunked:  # 2
            pass
        elif self.is_bodiless:  # 1
            # If the application sent no body for HEAD, the length of GET is unknown, and must not be given as 0.
            if length and not more and self._lacks_length:
                framing = b"content-length: %d\r\n" % length
        elif not more:  # 3
            framing = b"content-length: %d\r\n" % length
        elif self._minor:  # 4
            self._is_chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:  # 5
            self.keep_alive = False
        if must_close:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        elif not self._minor:
            framing += b"connection: keep-alive\r\n"
        self.state = STREAMING
        return self._head_lines + framing + (self._without_app_lines(common) if self._app_lines else common) + b"\r\n"

    def _check_streaming(self) -> bytes:
        if self.state is not STREAMING:
            raise AppError(f"http.response.body came while the response is {named(self.state)}")
        return b""

    def _without_app_lines(self, common: bytes) -> bytes:
        return b"".join(line for line in common.splitlines(keepends=True) if not line.startswith(self._app_lines))
