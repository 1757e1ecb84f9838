"""ASGI 1 consumers -> ASGI 3: `consumer(message)` answers through `message["reply_channel"]` (the drafts of 2016-17).

A plain consumer returns at once and may answer at any time later, from any thread; a coroutine consumer runs in the
request's own task. What is sent leaves in its order. A message that may not be sent raises AppError where it is sent,
with the state of the response. A request for which nobody is left who could answer does not stay open: the channel
itself tells when it is forgotten.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from inspect import isawaitable
from threading import Lock, get_ident
from typing import Any, Self, TypeAlias

from asgid.errors import AppError, ClientDisconnectedError
from asgid.worker.http.context import Application, Event, Receive, Send
from asgid.worker.http1.response import COMPLETE, Response

#: A consumer of ASGI 1: a function of one message, or a coroutine function.
Consumer: TypeAlias = Callable[[dict[str, Any]], object]

#: Request bodies up to this come in the message, larger ones through a body channel: the drafts promised that a channel
#: takes messages of 1 MB.
MAX_WHOLE_BODY_BYTES = 1 << 20
#: What a consumer may have sent beyond what its client has taken. It cannot be made to wait, so at some point it has to
#: be told; the drafts raised ChannelFull.
MAX_UNSENT_BYTES = 16 << 20


def adapt(consumer: Consumer) -> Application:
    """Return the ASGI 3 application that has `consumer` answer each request."""

    async def application(scope: Event, receive: Receive, send: Send) -> None:
        message = await _request(scope, receive)
        if message is None:  # the client left before it had said everything
            return
        answer = _ReplyStream(send, is_head=scope["method"] == "HEAD")
        message["reply_channel"] = ReplyChannel(answer)
        delivery: asyncio.Task[None] | None = None
        try:
            work = consumer(message)
            del message  # from here on the consumer alone knows its channel
            if isawaitable(work):
                delivery = asyncio.create_task(answer.deliver())
                answer.raises_when_over = True
                await work
                answer.raises_when_over = False  # who still sends is a callback or a task: nobody would catch it
                del work  # perhaps the channel itself: send() returns it
        except Exception:
            if answer.is_whole:  # sent before it failed: its client gets it all the same
                await (delivery or answer.deliver())
            raise
        else:
            await (delivery or answer.deliver())
            if answer.failure:
                raise answer.failure
        finally:
            answer.end()
            if delivery:
                delivery.cancel()

    return application


class ChannelLayer:
    """What a consumer finds under `channel_layer`: the event loop that serves it."""

    __slots__ = ("loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


class ReplyChannel:
    """What a consumer answers through."""

    __slots__ = ("_answer",)

    def __init__(self, answer: "_ReplyStream") -> None:
        self._answer = answer

    def send(self, message: Mapping[str, Any]) -> Self:
        """Send a response (`status`, `headers`, `content`, `more_content`) or the next part of one (`content`,
        `more_content`); from any thread, and without waiting.

        It may be awaited: then it waits until the client has taken what was sent, and raises an OSError when it has
        gone. Raises AppError for what may not be sent now.
        """
        self._answer.take(message)
        return self

    def __await__(self) -> Generator[Any, None, None]:
        return self._answer.until_taken().__await__()

    def __del__(self) -> None:
        self._answer.let_go()


class BodyChannel:
    """What a consumer reads the rest of a large request body from."""

    __slots__ = ("_receive",)

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def receive(self) -> dict[str, Any]:
        """Return the next part: `content`, `more_content`, and `closed` where the client left before the end."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            return {"content": b"", "closed": True, "more_content": False}
        return {"content": event["body"], "closed": False, "more_content": event["more_body"]}


