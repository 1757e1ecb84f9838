"""Adapts ASGI 1 consumers to ASGI 3: `consumer(message)` responds through its `reply_channel` (drafts of 2016-17).

A plain consumer returns at once and may respond later, from any thread; a coroutine consumer runs in the task of the
request. Messages leave in order. An invalid message raises AppError in `send`, with the state of the response. If the
consumer drops all references to the channel, no response can follow, and the request ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from inspect import isawaitable
from threading import Lock, get_ident
from typing import Any, Self, TypeAlias

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.asgi import Application, Message, Receive, Send
from asgid.worker.http.response import COMPLETE, HEAD_PENDING, STREAMING, length_mismatch, named
from asgid.worker.http1.response_head import checked

#: A consumer of ASGI 1: a function of one message, or a coroutine function.
Consumer: TypeAlias = Callable[[dict[str, Any]], object]

#: A request body up to this size is in the message, a larger one comes through a body channel. In the drafts a channel
#: accepts messages of 1 MB.
MAX_WHOLE_BODY_BYTES = 1 << 20
#: The max size of messages that wait for the client. A plain consumer cannot wait, so at this size `send` raises; the
#: drafts had ChannelFull.
MAX_UNSENT_BYTES = 16 << 20


def adapt(consumer: Consumer) -> Application:
    """Return an ASGI 3 application that calls `consumer` for each request."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        message = await _request(scope, receive)
        if message is None:  # the client disconnected before the end of its request
            return
        stream = _ReplyStream(send, is_head=scope["method"] == "HEAD")
        message["reply_channel"] = ReplyChannel(stream)
        delivery: asyncio.Task[None] | None = None
        try:
            work = consumer(message)
            del message  # now only the consumer has a reference to the channel
            if isawaitable(work):
                delivery = asyncio.create_task(stream.deliver())
                stream.raises_when_over = True
                await work
                stream.raises_when_over = False  # later calls come from callbacks and tasks, which catch nothing
                del work  # perhaps the channel itself: send() returns it
        except Exception:
            if stream.is_complete:  # the client gets a response that was complete before the failure
                await (delivery or stream.deliver())
            raise
        else:
            await (delivery or stream.deliver())
            if stream.failure:
                raise stream.failure
        finally:
            stream.end()
            if delivery:
                delivery.cancel()

    return application


class ChannelLayer:
    """The value of `channel_layer` in a message: has the event loop of the worker."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


class ReplyChannel:
    """The channel for the response to one request."""

    __slots__ = ("_stream",)

    def __init__(self, stream: "_ReplyStream") -> None:
        self._stream = stream

    def send(self, message: Mapping[str, Any]) -> Self:
        """Send a response (`status`, `headers`, `content`, `more_content`) or the next part of one (`content`,
        `more_content`), from any thread, without waiting. Raises AppError for an invalid message.

        `await send(...)` waits until the client has taken all messages, and raises OSError if it disconnects.
        """
        self._stream.add(message)
        return self

    def __await__(self) -> Generator[Any, None, None]:
        return self._stream.drain().__await__()

    def __del__(self) -> None:
        self._stream.on_channel_released()


class BodyChannel:
    """The channel for the rest of a large request body."""

    __slots__ = ("_receive",)

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def receive(self) -> dict[str, Any]:
        """Return the next part: `content`, `more_content`, and `closed` if the client disconnected before the end."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            return {"content": b"", "closed": True, "more_content": False}
        return {"content": event["body"], "closed": False, "more_content": event["more_body"]}


class _Validator:
    """Raises for a message when it is sent, as the exchange would when the message is passed on."""

    __slots__ = ("_left", "state")

    def __init__(self, start: Message, *, is_head: bool) -> None:
        head = checked(start["status"], start["headers"])
        self._left = None if is_head or head.is_bodiless else head.length
        self.state = HEAD_PENDING

    def take(self, body: Message) -> None:
        """Take a part of the body. Raises AppError if it does not fit the promised length."""
        more = body["more_body"]
        if self._left is not None:
            left = self._left - len(body["body"])
            if left < 0 or (left and not more):
                raise length_mismatch(left)
            self._left = left
        self.state = STREAMING if more else COMPLETE


class _ReplyStream:
    """The messages of one response on their way from a consumer, in any thread, to the client."""

    def __init__(self, send: Send, *, is_head: bool) -> None:
        self._send, self._is_head = send, is_head
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()
        self._lock = Lock()  # for the attributes that sending threads change
        self._validator: _Validator | None = None  # checks messages as the exchange will, but in `send`
        self._unsent: deque[tuple[Message, Message]] = deque()
        self._unsent_bytes = 0
        self._has_work, self._drained = asyncio.Event(), asyncio.Event()
        self._is_released = self._is_over = self._is_disconnected = False
        self.raises_when_over = False  #: for a coroutine, as in ASGI 3: it might never return otherwise
        self.failure: AppError | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the consumer has sent the last message."""
        return self._validator is not None and self._validator.state is COMPLETE

    # The consumer's side

    def add(self, message: Mapping[str, Any]) -> None:
        """Check a message and append it to the queue; drop it if the client has disconnected."""
        with self._lock:
            if self._is_over and not self.is_complete:
                if self.raises_when_over:
                    raise ClientDisconnectedError("the client has disconnected")
                return
            if self._unsent_bytes >= MAX_UNSENT_BYTES:
                self.failure = AppError(
                    f"{self._unsent_bytes} bytes wait for the client, and the response is {self._state}; "
                    "await reply_channel.send(...) to send at the client's pace"
                )
                raise self.failure
            start, body = self._to_asgi3(message)
            self._unsent.append((start, body))
            self._unsent_bytes += len(body["body"])
        self._wake()

    async def drain(self) -> None:
        while self._unsent and not self._is_over:
            self._drained.clear()
            await self._drained.wait()
        if self._is_disconnected:
            raise ClientDisconnectedError("the client has disconnected")

    def on_channel_released(self) -> None:
        """End the response: no reference to the channel is left. The garbage collector may call this at any point."""
        self._is_released = True
        self._wake()

    @property
    def _state(self) -> str:
        return named(self._validator.state) if self._validator else "waiting"

    def _to_asgi3(self, message: Mapping[str, Any]) -> tuple[Message, Message]:
        """Return the ASGI 3 messages: a start, {} after the first message, and a part of the body.

        Raises AppError; the response is then unchanged.
        """
        if not isinstance(message, Mapping):
            raise AppError(f"a reply must be a dict, not {type(message).__name__}; the response is {self._state}")
        content = message.get("content", b"")
        if not isinstance(content, bytes | bytearray | memoryview):
            raise AppError(f"content must be bytes, not {type(content).__name__}; the response is {self._state}")
        body = {
            "type": "http.response.body",
            "body": bytes(content),  # bytes are not copied; other types may change before they are sent
            "more_body": bool(message.get("more_content", False)),
        }
        start: Message = {}
        validator = self._validator
        if validator is None:
            if "status" not in message:
                raise AppError("the first reply must have a status; the response is waiting")
            start = {
                "type": "http.response.start",
                "status": message["status"],
                "headers": [tuple(each) if isinstance(each, list) else each for each in message.get("headers", ())],
            }
            validator = _Validator(start, is_head=self._is_head)
        elif "status" in message:
            raise AppError(f"only the first reply may have a status; the response is {self._state}")
        elif self.is_complete:
            raise AppError("the last reply was sent before; the response is complete")
        validator.take(body)
        self._validator = validator
        return start, body

    def _wake(self) -> None:
        if get_ident() == self._thread:
            self._has_work.set()
        else:
            with suppress(RuntimeError):  # the loop is closed: the worker ends
                self._loop.call_soon_threadsafe(self._has_work.set)

    # The exchange's side

    async def deliver(self) -> None:
        """Forward messages to the exchange, until the response is complete, the client disconnects, or the consumer has
        dropped the channel.
        """
        with suppress(ClientDisconnectedError):
            while not self._is_over:
                self._has_work.clear()
                is_released = self._is_released  # read first: a thread may send, and drop the channel, at any point
                while self._unsent and not self.failure:
                    await self._forward(*self._unsent[0])
                self._drained.set()
                if is_released or self.failure:
                    break
                if not self._is_over:
                    await self._has_work.wait()
        self.end()

    async def _forward(self, start: Message, body: Message) -> None:
        if start:
            await self._send(start)
        await self._send(body)
        with self._lock:
            self._unsent.popleft()
            self._unsent_bytes -= len(body["body"])
        self._is_over = not body["more_body"]

    def end(self) -> None:
        """Forward no more messages."""
        if not self._is_over:
            self._is_over = self._is_disconnected = True
        self._drained.set()


async def _request(scope: Message, receive: Receive) -> dict[str, Any] | None:
    """Return the request as an ASGI 1 message without a reply channel; None if the client disconnects meanwhile."""
    parts, size, more = list[bytes](), 0, True
    while more and size <= MAX_WHOLE_BODY_BYTES:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        parts.append(event["body"])
        size, more = size + len(event["body"]), event["more_body"]
    message = {
        "channel_layer": ChannelLayer(asyncio.get_running_loop()),
        "http_version": scope["http_version"],
        "method": scope["method"],
        "scheme": scope["scheme"],
        "path": scope["path"],
        "query_string": scope["query_string"],
        "root_path": scope["root_path"],
        "headers": _headers(scope["headers"]),
        "body": b"".join(parts),
        "client": list(scope["client"]) if scope["client"] else None,
        "server": list(scope["server"]) if scope["server"] else None,
    }
    if more:
        message["body_channel"] = BodyChannel(receive)
    return message


def _headers(headers: list[tuple[bytes, bytes]]) -> list[list[bytes]]:
    """Return the headers as lists, as in the drafts, with one cookie header.

    A proxy may split cookies, as in HTTP/2 (RFC 9113 section 8.2.3). Consumers join repeated headers with a comma,
    which does not separate cookies.
    """
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(cookies) < 2:
        return [[name, value] for name, value in headers]
    others = [[name, value] for name, value in headers if name != b"cookie"]
    return [*others, [b"cookie", b"; ".join(cookies)]]