class _ReplyStream:
    """One answer on its way from a consumer, in whatever thread, to the client."""

    def __init__(self, send: Send, *, is_head: bool) -> None:
        self._send, self._is_head = send, is_head
        self._loop, self._thread = asyncio.get_running_loop(), get_ident()
        self._lock = Lock()  # around what threads that send change
        self._judge: Response | None = None  # what the exchange will say of the messages, known when they are sent
        self._unsent: deque[tuple[Event, Event]] = deque()
        self._unsent_bytes = 0
        self._news, self._taken = asyncio.Event(), asyncio.Event()
        self._is_let_go = self._is_over = self._is_gone = False
        self.raises_when_over = False  #: a coroutine is told like an ASGI 3 application; else it might never end
        self.failure: AppError | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the consumer has sent all of it."""
        return self._judge is not None and self._judge.state is COMPLETE

    # The consumer's side

    def take(self, message: Mapping[str, Any]) -> None:
        """Judge a message and put it behind the others; once nobody waits for it, it is dropped."""
        with self._lock:
            if self._is_over and not self.is_whole:
                if self.raises_when_over:
                    raise ClientDisconnectedError("the client has disconnected")
                return
            if self._unsent_bytes >= MAX_UNSENT_BYTES:
                self.failure = AppError(
                    f"the client has yet to take {self._unsent_bytes} bytes of a response that is {self._state}; "
                    "await reply_channel.send(...) to keep its pace"
                )
                raise self.failure
            start, body = self._judged(message)
            self._unsent.append((start, body))
            self._unsent_bytes += len(body["body"])
        self._wake()

    async def until_taken(self) -> None:
        while self._unsent and not self._is_over:
            self._taken.clear()
            await self._taken.wait()
        if self._is_gone:
            raise ClientDisconnectedError("the client has disconnected")

    def let_go(self) -> None:
        """Nobody has the channel any more. The garbage collector says so, in the midst of anything."""
        self._is_let_go = True
        self._wake()

    @property
    def _state(self) -> str:
        return self._judge.state.name.lower() if self._judge else "waiting"

    def _judged(self, message: Mapping[str, Any]) -> tuple[Event, Event]:
        """Return a message as ASGI 3 has it: a start, empty where it has been, and a part of the body. AppError leaves
        the response as it was.
        """
        if not isinstance(message, Mapping):
            raise AppError(f"a reply is a dict, not {type(message).__name__}; the response is {self._state}")
        content = message.get("content", b"")
        if not isinstance(content, bytes | bytearray | memoryview):
            raise AppError(f"content is bytes, not {type(content).__name__}; the response is {self._state}")
        body = {
            "type": "http.response.body",
            "body": bytes(content),  # of bytes no copy is made; anything else may change before it leaves
            "more_body": bool(message.get("more_content", False)),
        }
        start: Event = {}
        if self._judge is None:
            if "status" not in message:
                raise AppError("the first reply has a status; the response is waiting")
            start = {
                "type": "http.response.start",
                "status": message["status"],
                "headers": [tuple(each) if isinstance(each, list) else each for each in message.get("headers", ())],
            }
            judge = Response(self._is_head, 1, True)
            judge.start(start)
        elif "status" in message:
            raise AppError(f"a reply with a status came again; the response is {self._state}")
        elif self.is_whole:
            raise AppError("a reply came after the last; the response is complete")
        else:
            judge = self._judge
        judge.body(body, b"", False)
        self._judge = judge
        return start, body

    def _wake(self) -> None:
        if get_ident() == self._thread:
            self._news.set()
        else:
            with suppress(RuntimeError):  # the loop is closed: the worker has left
                self._loop.call_soon_threadsafe(self._news.set)

    # The exchange's side

    async def deliver(self) -> None:
        """Hand on what is sent; return when all of it has left, the client has gone, or nobody can send the rest."""
        with suppress(ClientDisconnectedError):
            while not self._is_over:
                self._news.clear()
                is_let_go = self._is_let_go  # looked at first: a thread may send, and let go, between two lines of this
                while self._unsent and not self.failure:
                    await self._hand_on(*self._unsent[0])
                self._taken.set()
                if is_let_go or self.failure:
                    break
                if not self._is_over:
                    await self._news.wait()
        self.end()

    async def _hand_on(self, start: Event, body: Event) -> None:
        if start:
            await self._send(start)
        await self._send(body)
        with self._lock:
            self._unsent.popleft()
            self._unsent_bytes -= len(body["body"])
        self._is_over = not body["more_body"]

    def end(self) -> None:
        """Nothing is handed on any more."""
        if not self._is_over:
            self._is_over = self._is_gone = True
        self._taken.set()


async def _request(scope: Event, receive: Receive) -> dict[str, Any] | None:
    """Return the request as a message of ASGI 1, without its reply channel; None where the client left meanwhile."""
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
    """Return lists, as the drafts have them. Several cookie headers, which a proxy makes of HTTP/2, become one (RFC
    9113 section 8.2.3): consumers joined what comes twice with a comma, which ends no cookie.
    """
    cookies = [value for name, value in headers if name == b"cookie"]
    if len(cookies) < 2:
        return [[name, value] for name, value in headers]
    others = [[name, value] for name, value in headers if name != b"cookie"]
    return [*others, [b"cookie", b"; ".join(cookies)]]
